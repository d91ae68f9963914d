//! A row of the output: written once, when its outcome is known, and read back by reports and other formats.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{
    Completion, Failure, FailureKind, Outcome, Record, RecordBody, RowId, TableRow, Usage, Usd,
};

/// How much of an outcome goes into its row.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    /// Whether the row as it came is part of it.
    pub with_input: bool,
}

#[derive(Serialize)]
struct Written<'a> {
    id: &'a RowId,
    index: u64,
    status: &'static str,
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<&'a [Option<String>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    finish_reason: Option<&'a str>,
    model: Option<&'a str>,
    usage: &'a Usage,
    cost_usd: Option<Usd>,
    attempts: u64,
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_ms: Option<f64>,
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Failure>,
}

impl Encoder {
    /// The row's JSON object, without a line break.
    #[must_use]
    pub fn encode(&self, outcome: &Outcome) -> Vec<u8> {
        let mut row = Vec::new();
        self.encode_into(outcome, &mut row);
        row
    }

    /// The same, behind what is there.
    pub fn encode_into(&self, outcome: &Outcome, row: &mut Vec<u8>) {
        let none = Completion::default();
        let (completion, error) = match &outcome.result {
            Ok(completion) => (completion, None),
            Err(failure) => (&none, Some(failure)),
        };
        let written = Written {
            id: &outcome.id,
            index: outcome.index,
            status: if error.is_none() { "ok" } else { "error" },
            output: completion.outputs.first().and_then(|text| text.as_deref()),
            outputs: (completion.outputs.len() > 1).then_some(&completion.outputs),
            tool_calls: completion.tool_calls.as_deref(),
            refusal: completion.refusal.as_deref(),
            reasoning: completion.reasoning.as_deref(),
            finish_reason: completion.finish_reason.as_deref(),
            model: outcome.model.as_deref(),
            usage: &outcome.spent.usage,
            cost_usd: outcome.spent.cost,
            attempts: outcome.spent.attempts,
            latency_ms: outcome.latency.map(milliseconds),
            ttft_ms: completion.ttft.map(milliseconds),
            cached: false,
            logprobs: completion.logprobs.as_deref(),
            response: completion.response.as_deref(),
            error,
        };
        // Strings, numbers and JSON that was parsed before: this cannot fail.
        let _ = serde_json::to_writer(&mut *row, &written);
        if let Some(record) = outcome.input.as_ref().filter(|_| self.with_input) {
            row.pop();
            row.extend_from_slice(b",\"input\":");
            row.extend_from_slice(input_json(record).as_bytes());
            row.push(b'}');
        }
    }
}

/// Milliseconds with three decimals, which is as fine as a clock over a network is worth.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The row as it came, as JSON: a JSON row in its own text, a table's row as an object of strings.
#[must_use]
pub fn input_json(record: &Record) -> Cow<'_, str> {
    match &record.body {
        // JSON allows a bare carriage return between its parts; in an output that ends a line for some readers.
        RecordBody::Json(text) if text.contains('\r') => Cow::Owned(text.replace('\r', " ")),
        RecordBody::Json(text) => Cow::Borrowed(text),
        RecordBody::Text(text) => Cow::Owned(serde_json::Value::from(text.as_str()).to_string()),
        RecordBody::Table(row) => Cow::Owned(table_json(row)),
    }
}

fn table_json(row: &TableRow) -> String {
    let mut json = String::with_capacity(row.cells.iter().map(|cell| cell.len() + 16).sum());
    json.push('{');
    for (column, cell) in row.columns.iter().zip(&row.cells) {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&serde_json::Value::from(column.as_str()).to_string());
        json.push(':');
        json.push_str(&serde_json::Value::from(cell.as_str()).to_string());
    }
    json.push('}');
    json
}

/// A row read back. What an older or later version left out is as if the server had not given it.
#[derive(Debug, Deserialize)]
pub struct StoredRow<'a> {
    /// The row's id, as JSON.
    #[serde(borrow)]
    pub id: &'a RawValue,
    /// The row's place in the input, from 0.
    #[serde(default)]
    pub index: u64,
    /// `ok` or `error`.
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    /// The answer.
    #[serde(default, borrow)]
    pub output: Option<&'a RawValue>,
    /// The answers, where there are several.
    #[serde(default, borrow)]
    pub outputs: Option<&'a RawValue>,
    /// Why the answer ended.
    #[serde(default, borrow)]
    pub finish_reason: Option<Text<'a>>,
    /// The model.
    #[serde(default, borrow)]
    pub model: Option<Text<'a>>,
    /// What the row consumed.
    #[serde(default)]
    pub usage: Usage,
    /// What the row cost.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// Requests that reached the server.
    #[serde(default)]
    pub attempts: u64,
    /// How long the last request took.
    #[serde(default)]
    pub latency_ms: Option<f64>,
    /// Whether the answer came from the cache.
    #[serde(default)]
    pub cached: bool,
    /// Why there is no answer.
    #[serde(default)]
    pub error: Option<StoredError>,
    /// The row as it came.
    #[serde(default, borrow)]
    pub input: Option<&'a RawValue>,
}

/// A text, not copied where it needs no unescaping.
#[derive(Clone, Debug, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// A failure read back; kinds of later versions are read as a server's.
#[derive(Debug, Deserialize)]
pub struct StoredError {
    /// The kind.
    pub kind: FailureKind,
    /// What happened.
    #[serde(default)]
    pub message: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: Option<u16>,
}

impl<'a> StoredRow<'a> {
    /// Reads a row.
    ///
    /// # Errors
    /// The text is no row of an output.
    pub fn parse(row: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(row)
    }

    /// The row's id.
    #[must_use]
    pub fn id(&self) -> RowId {
        serde_json::from_str(self.id.get()).unwrap_or_else(|_| RowId::Text(self.id.get().to_owned()))
    }
}
