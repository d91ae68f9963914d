//! The options of the simulator.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::cli::values;

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct SimArgs {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) port: u16,
    /// How long an answer takes
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = values::duration)]
    pub(in crate::cli) latency: Duration,
    /// How much longer for each token of the answer
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = values::duration)]
    pub(in crate::cli) latency_per_token: Duration,
    /// Requests admitted a minute
    #[arg(long, value_name = "N")]
    pub(in crate::cli) rpm: Option<u64>,
    /// Tokens admitted a minute
    #[arg(long, value_name = "N")]
    pub(in crate::cli) tpm: Option<u64>,
    /// Say nothing of the limits: refuse with the status 429 alone
    #[arg(long)]
    pub(in crate::cli) no_limit_headers: bool,
    /// Requests served at once; more are refused
    #[arg(long, value_name = "N")]
    pub(in crate::cli) max_inflight: Option<usize>,
    /// Requests worked on at once; the others wait in line
    #[arg(long, value_name = "N")]
    pub(in crate::cli) slots: Option<NonZeroUsize>,
    /// The share of requests refused with 429
    #[arg(long = "fault-429", value_name = "P", default_value = "0", value_parser = values::share)]
    pub(in crate::cli) fault_429: f64,
    /// The share answered with 500
    #[arg(long = "fault-500", value_name = "P", default_value = "0", value_parser = values::share)]
    pub(in crate::cli) fault_500: f64,
    /// The share whose connection is reset
    #[arg(long, value_name = "P", default_value = "0", value_parser = values::share)]
    pub(in crate::cli) fault_reset: f64,
    /// The share whose answer is cut short
    #[arg(long, value_name = "P", default_value = "0", value_parser = values::share)]
    pub(in crate::cli) fault_truncate: f64,
    /// The share that is never answered
    #[arg(long, value_name = "P", default_value = "0", value_parser = values::share)]
    pub(in crate::cli) fault_hang: f64,
    /// Decides which requests the faults hit
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) seed: u64,
    /// The models there are; repeatable, `*` for any [default: sim-1, sim-1-mini]
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) model: Vec<String>,
    /// The variable with the one key that is let in [default: any key]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) api_key_env: Option<String>,
}
