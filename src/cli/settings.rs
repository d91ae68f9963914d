//! From options as typed to settings: flags before environment before defaults, checked and typed. The one place
//! where they meet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::{
    EndpointArg, InputArgs, OrderArg, OutputArgs, OutputFormatArg, PaceArgs, RequestArgs, RunArgs,
};
use super::errors::CliError;
use crate::domain::{Endpoint, Row};
use crate::input::parameters::{self, Parameters};
use crate::input::{Format, InputSettings, Inputs, PlanSettings, Planner, Template};
use crate::output::OutputFormat;
use crate::pace::RetrySettings;
use crate::pipeline::{EarlierAnswers, FileTarget, Job, MaxFailures, Selection, Target};

/// What the plan needs to know of the endpoints.
#[derive(Clone, Debug)]
pub(super) struct EndpointFacts {
    /// Whether all are OpenAI's own.
    pub(super) openai: bool,
    /// Whether it is the simulator: its answers are never kept for a real endpoint.
    pub(super) simulated: bool,
}

pub(super) fn read_text(path: &Path, flag: &str) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|error| CliError::failed(format!("{flag} {}: {error}", path.display())))
}

/// The most requests in flight.
pub(super) fn concurrency(args: &PaceArgs) -> usize {
    args.concurrency.unwrap_or_else(|| usize::try_from(args.max_concurrency).unwrap_or(usize::MAX))
}

/// The whole job.
pub(super) fn job(args: &RunArgs, endpoint: &EndpointFacts) -> Result<Job, CliError> {
    let inputs = inputs(&args.input)?;
    let plan = plan(&args.input, &args.request, endpoint)?;
    let model = plan.model.clone();
    let target = target(&args.output, &inputs, settings_of(&plan, args))?;
    Ok(Job {
        inputs,
        selection: Selection { offset: args.input.offset, limit: args.input.limit },
        planner: Planner::new(plan),
        model,
        lanes: Vec::new(),
        concurrency: concurrency(&args.pace),
        hedge: args.pace.hedge,
        retry: RetrySettings {
            max_attempts: args.pace.max_attempts,
            backoff_base: args.pace.backoff_base,
            backoff_max: args.pace.backoff_max,
            max_wait: args.pace.max_wait,
        },
        max_failures: args.pace.max_failures.unwrap_or(MaxFailures::Brake),
        target,
        with_input: !args.output.no_input,
        strict: args.input.strict,
        retry_failed: args.output.retry.clone(),
    })
}

/// A job without a model whose rows bring none either would fail row by row. What can be read only once is not looked
/// at, and neither is what lies behind the first row with a model.
pub(super) fn check_model(job: &Job) -> Result<(), CliError> {
    if job.model.is_some() || !job.inputs.can_be_reread() {
        return Ok(());
    }
    let mut without = false;
    for row in job.inputs.rows() {
        match row {
            Ok(Row::Record(record)) if Planner::brings_model(&record) => return Ok(()),
            Ok(Row::Record(_)) => without = true,
            Ok(Row::Bad(_)) => {}
            // What is wrong with the input, the run says.
            Err(_) => return Ok(()),
        }
    }
    if !without {
        return Ok(());
    }
    let hint = "`promptmill models` lists the models there are; a row's own model stands in its params.model";
    Err(CliError::usage("no model: name one with -m (--model); no row of the input brings its own")
        .hint(hint))
}

fn inputs(args: &InputArgs) -> Result<Inputs, CliError> {
    let format = args.input_format.as_deref().map(|name| {
        Format::parse(name).ok_or_else(|| {
            let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
            CliError::usage(format!("--input-format {name}: not known; known are {}", known.join(", ")))
        })
    });
    Ok(Inputs::resolve(InputSettings {
        paths: args.inputs.clone(),
        format: format.transpose()?,
        max_row_bytes: args.max_row_bytes,
    })?)
}

fn plan(input: &InputArgs, request: &RequestArgs, facts: &EndpointFacts) -> Result<PlanSettings, CliError> {
    let endpoint = match request.endpoint {
        EndpointArg::Chat => Endpoint::Chat,
        EndpointArg::Completions => Endpoint::Completions,
    };
    let system = template("--system", input.system.as_deref(), input.system_file.as_deref())?;
    if system.is_some() && endpoint != Endpoint::Chat {
        return Err(CliError::usage(
            "--system is for the chat endpoint; the completions endpoint has no messages",
        ));
    }
    let simulated_model = || facts.simulated.then(|| "sim-1".to_owned());
    Ok(PlanSettings {
        endpoint,
        model: request.model.clone().or_else(simulated_model),
        parameters: checked_parameters(endpoint, request)?,
        unchecked: request.param.iter().cloned().collect(),
        id_field: input.id_field.clone(),
        prompt_field: input.prompt_field.clone(),
        template: template("--template", input.template.as_deref(), input.template_file.as_deref())?,
        system,
        realm: if facts.simulated { "sim" } else { "openai" },
        max_completion_tokens: facts.openai,
    })
}

fn template(flag: &str, text: Option<&str>, file: Option<&Path>) -> Result<Option<Template>, CliError> {
    let (name, source) = match (text, file) {
        (Some(text), _) => (flag.to_owned(), text.to_owned()),
        (None, Some(path)) => (path.display().to_string(), read_text(path, &format!("{flag}-file"))?),
        (None, None) => return Ok(None),
    };
    Template::compile(&name, source)
        .map(Some)
        .map_err(|message| CliError::failed(format!("the template cannot be used: {message}")))
}

