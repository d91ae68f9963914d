//! What the figures need to know of a row.

use std::borrow::Cow;
use std::time::Duration;

use crate::domain::{FailureKind, Outcome, RowId, StatusCounts, Tokens, Usage, Usd};

/// What the figures need to know of a row; the same whether it was just finished or is read back.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Why it failed, if it did.
    pub failure: Option<FailedRow<'a>>,
    /// The model.
    pub model: Option<Cow<'a, str>>,
    /// What it consumed, over all requests.
    pub usage: Usage,
    /// The part of it that was not used.
    pub wasted: Tokens,
    /// What it cost.
    pub cost: Option<Usd>,
    /// Requests that reached the server.
    pub attempts: u64,
    /// Those requests by status.
    pub statuses: Cow<'a, StatusCounts>,
    /// How long the last request took.
    pub latency: Option<Duration>,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// Whether an earlier run finished the row.
    pub resumed: bool,
}

/// Why a row failed.
#[derive(Clone, Debug)]
pub struct FailedRow<'a> {
    /// The row's id.
    pub id: Cow<'a, RowId>,
    /// The kind.
    pub kind: FailureKind,
    /// The HTTP status of the last answer, where there was one.
    pub status: Option<u16>,
    /// What happened, in words.
    pub message: Cow<'a, str>,
}

impl<'a> Facts<'a> {
    /// The facts about a row that was just finished.
    #[must_use]
    pub fn of(outcome: &'a Outcome) -> Self {
        let failure = outcome.result.as_ref().err().map(|failure| FailedRow {
            id: Cow::Borrowed(&outcome.id),
            kind: failure.kind,
            status: failure.status,
            message: Cow::Borrowed(&failure.message),
        });
        Self {
            failure,
            model: outcome.model.as_deref().map(Cow::Borrowed),
            usage: outcome.spent.usage,
            wasted: outcome.spent.wasted,
            cost: outcome.spent.cost,
            attempts: outcome.spent.attempts,
            statuses: Cow::Borrowed(&outcome.spent.by_status),
            latency: outcome.latency,
            cached: false,
            resumed: false,
        }
    }
}
