//! The options as typed.

mod sim;
mod wire;

use std::path::PathBuf;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use super::values;
use crate::ledger::Durability;
use crate::pipeline::RetryFailed;
pub(super) use sim::SimArgs;
pub(super) use wire::{ConnectionArgs, PaceArgs};

/// Runs a dataset of prompts through a language-model API: every row answered exactly once, every token accounted for.
#[derive(Debug, Parser)]
#[command(name = "promptmill", version, about, disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Answer every row of the inputs; run again to continue
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Usage, cost, latency and errors of finished or half-finished outputs
    Report(ReportArgs),
    /// List the endpoint's models, or show one
    Models(ModelsArgs),
    /// Simulate an OpenAI-compatible endpoint on loopback
    Sim(SimArgs),
}

const RUN_EXAMPLES: &str = "\
Examples:
  Try it with no key and no network:
    promptmill run prompts.jsonl --sim -o answers.jsonl
  A column of a table, in a template:
    promptmill run articles.csv -m gpt-5.4-mini --template 'Summarize: {{ text }}' -o summaries.csv
  A local server, 64 requests at a time:
    promptmill run prompts.jsonl --base-url http://localhost:8000/v1 -m my-model -c 64 -o answers.jsonl
  In a pipe:
    zcat big.jsonl.gz | promptmill run - -m gpt-5.4-mini -o - | jq -r .output

Exit codes: 0 every row ok, 1 could not start or go on, 2 wrong usage, 3 some rows failed,
4 stopped by --max-failures or --rpd, 130 interrupted. The same command run again continues.";

#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    /// Options from a TOML file: their names with _ for -, `input`, `[params]`, `[[endpoints]]`; what is typed wins
    #[arg(long, value_name = "FILE")]
    pub(super) job: Option<PathBuf>,
    #[command(flatten)]
    pub(super) input: InputArgs,
    #[command(flatten)]
    pub(super) request: RequestArgs,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    #[command(flatten)]
    pub(super) pace: PaceArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(flatten)]
    pub(super) display: DisplayArgs,
    /// Answer from a built-in simulator: no key, no network, made-up answers
    #[arg(long, conflicts_with_all = ["base_url", "api_key_file", "proxy"], help_heading = "Connection")]
    pub(super) sim: bool,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Input")]
