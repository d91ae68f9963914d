//! Why a row was not answered. A failure is data and concerns one row; what ends the run is an `Error` elsewhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of failure, a closed set that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The row cannot become a request.
    InvalidInput,
    /// The server refused the request as wrong.
    BadRequest,
    /// The key is missing, wrong or not allowed to do this.
    Auth,
    /// The model or the URL does not exist.
    NotFound,
    /// Prompt and completion do not fit into the model's window.
    ContextLength,
    /// The provider's policy refused prompt or answer.
    ContentFilter,
    /// The account has no credit or reached its spend limit.
    Quota,
    /// Refused for pace, longer than `--max-wait` allows to wait.
    RateLimited,
    /// The server failed.
    Server,
    /// No answer within `--timeout`.
    Timeout,
    /// The server could not be reached, or the connection broke.
    Connection,
    /// Something came back that is no answer.
    BadResponse,
    /// The answer does not fit the schema asked for.
    Schema,
    /// The budget does not cover the row.
    Budget,
    /// A batch expired before it reached the row.
    Expired,
    /// The row was given up because the run was.
    Cancelled,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::InvalidInput,
        Self::BadRequest,
        Self::Auth,
        Self::NotFound,
        Self::ContextLength,
        Self::ContentFilter,
        Self::Quota,
        Self::RateLimited,
        Self::Server,
        Self::Timeout,
        Self::Connection,
        Self::BadResponse,
        Self::Schema,
        Self::Budget,
        Self::Expired,
        Self::Cancelled,
    ];

    /// The name in outputs and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::BadRequest => "bad_request",
            Self::Auth => "auth",
            Self::NotFound => "not_found",
            Self::ContextLength => "context_length",
            Self::ContentFilter => "content_filter",
            Self::Quota => "quota",
            Self::RateLimited => "rate_limited",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::BadResponse => "bad_response",
            Self::Schema => "schema",
            Self::Budget => "budget",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one row was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, for scripts.
    pub kind: FailureKind,
    /// What happened, for people: lower case, no full stop; a row that cannot become a request starts with
    /// `FILE:LINE:`.
    pub message: String,
    /// The HTTP status of the last answer, where there was one.
    pub status: Option<u16>,
    /// The server's own code, as text.
    pub code: Option<String>,
}

impl Failure {
    /// A failure that no server had a part in.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, code: None }
    }
}
