//! How the endpoints of a run were used.

use serde::{Deserialize, Serialize};

/// How one endpoint was used, and the limits it was found to have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndpointFigures {
    /// Where it is; without what may be secret in a URL.
    pub base_url: String,
    /// Requests that reached it.
    pub requests: u64,
    /// Those among them that it refused for pace.
    pub refused: u64,
    /// The most that were in flight at it.
    pub most_in_flight: u64,
    /// The most that might be in flight at the end.
    pub concurrency: u64,
    /// Whether that was found by the run itself.
    pub adaptive: bool,
    /// What is kept to, in requests a minute, where a limit is known.
    pub requests_per_minute: Option<PaceLimit>,
    /// What is kept to, in tokens a minute, where a limit is known.
    pub tokens_per_minute: Option<PaceLimit>,
}

/// A limit that a run keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PaceLimit {
    /// So many a minute.
    pub per_minute: u64,
    /// Whether it was learned from the endpoint; otherwise it was given.
    pub learned: bool,
}
