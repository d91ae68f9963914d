//! `promptmill run`.

use std::io::ErrorKind;

use super::args::RunArgs;
use super::errors::{self, CliError};
use super::log::{FileLog, ScreenLog};
use super::screen::{Screen, print_error};
use super::settings::{self, EndpointFacts};
use super::{connection, dry_run, endpoints, open_files, progress, report, signals};
use crate::pipeline::{Controls, Ended, Halt, Job, Watcher};
use crate::provider::OpenAi;
use crate::report::{duration, to_text};
use crate::sim::{Settings as SimSettings, Simulator};

pub(super) fn run(args: &RunArgs) -> Result<u8, CliError> {
    let screen = Screen::new(args.display.quiet);
    report::check_targets(&args.output.report)?;
    if args.input.template.as_deref().is_some_and(|template| template.contains(r"\n")) {
        screen.say(r"warning: --template holds a backslash and an n, which is no line break; write $'...\n...' or a real one");
    }
    let asked_for = args.pace.concurrency.is_some();
    let most = open_files::fitting(settings::concurrency(&args.pace), asked_for, args.sim, &screen)?;
    // Kept until the end: dropping it stops it.
    let mut simulator = None;
    let simulated = |base_url: &str| endpoints::simulated(&args.connection, &args.pace, base_url, most);
    let endpoints = if args.sim {
        let started = Simulator::start(SimSettings { models: Vec::new(), ..SimSettings::default() })
            .map_err(|error| CliError::failed(format!("the simulator cannot start: {error}")))?;
        simulated(simulator.insert(started).base_url())
    } else if args.output.dry_run.is_some() {
        endpoints::real(&args.connection, &args.pace, most, &screen)
            .unwrap_or_else(|_| simulated(&connection::usual_url()))
    } else {
        endpoints::real(&args.connection, &args.pace, most, &screen)?
    };
    let openai = endpoints.iter().all(|endpoint| connection::is_openai(&endpoint.connection));
    let mut job = settings::job(args, &EndpointFacts { openai, simulated: args.sim })?;
    job.concurrency = most;
    job.lanes = endpoints.iter().map(|endpoint| endpoint.lane.clone()).collect();
    settings::check_model(&job)?;
    if let Some(most) = args.output.dry_run {
        return dry_run::print(&job, most);
    }
    let keep_response = args.output.include_response;
    let providers = endpoints
        .iter()
        .map(|endpoint| OpenAi::new(&endpoint.connection, keep_response))
        .collect::<Result<Vec<_>, _>>()?;
    let ended = execute(args, job, providers, &screen)?;
    conclude(args, &ended, &endpoints[0].connection.base_url, &screen)
}

fn execute(args: &RunArgs, job: Job, providers: Vec<OpenAi>, screen: &Screen) -> Result<Ended, CliError> {
    let controls = Controls::default();
    signals::watch(controls.clone(), job.inputs.clone(), screen.clone(), args.connection.timeout)?;
    let mut watchers: Vec<Box<dyn Watcher>> = Vec::new();
    if let Some(path) = &args.display.log_file {
        watchers.push(Box::new(FileLog::create(path, screen.clone())?));
    }
    if args.display.verbose > 0 {
        watchers.push(Box::new(ScreenLog::new(screen.clone(), args.display.verbose)));
    }
    let (counter, display) = progress::start(
        args.display.progress,
        args.display.quiet,
        screen,
        &job.inputs,
        job.selection,
        &controls,
    );
    watchers.push(Box::new(counter));
    // One thread for all calls: they wait far more than they compute, and it costs less than several.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(crate::pipeline::run(job, providers, watchers, controls));
    // Names are looked up on threads of the runtime; one that hangs must not keep the program.
    runtime.shutdown_background();
    drop(display);
    Ok(ended?)
}

/// Says what came of it, writes the reports, and gives the exit code.
fn conclude(args: &RunArgs, ended: &Ended, base_url: &str, screen: &Screen) -> Result<u8, CliError> {
    screen.say(to_text(&ended.summary).trim_end());
    if args.output.output.exists() {
        screen.say(&format!("{:<11}{}", "output", args.output.output.display()));
    }
    if ended.summary.rows == 0 && ended.halt.is_none() {
        screen.say(&format!("warning: there are no rows to answer in {}", args.input.inputs.join(", ")));
    }
    report::write(&ended.summary, &args.output.report)?;
    let Some(halt) = &ended.halt else {
        return Ok(if ended.summary.failed > 0 { errors::SOME_FAILED } else { errors::OK });
    };
    let again = errors::GO_ON;
    let (code, error) = match halt {
        Halt::Interrupted => {
            screen.say(&format!("interrupted; {again}"));
            return Ok(errors::INTERRUPTED);
        }
        Halt::Fatal(failure) => (errors::FAILED, errors::refused(failure, base_url)),
        Halt::EndpointDown(message) => (
            if ended.complete { errors::SOME_FAILED } else { errors::FAILED },
            CliError::failed(format!("{message}; given up after --max-wait"))
                .hint(format!("is --base-url right, and is the server running? {again}")),
        ),
        Halt::DayUsedUp(wait) => {
            let message =
                format!("stopped: the requests of the day are used up (--rpd); more in {}", duration(*wait));
            (errors::STOPPED, CliError::failed(message).hint(again))
        }
        Halt::MaxFailures(failed) => {
            let message = format!("stopped: {failed} rows failed, more than --max-failures allows");
            (errors::STOPPED, CliError::failed(message).hint(again))
        }
        Halt::Brake(kind, message) => {
            let error =
                CliError::failed(format!("stopped: the first rows all failed alike ({kind}): {message}"));
            (
                errors::STOPPED,
                error.hint("mend what they have in common; --max-failures none goes on regardless"),
            )
        }
        Halt::Input(error) => {
            let error = CliError::of(error).hint("mend it and run the same command again to continue");
            (errors::FAILED, error)
        }
        Halt::Ledger(error) => (errors::FAILED, CliError::of(error).hint(errors::how_to_go_on(error))),
        // Whoever closed the pipe has read enough.
        Halt::Stdout(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(errors::OK),
        Halt::Stdout(error) => {
            (errors::FAILED, CliError::failed(format!("cannot write standard output: {error}")))
        }
        Halt::Bug(message) => (errors::FAILED, CliError::failed(message.clone()).hint(again)),
    };
    print_error(&error);
    Ok(code)
}
