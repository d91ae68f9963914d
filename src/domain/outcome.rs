//! What became of a row: written once, folded into every figure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Completion, Failure, Identity, Location, Record, RowId, Tokens, Usage, Usd};

/// How often each HTTP status came back, over all attempts. Attempts that reached the server and brought no status
/// back (a reset, a timeout) are counted under 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StatusCounts(pub std::collections::BTreeMap<u16, u64>);

impl StatusCounts {
    /// Counts one attempt.
    pub fn count(&mut self, status: Option<u16>) {
        *self.0.entry(status.unwrap_or(0)).or_default() += 1;
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (status, count) in &other.0 {
            *self.0.entry(*status).or_default() += count;
        }
    }
}

/// What a row has cost so far, over all its requests, also those of earlier runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spent {
    /// Requests that reached the server.
    pub attempts: u64,
    /// Those requests by status.
    pub by_status: StatusCounts,
    /// The usage of all of them, where the server gave any.
    pub usage: Usage,
    /// The tokens of answers that were not used, contained in `usage`.
    pub wasted: Tokens,
    /// What all of them cost; `None` where no price is known.
    pub cost: Option<Usd>,
}

impl Spent {
    /// Adds what an earlier run spent on the same row.
    pub fn add(&mut self, earlier: &Self) {
        self.attempts += earlier.attempts;
        self.by_status.add(&earlier.by_status);
        self.usage += earlier.usage;
        self.wasted += earlier.wasted;
        self.cost = match (self.cost, earlier.cost) {
            (Some(mut cost), Some(earlier)) => {
                cost += earlier;
                Some(cost)
            }
            (cost, _) => cost,
        };
    }
}

/// What became of a row.
#[derive(Debug)]
pub struct Outcome {
    /// The row's id.
    pub id: RowId,
    /// The row's place in the input, from 0.
    pub index: u64,
    /// Where the row begins.
    pub location: Location,
    /// The row's name in the ledger; `None` for a row that could not become a request.
    pub identity: Option<Identity>,
    /// The row as it came, where it is to be kept; a row that could not be read is a text.
    pub input: Option<Record>,
    /// The answer or the failure.
    pub result: Result<Completion, Failure>,
    /// The model that answered, or was asked.
    pub model: Option<String>,
    /// What the row cost.
    pub spent: Spent,
    /// How long the last attempt took, from the first byte sent to the last received; `None` where nothing was sent.
    pub latency: Option<Duration>,
}
