//! Where requests go, and how fast.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;

use crate::cli::values;
use crate::pace::Hedge;
use crate::pipeline::MaxFailures;

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Connection")]
pub(in crate::cli) struct ConnectionArgs {
    /// The endpoint, with its version [default: `OPENAI_BASE_URL`, else <https://api.openai.com/v1>]; repeatable: rows
    /// go where there is room. Behind the URL may stand what holds for it alone:
    /// `URL;weight=2;concurrency=16;rpm=600;tpm=90000;rpd=10000;api-key-env=NAME`
    #[arg(long, value_name = "URL[;OPTIONS]")]
    pub(in crate::cli) base_url: Vec<String>,
    /// The variable with the key [default: `OPENAI_API_KEY`]
    #[arg(long, value_name = "NAME", conflicts_with = "api_key_file")]
    pub(in crate::cli) api_key_env: Option<String>,
    /// The file with the key
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) api_key_file: Option<PathBuf>,
    /// Let several hosts have the same key
    #[arg(long)]
    pub(in crate::cli) share_key: bool,
    /// A header for every request; ${NAME} is replaced from the environment; repeatable
    #[arg(long, value_name = "NAME: VALUE", value_parser = values::header)]
    pub(in crate::cli) header: Vec<(String, String)>,
    /// Sent as OpenAI-Organization
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) organization: Option<String>,
    /// Sent as OpenAI-Project
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) project: Option<String>,
    /// http, https, socks5 or socks5h [default: the usual variables]
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) proxy: Option<String>,
    /// The most a request may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = values::duration)]
    pub(in crate::cli) timeout: Duration,
    /// The longest that nothing comes once an answer has begun
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub(in crate::cli) idle_timeout: Duration,
    /// The most connecting may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = values::duration)]
    pub(in crate::cli) connect_timeout: Duration,
    /// Use HTTP/2 where the server offers it
    #[arg(long, conflicts_with = "http1")]
    pub(in crate::cli) http2: bool,
    /// Use HTTP/1.1 only, which is the default
    #[arg(long)]
    pub(in crate::cli) http1: bool,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Pace")]
pub(in crate::cli) struct PaceArgs {
    /// The most requests in flight, or auto: as many as make the endpoint faster
    #[arg(short, long, value_name = "N|auto", default_value = "auto", value_parser = values::concurrency)]
    pub(in crate::cli) concurrency: std::option::Option<usize>,
    /// The most that auto uses
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(in crate::cli) max_concurrency: u64,
    /// Requests a minute that each endpoint lets through [default: what it says, or is found to let through]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) rpm: Option<NonZeroU64>,
    /// Tokens a minute that each endpoint lets through, prompt and completion
    #[arg(long, value_name = "N")]
    pub(in crate::cli) tpm: Option<NonZeroU64>,
    /// Requests a day that each endpoint lets through; then the run stops
    #[arg(long, value_name = "N")]
    pub(in crate::cli) rpd: Option<NonZeroU64>,
    /// Send a request a second time when it takes longer than this share of the answers, or than this; the first answer
    /// counts, both are paid
    #[arg(long, value_name = "P99|TIME|off", default_value = "off", value_parser = values::hedge)]
    pub(in crate::cli) hedge: Hedge,
    /// Attempts a row; refusals for pace are none
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) max_attempts: u32,
    /// The first wait after a failure; it doubles, with full jitter
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = values::duration)]
    pub(in crate::cli) backoff_base: Duration,
    /// The longest such wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = values::duration)]
    pub(in crate::cli) backoff_max: Duration,
    /// The longest a row waits for an endpoint that refuses or is down
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = values::duration)]
    pub(in crate::cli) max_wait: Duration,
    /// Stop when more rows fail; none: never [default: when the first 50 all fail alike]
    #[arg(long, value_name = "N|P%|none", value_parser = values::max_failures)]
    pub(in crate::cli) max_failures: Option<MaxFailures>,
}
