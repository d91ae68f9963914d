//! What the figures need to know of a row.

use std::time::Duration;

use crate::domain::{FailureKind, Outcome, RowId, StatusCounts, Tokens, Usage, Usd};

/// What the figures need to know of a row; the same whether it was just finished or is read back.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The row's id.
    pub id: RowId,
    /// Why it failed, if it did: kind, status, message.
    pub failure: Option<(FailureKind, Option<u16>, String)>,
    /// The model.
    pub model: Option<String>,
    /// What it consumed, over all requests.
    pub usage: Usage,
    /// The part of it that was not used.
    pub wasted: Tokens,
    /// What it cost.
    pub cost: Option<Usd>,
    /// Requests that reached the server.
    pub attempts: u64,
    /// Those requests by status.
    pub statuses: StatusCounts,
    /// How long the last request took.
    pub latency: Option<Duration>,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// Whether an earlier run finished the row.
    pub resumed: bool,
}

impl Facts {
    /// The facts about a row that was just finished.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let failure = outcome.result.as_ref().err();
        Self {
            id: outcome.id.clone(),
            failure: failure.map(|failure| (failure.kind, failure.status, failure.message.clone())),
            model: outcome.model.clone(),
            usage: outcome.spent.usage,
            wasted: outcome.spent.wasted,
            cost: outcome.spent.cost,
            attempts: outcome.spent.attempts,
            statuses: outcome.spent.by_status.clone(),
            latency: outcome.latency,
            cached: false,
            resumed: false,
        }
    }
}
