//! The totals of a run or of an output.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Facts, Latencies};
use crate::domain::{EndpointFigures, FailureKind, RowId, StatusCounts, Tokens, Usage, Usd};

/// Totals by model.
#[derive(Clone, Debug, Default)]
pub struct ModelTotals {
    /// Rows.
    pub rows: u64,
    /// What they consumed.
    pub usage: Usage,
    /// What they cost, as far as it is known.
    pub cost: Option<Usd>,
}

/// Failures of one kind and status.
#[derive(Clone, Debug)]
pub struct ErrorGroup {
    /// How many.
    pub count: u64,
    /// The first one's id.
    pub example_id: RowId,
    /// The first one's message.
    pub example_message: String,
}

/// What is known of the last run as a whole.
#[derive(Clone, Debug, Default)]
pub struct RunFigures {
    /// How long it took.
    pub wall: Duration,
    /// Rows it answered, without those of earlier runs.
    pub answered: u64,
    /// Completion tokens it received.
    pub completion_tokens: u64,
    /// How its endpoints were used.
    pub endpoints: Vec<EndpointFigures>,
}

impl RunFigures {
    /// Adds how the endpoints of another run were used; where they are the same, what was in force last counts.
    pub fn add_endpoints(&mut self, others: Vec<EndpointFigures>) {
        for other in others {
            match self.endpoints.iter_mut().find(|known| known.base_url == other.base_url) {
                None => self.endpoints.push(other),
                Some(known) => {
                    *known = EndpointFigures {
                        requests: known.requests + other.requests,
                        refused: known.refused + other.refused,
                        most_in_flight: known.most_in_flight.max(other.most_in_flight),
                        ..other
                    }
                }
            }
        }
    }
}

/// The totals.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// All rows that are finished.
    pub rows: u64,
    /// Rows that were answered.
    pub ok: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows answered from the cache; they consumed nothing.
    pub cached: u64,
    /// Rows that an earlier run finished.
    pub resumed: u64,
    /// Requests that reached the server.
    pub sent: u64,
    /// Requests that went out again for a row.
    pub retried: u64,
    /// Requests by status.
    pub by_status: StatusCounts,
    /// What the rows consumed.
    pub usage: Usage,
    /// Tokens of answers that were not used.
    pub wasted: Tokens,
    /// Answered rows whose usage the server did not give.
    pub rows_without_usage: u64,
    /// What the rows cost, as far as it is known.
    pub cost: Option<Usd>,
    /// Rows that were sent and whose cost is not known.
    pub unpriced_rows: u64,
    /// Totals by model.
    pub by_model: BTreeMap<String, ModelTotals>,
    /// How long the answers took.
    pub latencies: Latencies,
    /// Failures by kind and status.
    pub errors: BTreeMap<(FailureKind, Option<u16>), ErrorGroup>,
    /// The last run as a whole.
    pub run: RunFigures,
}

impl Summary {
    /// Counts a row.
    pub fn add(&mut self, facts: &Facts<'_>) {
        self.rows += 1;
        self.resumed += u64::from(facts.resumed);
        match &facts.failure {
            None => self.ok += 1,
            Some(row) => {
                self.failed += 1;
                let group = self.errors.entry((row.kind, row.status)).or_insert_with(|| ErrorGroup {
                    count: 0,
                    example_id: row.id.clone().into_owned(),
                    example_message: row.message.clone().into_owned(),
                });
                group.count += 1;
            }
        }
        if facts.cached {
            self.cached += 1;
            return;
        }
        self.sent += facts.attempts;
        self.retried += facts.attempts.saturating_sub(1);
        self.by_status.add(&facts.statuses);
        self.add_usage(facts);
        if facts.failure.is_none()
            && let Some(latency) = facts.latency
        {
            self.latencies.record(latency);
        }
    }

    /// Counts the attempts for a row that is not finished: what they consumed was spent all the same.
    pub fn add_unfinished(&mut self, statuses: &StatusCounts, usage: Usage) {
        let attempts: u64 = statuses.0.values().sum();
        self.sent += attempts;
        self.retried += attempts.saturating_sub(1);
        self.by_status.add(statuses);
        self.usage += usage;
        self.wasted += usage.total();
    }

    fn add_usage(&mut self, facts: &Facts<'_>) {
        self.usage += facts.usage;
        self.wasted += if facts.failure.is_some() { facts.usage.total() } else { facts.wasted };
        self.rows_without_usage += u64::from(facts.failure.is_none() && facts.usage.is_unknown());
        self.unpriced_rows += u64::from(facts.attempts > 0 && facts.cost.is_none());
        let add_cost = |sum: &mut Option<Usd>| {
            if let Some(cost) = facts.cost {
                *sum.get_or_insert_default() += cost;
            }
        };
        add_cost(&mut self.cost);
        if facts.attempts > 0 || facts.failure.is_none() {
            let name = facts.model.as_deref().unwrap_or("unknown");
            if !self.by_model.contains_key(name) {
                self.by_model.insert(name.to_owned(), ModelTotals::default());
            }
            let Some(model) = self.by_model.get_mut(name) else { return };
            model.rows += 1;
            model.usage += facts.usage;
            add_cost(&mut model.cost);
        }
    }

    /// Answers a second in the last run.
    #[must_use]
    pub fn rows_per_second(&self) -> f64 {
        per_second(self.run.answered, self.run.wall)
    }

    /// Completion tokens a second in the last run.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        per_second(self.run.completion_tokens, self.run.wall)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is printed with a few digits")]
fn per_second(count: u64, wall: Duration) -> f64 {
    if wall.is_zero() { 0.0 } else { count as f64 / wall.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::accounting::FailedRow;

    fn facts(failed: bool, tokens: u64) -> Facts<'static> {
        let failure = || FailedRow {
            id: Cow::Owned(RowId::Text("a".into())),
            kind: FailureKind::Server,
            status: Some(500),
            message: "broken".into(),
        };
        Facts {
            failure: failed.then(failure),
            model: Some("m".into()),
            usage: Usage { total_tokens: Some(Tokens(tokens)), ..Usage::default() },
            wasted: Tokens(2),
            cost: None,
            attempts: 3,
            statuses: Cow::Owned(StatusCounts([(200, 1), (0, 2)].into())),
            latency: Some(Duration::from_millis(10)),
            cached: false,
            resumed: false,
        }
    }

    #[test]
    fn tokens_of_failed_rows_and_of_unused_answers_are_wasted_and_in_the_total() {
        let mut summary = Summary::default();
        summary.add(&facts(false, 10));
        summary.add(&facts(true, 7));
        assert_eq!(summary.usage.total_tokens, Some(Tokens(17)));
        assert_eq!(summary.wasted, Tokens(9));
        assert_eq!((summary.sent, summary.retried, summary.ok, summary.failed), (6, 4, 1, 1));
        assert_eq!(summary.by_status.0, [(200, 2), (0, 4)].into());
        assert_eq!(summary.unpriced_rows, 2);
        assert_eq!(summary.by_model["m"].rows, 2);
    }

    #[test]
    fn a_cached_row_costs_nothing() {
        let mut summary = Summary::default();
        summary.add(&Facts { cached: true, ..facts(false, 10) });
        assert_eq!((summary.rows, summary.cached, summary.sent), (1, 1, 0));
        assert!(summary.usage.is_unknown());
    }
}
