//! The command line: the only code that prints, reads the environment, or knows of clap and indicatif.

mod args;
mod connection;
mod dry_run;
mod endpoints;
mod errors;
mod job_file;
mod log;
mod models;
mod open_files;
mod progress;
mod report;
mod run;
mod screen;
mod settings;
mod signals;
mod sim;
mod terminal;
mod values;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Args, Command};
use errors::CliError;

/// Parses the command line, does what it says and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let typed: Vec<_> = std::env::args_os().collect();
    let merged = match job_file::merge(typed.clone(), &Args::command()) {
        Ok(merged) => merged,
        Err(error) => return failed(&error),
    };
    let arguments = merged.as_ref().map_or(&typed, |merged| &merged.arguments);
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            if let Some(error) = merged.and_then(|merged| merged.error(&error)) {
                return failed(&error);
            }
            // Help and version are asked for; a closed pipe is nothing to complain about.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(errors::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match dispatch(args.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error),
    }
}

fn failed(error: &CliError) -> ExitCode {
    screen::print_error(error);
    ExitCode::from(error.code)
}

fn dispatch(command: Command) -> Result<u8, CliError> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Report(args) => report::report(&args),
        Command::Models(args) => models::models(&args),
        Command::Sim(args) => sim::sim(&args),
    }
}
