//! The report for a terminal or a log: 80 columns, no colour.

use std::fmt::Write as _;

use super::json::named;
use super::number::{count, duration, milliseconds};
use crate::accounting::Summary;
use crate::domain::{EndpointFigures, Tokens};

/// The longest example of an error that is shown, in characters.
const LONGEST_EXAMPLE: usize = 200;

/// The report in a few lines, each ended.
#[must_use]
pub fn to_text(summary: &Summary) -> String {
    let mut text = String::new();
    for (name, line) in lines(summary) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<11}{line}");
    }
    text
}

fn lines(summary: &Summary) -> Vec<(&'static str, String)> {
    let mut lines = vec![("rows", rows(summary))];
    if summary.sent > 0 {
        lines.push(("requests", requests(summary)));
        lines.push(("tokens", tokens(summary)));
        lines.push(("cost", cost(summary)));
    }
    if summary.ok > summary.cached {
        lines.push(("latency", latency(summary)));
    }
    if summary.run.answered > 0 {
        let rows = format!("{:.1} rows/s", summary.rows_per_second());
        lines.push(("speed", format!("{rows}, {:.0} completion tokens/s", summary.tokens_per_second())));
    }
    match summary.run.endpoints.as_slice() {
        unused if unused.iter().all(|endpoint| endpoint.requests == 0) => {}
        [one] => lines.push(("pace", pace(one))),
        several => lines.extend(several.iter().map(|endpoint| {
            let used =
                format!("{}: {} requests, {}", endpoint.base_url, count(endpoint.requests), pace(endpoint));
            ("endpoint", used)
        })),
    }
    if summary.by_model.len() > 1 {
        for (name, totals) in &summary.by_model {
            let total = count(totals.usage.total().0);
            lines.push(("model", format!("{name}: {} rows, {total} tokens", count(totals.rows))));
        }
    }
    for ((kind, status), group) in &summary.errors {
        let status = status.map_or_else(String::new, |status| format!(" ({status})"));
        let example: String = group.example_message.chars().take(LONGEST_EXAMPLE).collect();
        let id = &group.example_id;
        lines.push((
            "failed",
            format!("{} x {kind}{status}, for example row {id}: {example}", count(group.count)),
        ));
    }
    lines
}

fn rows(summary: &Summary) -> String {
    let mut text = format!(
        "{} in {}: {} ok, {} failed",
        count(summary.rows),
        duration(summary.run.wall),
        count(summary.ok),
        count(summary.failed)
    );
    if summary.resumed > 0 {
        let _ = write!(text, ", {} kept from before", count(summary.resumed));
    }
    if summary.cached > 0 {
        let _ = write!(text, ", {} from the cache", count(summary.cached));
    }
    text
}

fn requests(summary: &Summary) -> String {
    let statuses: Vec<String> = named(&summary.by_status)
        .into_iter()
        .map(|(status, number)| match status.as_str() {
            "none" => format!("no answer: {}", count(number)),
            _ => format!("{status}: {}", count(number)),
        })
        .collect();
    format!(
        "{} sent, {} of them retries ({})",
        count(summary.sent),
        count(summary.retried),
        statuses.join(", ")
    )
}

fn tokens(summary: &Summary) -> String {
    let part = |tokens: Option<Tokens>| tokens.map_or_else(|| "unknown".to_owned(), |tokens| count(tokens.0));
    let usage = &summary.usage;
    let mut text = format!("{} prompt", part(usage.prompt_tokens));
    if let Some(cached) = usage.cached_tokens.filter(|cached| cached.0 > 0) {
        let _ = write!(text, " ({} cached)", count(cached.0));
    }
    let _ = write!(text, " + {} completion", part(usage.completion_tokens));
    if let Some(reasoning) = usage.reasoning_tokens.filter(|reasoning| reasoning.0 > 0) {
        let _ = write!(text, " ({} reasoning)", count(reasoning.0));
    }
    let _ = write!(text, " = {}", part(usage.total_tokens));
    if summary.wasted.0 > 0 {
        let _ = write!(text, ", of which {} wasted", count(summary.wasted.0));
    }
    if summary.rows_without_usage > 0 {
        let _ = write!(text, "; the server gave no usage for {} rows", count(summary.rows_without_usage));
    }
    text
}

fn cost(summary: &Summary) -> String {
    match (summary.cost, summary.unpriced_rows) {
        (None, _) => "unknown: no price is known for the model".to_owned(),
        (Some(cost), 0) => format!("{:.6} USD", cost.dollars()),
        (Some(cost), rows) => format!("{:.6} USD and {} rows of unknown price", cost.dollars(), count(rows)),
    }
}

/// How an endpoint was kept busy, and what limits it has.
pub(super) fn pace(endpoint: &EndpointFigures) -> String {
    let found = if endpoint.adaptive { ", found by itself" } else { "" };
    let most = count(endpoint.most_in_flight);
    let mut text = format!("at most {most} in flight (limit {}{found})", count(endpoint.concurrency));
    let limits = [("requests", endpoint.requests_per_minute), ("tokens", endpoint.tokens_per_minute)];
    for (what, limit) in limits {
        if let Some(limit) = limit {
            let learned = if limit.learned { " (learned)" } else { "" };
            let _ = write!(text, ", {} {what}/min{learned}", count(limit.per_minute));
        }
    }
    if endpoint.refused > 0 {
        let _ = write!(text, ", {} refused", count(endpoint.refused));
    }
    text
}

fn latency(summary: &Summary) -> String {
    let at = |share| milliseconds(summary.latencies.quantile_ms(share));
    format!("p50 {}, p90 {}, p99 {}, max {}", at(0.5), at(0.9), at(0.99), at(1.0))
}
