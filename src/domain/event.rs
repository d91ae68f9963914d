//! What happens in a run, in one order. Whoever watches sees these and nothing else.

use std::time::Duration;

use super::{FailureKind, Location, RowId, Usage};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// An attempt failed and the row goes again.
    Retrying {
        /// The row's id.
        id: RowId,
        /// Where the row begins.
        location: Location,
        /// Which attempt failed, from 1; 0 where the request never reached the server.
        attempt: u64,
        /// Why it failed.
        kind: FailureKind,
        /// The HTTP status, where there was one.
        status: Option<u16>,
        /// What happened, in words.
        message: String,
        /// How long the row waits before it goes again.
        wait: Duration,
    },
    /// A row is finished and its ledger line written.
    Finished {
        /// The row's id.
        id: RowId,
        /// Where the row begins.
        location: Location,
        /// The kind of failure and its message, or `None` for an answer.
        failure: Option<(FailureKind, String)>,
        /// What all its requests consumed.
        usage: Usage,
        /// How many requests reached the server.
        attempts: u64,
        /// How long the last one took.
        latency: Option<Duration>,
    },
    /// So many rows were found finished from an earlier run.
    Resumed(u64),
    /// Something a person should know about the run as a whole.
    Notice(Notice),
}

/// Things a person should know about the run as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The endpoint cannot be reached; the run waits for it.
    EndpointDown {
        /// What happened, in words.
        message: String,
        /// How long it is waited for.
        at_most: Duration,
    },
    /// An earlier run is continued.
    Resuming(Resumption),
    /// The endpoint answers again.
    EndpointUp {
        /// Which one, where there are several.
        endpoint: Option<String>,
    },
    /// The server asked the whole pool to wait.
    RateLimited {
        /// Which endpoint's, where there are several.
        endpoint: Option<String>,
        /// How long.
        wait: Duration,
    },
}

/// What became of the rows of an earlier run, and what is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumption {
    /// Rows whose answers are kept.
    pub kept: u64,
    /// Those among them that stand elsewhere in the order of the rows.
    pub moved: u64,
    /// Rows that were answered and ask something else now: sent anew.
    pub edited: u64,
    /// Rows that were not answered and did not fail: they are new, or the run did not come to them.
    pub new: u64,
    /// Answers whose row is gone from the input: left out of the output, kept in the ledger.
    pub gone: u64,
    /// Rows that failed and are tried again.
    pub failed: u64,
    /// Rows that failed and are left as they are.
    pub left_failed: u64,
    /// Rows that cannot become requests.
    pub bad: u64,
}

impl Resumption {
    /// Rows that are sent.
    #[must_use]
    pub fn to_send(&self) -> u64 {
        self.edited + self.new + self.failed
    }
}
