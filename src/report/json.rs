//! The report as JSON, for scripts: its names do not change.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::accounting::{Latencies, Summary};
use crate::domain::{EndpointFigures, RowId, StatusCounts, Usage};

#[derive(Serialize)]
struct Report<'a> {
    rows: Rows,
    requests: Requests,
    usage: Totals,
    cost: Cost,
    by_model: Vec<Model<'a>>,
    latency_ms: Latency,
    throughput: Throughput,
    errors: Vec<Error<'a>>,
    endpoints: &'a [EndpointFigures],
    wall_s: f64,
}

#[derive(Serialize)]
struct Rows {
    total: u64,
    ok: u64,
    failed: u64,
    cached: u64,
    resumed: u64,
}

#[derive(Serialize)]
struct Requests {
    sent: u64,
    retried: u64,
    by_status: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Totals {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    cached_tokens: u64,
    reasoning_tokens: u64,
    wasted_tokens: u64,
    /// Answered rows for which the server gave no usage: the totals lack theirs.
    rows_without_usage: u64,
}

#[derive(Serialize)]
struct Cost {
    total_usd: f64,
    unpriced_rows: u64,
}

#[derive(Serialize)]
struct Model<'a> {
    model: &'a str,
    rows: u64,
    usage: Usage,
    cost_usd: Option<f64>,
}

#[derive(Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct Throughput {
    rows_per_s: f64,
    completion_tokens_per_s: f64,
}

#[derive(Serialize)]
struct Error<'a> {
    kind: &'static str,
    status: Option<u16>,
    count: u64,
    example: Example<'a>,
}

#[derive(Serialize)]
struct Example<'a> {
    id: &'a RowId,
    message: &'a str,
}

/// The report as JSON, indented, with a line break at its end.
#[must_use]
pub fn to_json(summary: &Summary) -> String {
    let report = Report {
        rows: Rows {
            total: summary.rows,
            ok: summary.ok,
            failed: summary.failed,
            cached: summary.cached,
            resumed: summary.resumed,
        },
        requests: Requests {
            sent: summary.sent,
            retried: summary.retried,
            by_status: named(&summary.by_status),
        },
        usage: totals(summary),
        cost: Cost {
            total_usd: summary.cost.unwrap_or_default().dollars(),
            unpriced_rows: summary.unpriced_rows,
        },
        by_model: by_model(summary),
        latency_ms: latency(&summary.latencies),
        throughput: Throughput {
            rows_per_s: rounded(summary.rows_per_second()),
            completion_tokens_per_s: rounded(summary.tokens_per_second()),
        },
        errors: errors(summary),
        endpoints: &summary.run.endpoints,
        wall_s: rounded(summary.run.wall.as_secs_f64()),
    };
    // Strings and numbers always serialise.
    let mut json = serde_json::to_string_pretty(&report).unwrap_or_default();
    json.push('\n');
    json
}

/// Statuses as text; `none` for requests that reached the server and brought no status back.
pub(super) fn named(statuses: &StatusCounts) -> BTreeMap<String, u64> {
    let name = |status: u16| if status == 0 { "none".to_owned() } else { status.to_string() };
    statuses.0.iter().map(|(status, count)| (name(*status), *count)).collect()
}

fn totals(summary: &Summary) -> Totals {
    let number = |tokens: Option<crate::domain::Tokens>| tokens.unwrap_or_default().0;
    Totals {
        prompt_tokens: number(summary.usage.prompt_tokens),
        completion_tokens: number(summary.usage.completion_tokens),
        total_tokens: number(summary.usage.total_tokens),
        cached_tokens: number(summary.usage.cached_tokens),
        reasoning_tokens: number(summary.usage.reasoning_tokens),
        wasted_tokens: summary.wasted.0,
        rows_without_usage: summary.rows_without_usage,
    }
}

fn by_model(summary: &Summary) -> Vec<Model<'_>> {
    summary
        .by_model
        .iter()
        .map(|(name, totals)| Model {
            model: name,
            rows: totals.rows,
            usage: totals.usage,
            cost_usd: totals.cost.map(crate::domain::Usd::dollars),
        })
        .collect()
}

fn latency(latencies: &Latencies) -> Latency {
    let quantile = |share| rounded(latencies.quantile_ms(share));
    Latency {
        mean: rounded(latencies.mean_ms()),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        max: quantile(1.0),
    }
}

fn errors(summary: &Summary) -> Vec<Error<'_>> {
    summary
        .errors
        .iter()
        .map(|((kind, status), group)| Error {
            kind: kind.name(),
            status: *status,
            count: group.count,
            example: Example { id: &group.example_id, message: &group.example_message },
        })
        .collect()
}

/// Three decimals are as fine as a clock is worth.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
