//! An OpenAI-compatible endpoint on loopback, for trying out, tests and benchmarks. Its answers are made up from the
//! prompt alone: the same request gets the same answer in every run. It never leaves the machine and knows no model.
//!
//! One request goes `server` > `routes` > `exchange` (limits, faults, latency); what is asked is read in `ask`, what is
//! answered is made in `answer` and written by `wire` (whole) or `stream` (server-sent events).

mod answer;
mod ask;
mod exchange;
mod faults;
mod fields;
mod limits;
mod logprobs;
mod prose;
mod refusal;
mod reply;
mod routes;
mod schema;
mod server;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod tokens;
mod wire;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::Secret;

pub use faults::Faults;
pub use stats::Stats;
pub use tokens::count_tokens;

use exchange::Service;

/// How the endpoint behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// How long an answer takes that has no tokens, from the request read whole (with `slots`: from its turn) to the
    /// last byte.
    pub latency: Duration,
    /// How much longer it takes for each completion token that is billed.
    pub latency_per_token: Duration,
    /// Requests admitted a minute, spread evenly: at most a second's worth at once.
    pub rpm: Option<u64>,
    /// Tokens (prompt and completion, as billed) admitted a minute, spread evenly like `rpm`.
    pub tpm: Option<u64>,
    /// Whether the limits stand in the headers, and when to come back in those of a refusal.
    pub tells_limits: bool,
    /// Requests served at once; more are refused with 429.
    pub max_inflight: Option<usize>,
    /// Requests worked on at once; the others wait in line, first come, first served.
    pub slots: Option<NonZeroUsize>,
    /// How often it goes wrong.
    pub faults: Faults,
    /// Decides which requests the faults hit. It does not change the answers.
    pub seed: u64,
    /// The one key that is let in; `None` lets in any key, or none.
    pub api_key: Option<Secret>,
    /// The models there are; an empty list knows every model.
    pub models: Vec<String>,
}

impl Default for Settings {
    /// A free port, no latency, no limits, no faults, any key, the models `sim-1` and `sim-1-mini`.
    fn default() -> Self {
        Self {
            port: 0,
            latency: Duration::ZERO,
            latency_per_token: Duration::ZERO,
            rpm: None,
            tpm: None,
            tells_limits: true,
            max_inflight: None,
            slots: None,
            faults: Faults::default(),
            seed: 0,
            api_key: None,
            models: vec!["sim-1".into(), "sim-1-mini".into()],
        }
    }
}

/// A running endpoint, on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Simulator {
    base_url: String,
    service: Arc<Service>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Binds 127.0.0.1 and serves from then on.
    ///
    /// # Errors
    ///
    /// The port is taken, a share of faults is outside of 0 to 1 (or all of them are more than 1), or the system
    /// gives no thread.
    pub fn start(settings: Settings) -> io::Result<Self> {
        settings.faults.check().map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))?;
        let listener = server::bind(settings.port)?;
        let base_url = format!("http://{}/v1", listener.local_addr()?);
        let service = Arc::new(Service::new(settings));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shutdown, stopped) = oneshot::channel();
        let serving = Arc::clone(&service);
        let thread = thread::Builder::new()
            .name("simulator".into())
            .spawn(move || runtime.block_on(server::serve(listener, serving, stopped)))?;
        Ok(Self { base_url, service, shutdown: Some(shutdown), thread: Some(thread) })
    }

    /// The base URL for clients: `http://127.0.0.1:PORT/v1`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What it has received and answered so far; the same as `GET /sim/stats`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.service.account.snapshot()
    }

    /// Stops at once: connections are closed, requests in flight are not answered.
    pub fn stop(self) {
        drop(self);
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already said so; there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
