//! Totals as a ledger keeps them, exactly: what was counted once need not be read again.

use std::collections::BTreeMap;
use std::num::ParseIntError;

use serde::{Deserialize, Serialize};

use super::summary::{ErrorGroup, ModelTotals};
use super::{Latencies, Summary};
use crate::domain::{FailureKind, RowId, StatusCounts, Tokens, Usage, Usd};

/// All of a [`Summary`] but what concerns the last run alone.
#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    rows: u64,
    ok: u64,
    failed: u64,
    cached: u64,
    sent: u64,
    retried: u64,
    by_status: StatusCounts,
    usage: Usage,
    wasted: Tokens,
    rows_without_usage: u64,
    picodollars: Option<String>,
    unpriced_rows: u64,
    by_model: BTreeMap<String, SavedModel>,
    latencies: Latencies,
    errors: Vec<SavedErrors>,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedModel {
    rows: u64,
    usage: Usage,
    picodollars: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct SavedErrors {
    kind: FailureKind,
    status: Option<u16>,
    count: u64,
    id: RowId,
    message: String,
}

/// JSON has no whole numbers of this size.
fn written(cost: Option<Usd>) -> Option<String> {
    cost.map(|cost| cost.picodollars.to_string())
}

/// An amount, which a text that was no amount is not.
fn read(picodollars: Option<String>) -> Result<Option<Usd>, ParseIntError> {
    picodollars.map(|text| text.parse().map(|picodollars| Usd { picodollars })).transpose()
}

impl Summary {
    /// The totals as JSON.
    #[must_use]
    pub fn to_saved(&self) -> serde_json::Value {
        let model = |totals: &ModelTotals| SavedModel {
            rows: totals.rows,
            usage: totals.usage,
            picodollars: written(totals.cost),
        };
        let errors = self.errors.iter().map(|((kind, status), group)| SavedErrors {
            kind: *kind,
            status: *status,
            count: group.count,
            id: group.example_id.clone(),
            message: group.example_message.clone(),
        });
        let saved = Saved {
            rows: self.rows,
            ok: self.ok,
            failed: self.failed,
            cached: self.cached,
            sent: self.sent,
            retried: self.retried,
            by_status: self.by_status.clone(),
            usage: self.usage,
            wasted: self.wasted,
            rows_without_usage: self.rows_without_usage,
            picodollars: written(self.cost),
            unpriced_rows: self.unpriced_rows,
            by_model: self.by_model.iter().map(|(name, totals)| (name.clone(), model(totals))).collect(),
            latencies: self.latencies.clone(),
            errors: errors.collect(),
        };
        // Numbers and texts always serialise.
        serde_json::to_value(saved).unwrap_or_default()
    }

    /// Reads back what [`Summary::to_saved`] wrote, with all rows as those of an earlier run; `None` where it is not that.
    #[must_use]
    pub fn of_saved(saved: &serde_json::Value) -> Option<Self> {
        let saved = Saved::deserialize(saved).ok()?;
        let model = |(name, model): (String, SavedModel)| {
            let cost = read(model.picodollars).ok()?;
            Some((name, ModelTotals { rows: model.rows, usage: model.usage, cost }))
        };
        let errors = saved.errors.into_iter().map(|errors| {
            let group =
                ErrorGroup { count: errors.count, example_id: errors.id, example_message: errors.message };
            ((errors.kind, errors.status), group)
        });
        Some(Self {
            rows: saved.rows,
            ok: saved.ok,
            failed: saved.failed,
            cached: saved.cached,
            resumed: saved.rows,
            sent: saved.sent,
            retried: saved.retried,
            by_status: saved.by_status,
            usage: saved.usage,
            wasted: saved.wasted,
            rows_without_usage: saved.rows_without_usage,
            cost: read(saved.picodollars).ok()?,
            unpriced_rows: saved.unpriced_rows,
            by_model: saved.by_model.into_iter().map(model).collect::<Option<_>>()?,
            latencies: saved.latencies,
            errors: errors.collect(),
            run: super::RunFigures::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::time::Duration;

    use super::*;
    use crate::accounting::{Facts, FailedRow};

    #[test]
    fn totals_are_read_back_as_they_were() {
        let mut summary = Summary::default();
        for n in 0..100_u64 {
            let failure = || FailedRow {
                id: Cow::Owned(RowId::Number(n.to_string())),
                kind: FailureKind::Server,
                status: Some(500),
                message: "broken".into(),
            };
            summary.add(&Facts {
                failure: n.is_multiple_of(7).then(failure),
                model: Some(if n.is_multiple_of(2) { "a" } else { "b" }.into()),
                usage: Usage { total_tokens: Some(Tokens(n)), ..Usage::default() },
                wasted: Tokens(1),
                cost: n
                    .is_multiple_of(3)
                    .then_some(Usd { picodollars: u128::from(u64::MAX) + u128::from(n) }),
                attempts: 2,
                statuses: Cow::Owned(StatusCounts([(200, 1), (0, 1)].into())),
                latency: Some(Duration::from_micros(n * n * 997)),
                cached: false,
                resumed: true,
            });
        }
        let text = summary.to_saved().to_string();
        let again = Summary::of_saved(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(again.to_saved(), summary.to_saved());
        assert_eq!((again.rows, again.resumed, again.failed, again.cost), (100, 100, 15, summary.cost));
        for share in [0.0, 0.5, 0.9, 0.99, 1.0] {
            let quantiles =
                [&again, &summary].map(|summary| summary.latencies.quantile_ms(share).to_string());
            assert_eq!(quantiles[0], quantiles[1]);
        }
        assert_eq!(again.latencies.mean_ms().to_string(), summary.latencies.mean_ms().to_string());
        assert!(Summary::of_saved(&serde_json::json!({})).is_none());
    }
}