/// The parameters that flags set, each by its name in the API, checked against the API's ranges.
fn checked_parameters(endpoint: Endpoint, args: &RequestArgs) -> Result<Parameters, CliError> {
    let flag = |set: bool| set.then_some(Value::Bool(true));
    let text = |text: &Option<String>| text.clone().map(Value::String);
    let stop = match args.stop.as_slice() {
        [] => None,
        [one] => Some(Value::String(one.clone())),
        several => Some(several.into()),
    };
    let mut given: Parameters = [
        ("max_tokens", args.max_tokens.clone()),
        ("max_completion_tokens", args.max_completion_tokens.clone()),
        ("temperature", args.temperature.clone()),
        ("top_p", args.top_p.clone()),
        ("n", args.n.clone()),
        ("stop", stop),
        ("suffix", text(&args.suffix)),
        ("logprobs", args.logprobs.clone()),
        ("echo", flag(args.echo)),
        ("best_of", args.best_of.clone()),
        ("presence_penalty", args.presence_penalty.clone()),
        ("frequency_penalty", args.frequency_penalty.clone()),
        ("logit_bias", args.logit_bias.clone()),
        ("user", text(&args.user)),
        ("seed", args.seed.clone()),
        ("stream", flag(args.stream)),
        ("response_format", args.response_format.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    parameters::normalize(endpoint, &mut given);
    parameters::check(endpoint, &given).map_err(|bad| {
        // Chat's top_logprobs has no flag of its own: it came from --logprobs.
        let name = if bad.name == "top_logprobs" { "logprobs" } else { &bad.name };
        let error = CliError::usage(format!("--{} {}", name.replace('_', "-"), bad.message));
        if bad.message.contains("is a parameter of") {
            error.hint("choose the API with --endpoint")
        } else {
            error
        }
    })?;
    Ok(given)
}

/// What decides over the answers, by name, for the next run to tell what changed.
fn settings_of(plan: &PlanSettings, args: &RunArgs) -> BTreeMap<String, String> {
    let text = |text: &Option<String>, file: &Option<PathBuf>| {
        text.clone().or_else(|| file.as_ref().and_then(|path| fs::read_to_string(path).ok()))
    };
    let all: Parameters =
        plan.parameters.iter().chain(&plan.unchecked).map(|(n, v)| (n.clone(), v.clone())).collect();
    [
        ("endpoint", Some(plan.endpoint.to_string())),
        ("model", plan.model.clone()),
        ("parameters", (!all.is_empty()).then(|| Value::Object(all.into_iter().collect()).to_string())),
        ("prompt field", plan.prompt_field.clone()),
        ("template", text(&args.input.template, &args.input.template_file)),
        ("system", text(&args.input.system, &args.input.system_file)),
        ("answered by", Some(plan.realm.to_owned())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

fn target(
    args: &OutputArgs,
    inputs: &Inputs,
    settings: BTreeMap<String, String>,
) -> Result<Target, CliError> {
    let format = output_format(args)?;
    if args.output == Path::new("-") {
        if format == OutputFormat::Csv {
            return Err(CliError::usage("-o - writes JSON lines; a table needs a file"));
        }
        return Ok(Target::Stdout);
    }
    if args.output.is_dir() {
        return Err(CliError::failed(format!("-o {}: is a directory", args.output.display())));
    }
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(missing) = folder.filter(|folder| !folder.exists()) {
        let error = format!("-o {}: there is no folder {}", args.output.display(), missing.display());
        return Err(CliError::failed(error).hint("make the folder first, or mend its name"));
    }
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    let output = canonical(&args.output);
    if output.is_some() && inputs.files().any(|input| canonical(input) == output) {
        return Err(CliError::failed(format!("-o {}: is one of the inputs", args.output.display())));
    }
    Ok(Target::File(FileTarget {
        path: args.output.clone(),
        format,
        input_order: args.order == OrderArg::Input,
        earlier: match (args.overwrite, args.keep_answers, args.drop_unmatched || args.resend) {
            (true, ..) => EarlierAnswers::StartOver,
            (_, true, _) => EarlierAnswers::Keep,
            (.., true) => EarlierAnswers::DropUnmatched,
            _ => EarlierAnswers::Continue,
        },
        settings,
        durability: args.durability,
    }))
}

fn output_format(args: &OutputArgs) -> Result<OutputFormat, CliError> {
    match args.output_format {
        Some(OutputFormatArg::Jsonl) => return Ok(OutputFormat::Jsonl),
        Some(OutputFormatArg::Csv) => return Ok(OutputFormat::Csv),
        None => {}
    }
    match args.output.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(OutputFormat::Csv),
        Some(other @ ("parquet" | "tsv" | "gz" | "zst" | "json")) => {
            let known: Vec<&str> = OutputFormat::ALL.iter().map(|format| format.name()).collect();
            Err(CliError::usage(format!("-o {}: .{other} is no format of an output", args.output.display()))
                .hint(format!("known are {}; --output-format says which", known.join(", "))))
        }
        _ => Ok(OutputFormat::Jsonl),
    }
}