pub(super) struct InputArgs {
    /// Files, globs, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    pub(super) inputs: Vec<String>,
    /// The inputs' format: jsonl, json, csv, tsv, txt [default: by extension]
    #[arg(long, value_name = "FORMAT")]
    pub(super) input_format: Option<String>,
    /// The field with the row's id [default: id, then `custom_id`, then the row's place]
    #[arg(long, value_name = "FIELD")]
    pub(super) id_field: Option<String>,
    /// The field with the prompt [default: messages, then prompt]
    #[arg(long, value_name = "FIELD")]
    pub(super) prompt_field: Option<String>,
    /// Make the prompt of the row's fields: 'Summarize: {{ text }}'; a line break must be a real one
    #[arg(long, value_name = "TEXT", conflicts_with = "template_file")]
    pub(super) template: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE")]
    pub(super) template_file: Option<PathBuf>,
    /// The system message, a template too
    #[arg(long, value_name = "TEXT", conflicts_with = "system_file")]
    pub(super) system: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE")]
    pub(super) system_file: Option<PathBuf>,
    /// Take at most N rows
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    /// Pass over the first N rows
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) offset: u64,
    /// Check all rows first and send nothing if any is bad
    #[arg(long)]
    pub(super) strict: bool,
    /// A longer row is a failed row
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = values::size)]
    pub(super) max_row_bytes: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum EndpointArg {
    Chat,
    Completions,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Request")]
pub(super) struct RequestArgs {
    /// The model, for rows that name none
    #[arg(short, long)]
    pub(super) model: Option<String>,
    /// The API
    #[arg(long, value_enum, default_value = "chat")]
    pub(super) endpoint: EndpointArg,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", value_parser = values::number)]
    pub(super) max_tokens: Option<Value>,
    /// The same under its newer name, sent as it is (chat)
    #[arg(long, value_name = "N", value_parser = values::number, conflicts_with = "max_tokens")]
    pub(super) max_completion_tokens: Option<Value>,
    /// 0 to 2
    #[arg(long, value_name = "X", value_parser = values::number, allow_hyphen_values = true)]
    pub(super) temperature: Option<Value>,
    /// 0 to 1
    #[arg(long, value_name = "X", value_parser = values::number, allow_hyphen_values = true)]
    pub(super) top_p: Option<Value>,
    /// Answers for each prompt
    #[arg(long, value_name = "N", value_parser = values::number, allow_hyphen_values = true)]
    pub(super) n: Option<Value>,
    /// End the answer at this text; up to four times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) stop: Vec<String>,
    /// The text that follows the answer (completions)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) suffix: Option<String>,
    /// Log probabilities of the N likeliest tokens: 0 to 5, for chat 0 to 20
    #[arg(long, value_name = "N", value_parser = values::number, allow_hyphen_values = true)]
    pub(super) logprobs: Option<Value>,
    /// Repeat the prompt before the answer (completions)
    #[arg(long)]
    pub(super) echo: bool,
    /// Make N answers and return the best (completions)
    #[arg(long, value_name = "N", value_parser = values::number, allow_hyphen_values = true)]
    pub(super) best_of: Option<Value>,
    /// -2 to 2
    #[arg(long, value_name = "X", value_parser = values::number, allow_hyphen_values = true)]
    pub(super) presence_penalty: Option<Value>,
    /// -2 to 2
    #[arg(long, value_name = "X", value_parser = values::number, allow_hyphen_values = true)]
    pub(super) frequency_penalty: Option<Value>,
    /// '{"TOKEN": BIAS}', each bias from -100 to 100
    #[arg(long, value_name = "JSON", value_parser = values::json)]
    pub(super) logit_bias: Option<Value>,
    /// Who asks, for the provider's abuse detection
    #[arg(long, value_name = "ID")]
    pub(super) user: Option<String>,
    /// Ask for the same answer each time
    #[arg(long, value_name = "N", value_parser = values::number, allow_hyphen_values = true)]
    pub(super) seed: Option<Value>,
    /// Receive the answer as it is made; the output is the same and `ttft_ms` besides
    #[arg(long)]
    pub(super) stream: bool,
    /// `json_object`, or an object
    #[arg(long, value_name = "FORMAT", value_parser = values::response_format)]
    pub(super) response_format: Option<Value>,
    /// Any other parameter, unchecked; repeatable
    #[arg(long, value_name = "NAME=JSON", value_parser = values::parameter)]
    pub(super) param: Vec<(String, Value)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OutputFormatArg {
    Jsonl,
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OrderArg {
    Input,
    Completion,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Output")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag on the command line")]
pub(super) struct OutputArgs {
    /// The output, or - for standard output (nothing is kept, no resume)
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: PathBuf,
    /// The output's format [default: by extension, else jsonl]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) output_format: Option<OutputFormatArg>,
    /// The order of the rows
    #[arg(long, value_enum, default_value = "input")]
    pub(super) order: OrderArg,
    /// Leave the row as it came out of its output
    #[arg(long)]
    pub(super) no_input: bool,
    /// Put the server's whole answer into the output
    #[arg(long)]
    pub(super) include_response: bool,
    /// Start over: replace the output and forget its answers
    #[arg(long)]
    pub(super) overwrite: bool,
    /// The model, template or parameters changed: ask all rows again
    #[arg(long, conflicts_with_all = ["keep_answers", "overwrite"])]
    pub(super) resend: bool,
    /// The model, template or parameters changed: keep the answers there are
    #[arg(long, conflicts_with_all = ["drop_unmatched", "overwrite"])]
    pub(super) keep_answers: bool,
    /// Go on although most earlier answers belong to no row of the input
    #[arg(long)]
    pub(super) drop_unmatched: bool,
    /// Which rows that failed in earlier runs to try again: kinds of failure such as timeout,server; all, or none
    #[arg(long, value_name = "KINDS", default_value = "all", value_parser = values::retry_failed)]
    pub(super) retry: RetryFailed,
    /// When answers are brought to the disk, so that a power cut does not lose them: off, every row, or every TIME
    #[arg(long, value_name = "off|row|TIME", default_value = "1s", value_parser = values::durability)]
    pub(super) durability: Durability,
    /// Write the report too: .json or .md; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) report: Vec<PathBuf>,
    /// Print the first N requests and send nothing
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10", require_equals = true)]
    pub(super) dry_run: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressArg {
    /// A bar on a terminal, else plain lines
    Auto,
    Bar,
    /// A line every 10 seconds
    Plain,
    /// A JSON object every second
    Json,
    None,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Display")]
pub(super) struct DisplayArgs {
    /// How progress is shown, on standard error
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) progress: ProgressArg,
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Say what is tried again (-v), and every row (-vv)
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Write everything that happens to a file
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ReportArgs {
    /// Outputs of `run`
    #[arg(required = true, value_name = "OUT")]
    pub(super) outputs: Vec<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write the report: .json or .md; repeatable
    #[arg(long, value_name = "FILE")]
    pub(super) report: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ModelsArgs {
    /// The model to show
    #[arg(value_name = "ID")]
    pub(super) id: Option<String>,
    /// Print the server's own JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}
