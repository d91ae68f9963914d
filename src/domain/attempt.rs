//! One request and what came of it.

use std::time::Duration;

use super::{Completion, Failure, RateLimits, Usage};

/// What came of one request.
#[derive(Debug)]
pub struct Attempt {
    /// The answer, or why there is none.
    pub result: Result<Answer, AttemptFailure>,
    /// The HTTP status, where one came back.
    pub status: Option<u16>,
    /// Whether the request reached the server, as far as can be known.
    pub reached: bool,
    /// From the start of sending to the last byte.
    pub latency: Duration,
    /// What the response's headers tell of the server's limits, be it an answer or a refusal.
    pub limits: Option<Box<RateLimits>>,
}

/// An answer with what it consumed.
#[derive(Debug)]
pub struct Answer {
    /// The answer itself.
    pub completion: Completion,
    /// What the server says it consumed.
    pub usage: Usage,
    /// The model that answered, where the server says so.
    pub model: Option<String>,
}

/// Why an attempt brought no answer, and what to do about it.
#[derive(Debug)]
pub struct AttemptFailure {
    /// What happened.
    pub failure: Failure,
    /// What the answer that could not be used consumed, where the server said so.
    pub usage: Usage,
    /// What to do.
    pub advice: Advice,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Try again after a back-off, or after what the server asked for.
    Retry {
        /// The server's `Retry-After`.
        after: Option<Duration>,
    },
    /// The server refused for pace: wait and go again, which is no strike against the row.
    Refused {
        /// The server's `Retry-After`.
        after: Option<Duration>,
        /// Whether the limit headers say that the whole account is at its limit, and for how long.
        exhausted: Option<Duration>,
    },
    /// The server cannot be reached: wait until it can be, which is no strike against the row.
    Down,
    /// A reused connection was dead before a byte came back: send again at once, as the same attempt.
    Resend {
        /// Whether the server may have read the request, which then counts as sent.
        was_read: bool,
    },
    /// The row will never succeed.
    GiveUp,
    /// The model or the path does not exist: the row will never succeed, nor will others of the same model.
    NotFound,
    /// No row will succeed: stop the run.
    Stop,
}
