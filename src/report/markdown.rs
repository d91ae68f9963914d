//! The report as Markdown, for a pull request or a wiki.

use std::fmt::Write as _;

use super::json::named;
use super::number::{count, duration, milliseconds};
use super::text::pace;
use crate::accounting::Summary;
use crate::domain::Tokens;

/// The report as Markdown. Words of servers and rows are escaped: they form no table, link or tag of their own.
#[must_use]
pub fn to_markdown(summary: &Summary) -> String {
    let mut text = String::from("# promptmill report\n\n");
    table(&mut text, ["", "value"], &headline(summary));
    text.push_str("## Requests\n\n");
    let statuses: Vec<[String; 2]> =
        named(&summary.by_status).into_iter().map(|(status, number)| [status, count(number)]).collect();
    table(&mut text, ["status", "requests"], &statuses);
    text.push_str("## Models\n\n");
    let models: Vec<[String; 5]> = summary.by_model.iter().map(model).collect();
    table(&mut text, ["model", "rows", "prompt tokens", "completion tokens", "cost (USD)"], &models);
    if summary.run.endpoints.iter().any(|endpoint| endpoint.requests > 0) {
        text.push_str("## Endpoints\n\n");
        let endpoints: Vec<[String; 3]> = summary
            .run
            .endpoints
            .iter()
            .map(|endpoint| [escaped(&endpoint.base_url), count(endpoint.requests), pace(endpoint)])
            .collect();
        table(&mut text, ["endpoint", "requests", "pace"], &endpoints);
    }
    if !summary.errors.is_empty() {
        text.push_str("## Failures\n\n");
        let failures: Vec<[String; 5]> = summary
            .errors
            .iter()
            .map(|((kind, status), group)| {
                let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                let (id, message) = (escaped(&group.example_id.to_string()), escaped(&group.example_message));
                [kind.to_string(), status, count(group.count), id, message]
            })
            .collect();
        table(&mut text, ["kind", "status", "rows", "example", "message"], &failures);
    }
    text
}

fn headline(summary: &Summary) -> Vec<[String; 2]> {
    let tokens =
        |tokens: Option<Tokens>| tokens.map_or_else(|| "unknown".to_owned(), |tokens| count(tokens.0));
    let at = |share| milliseconds(summary.latencies.quantile_ms(share));
    let usage = &summary.usage;
    [
        ("rows", count(summary.rows)),
        ("ok", count(summary.ok)),
        ("failed", count(summary.failed)),
        ("kept from earlier runs", count(summary.resumed)),
        ("requests", format!("{} ({} of them retries)", count(summary.sent), count(summary.retried))),
        ("prompt tokens", tokens(usage.prompt_tokens)),
        ("of which cached", tokens(usage.cached_tokens)),
        ("completion tokens", tokens(usage.completion_tokens)),
        ("of which reasoning", tokens(usage.reasoning_tokens)),
        ("total tokens", tokens(usage.total_tokens)),
        ("wasted tokens", count(summary.wasted.0)),
        ("rows without usage", count(summary.rows_without_usage)),
        (
            "cost (USD)",
            summary.cost.map_or_else(|| "unknown".to_owned(), |cost| format!("{:.6}", cost.dollars())),
        ),
        ("rows of unknown price", count(summary.unpriced_rows)),
        ("latency", format!("p50 {}, p90 {}, p99 {}, max {}", at(0.5), at(0.9), at(0.99), at(1.0))),
        ("rows a second", format!("{:.1}", summary.rows_per_second())),
        ("completion tokens a second", format!("{:.0}", summary.tokens_per_second())),
        ("time", duration(summary.run.wall)),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .to_vec()
}

fn model((name, totals): (&String, &crate::accounting::ModelTotals)) -> [String; 5] {
    [
        escaped(name),
        count(totals.rows),
        count(totals.usage.prompt_tokens.unwrap_or_default().0),
        count(totals.usage.completion_tokens.unwrap_or_default().0),
        totals.cost.map_or_else(|| "unknown".to_owned(), |cost| format!("{:.6}", cost.dollars())),
    ]
}

fn table<const N: usize>(text: &mut String, header: [&str; N], rows: &[[String; N]]) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| {} |", header.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
}

fn escaped(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' => text.extend(['\\', c]),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_answer_forms_no_table_and_no_tag() {
        assert_eq!(escaped("a|b <script>\n`x`"), "a\\|b &lt;script&gt; \\`x\\`");
    }
}
