//! A table: the input's own columns unchanged, then ours.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Sink, StoredRow};

/// What stands behind the input's columns.
const OURS: [&str; 11] = [
    "output",
    "status",
    "finish_reason",
    "model",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost_usd",
    "attempts",
    "latency_ms",
    "error",
];

/// What one of our columns is called where the input has one of that name.
const PREFIX: &str = "pm_";

/// Names of our columns beside these of the input. Without input columns, the id stands first, so that a row can be
/// told from another.
#[must_use]
pub fn own_columns(input: &[String]) -> Vec<String> {
    let taken = |name: &str| input.iter().any(|column| column == name);
    let id = input.is_empty().then(|| "id".to_owned());
    let ours = OURS.iter().map(|name| {
        let mut name = (*name).to_owned();
        while taken(&name) {
            name.insert_str(0, PREFIX);
        }
        name
    });
    id.into_iter().chain(ours).collect()
}

/// Our columns in a table that was written here, to read it back.
#[derive(Clone, Debug)]
pub struct OwnCells {
    places: [Option<usize>; OURS.len()],
    id: Option<usize>,
}

impl OwnCells {
    /// Finds them in the header: the last columns of their names, or of their names with the prefix. `None` where the
    /// table is none of ours.
    #[must_use]
    pub fn of(header: &csv::StringRecord) -> Option<Self> {
        let columns: Vec<&str> = header.iter().map(|column| column.trim_start_matches(PREFIX)).collect();
        let place = |name: &str| columns.iter().rposition(|column| *column == name);
        let cells = Self { places: OURS.map(place), id: place("id") };
        cells.places.iter().all(Option::is_some).then_some(cells)
    }

    /// A cell by the name of its column; `None` for an empty one.
    #[must_use]
    pub fn get<'a>(&self, record: &'a csv::StringRecord, name: &str) -> Option<&'a str> {
        let place = match OURS.iter().position(|ours| *ours == name) {
            Some(at) => self.places[at],
            None => self.id.filter(|_| name == "id"),
        };
        record.get(place?).filter(|cell| !cell.is_empty())
    }
}

/// Rows as a table (RFC 4180, quoted where needed).
#[derive(Debug)]
pub struct CsvSink<W: Write> {
    writer: csv::Writer<W>,
    columns: Vec<String>,
}

impl<W: Write> CsvSink<W> {
    /// Starts a table with these columns of the input.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn new(output: W, columns: Vec<String>) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(output);
        writer.write_record(columns.iter().chain(&own_columns(&columns)))?;
        Ok(Self { writer, columns })
    }
}

impl<W: Write> Sink for CsvSink<W> {
    fn row(&mut self, row: &[u8]) -> io::Result<()> {
        let stored = StoredRow::parse(row)?;
        let mut cells = input_cells(stored.input, &self.columns);
        if self.columns.is_empty() {
            cells.push(stored.id().to_string());
        }
        let number =
            |tokens: Option<crate::domain::Tokens>| tokens.map_or_else(String::new, |n| n.to_string());
        let error = stored.error.as_ref().map(|error| format!("{}: {}", error.kind, error.message));
        cells.extend([
            text(stored.outputs.or(stored.output)),
            stored.status.into_owned(),
            stored.finish_reason.map_or_else(String::new, |text| text.0.into_owned()),
            stored.model.map_or_else(String::new, |text| text.0.into_owned()),
            number(stored.usage.prompt_tokens),
            number(stored.usage.completion_tokens),
            number(stored.usage.total_tokens),
            stored.cost_usd.map_or_else(String::new, |usd| usd.to_string()),
            stored.attempts.to_string(),
            stored.latency_ms.map_or_else(String::new, |ms| ms.to_string()),
            error.unwrap_or_default(),
        ]);
        Ok(self.writer.write_record(&cells)?)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn input_cells(input: Option<&RawValue>, columns: &[String]) -> Vec<String> {
    if columns.is_empty() {
        return Vec::new();
    }
    let members: std::collections::HashMap<String, &RawValue> =
        input.and_then(|input| serde_json::from_str(input.get()).ok()).unwrap_or_default();
    // A row that is one text stands in the first column; it has no other.
    if members.is_empty()
        && let Some(text_row) = input.filter(|input| input.get().starts_with('"'))
    {
        let mut cells = vec![String::new(); columns.len()];
        cells[0] = text(Some(text_row));
        return cells;
    }
    columns.iter().map(|column| text(members.get(column).copied())).collect()
}

/// A JSON string's text, any other value as JSON, nothing for null.
fn text(raw: Option<&RawValue>) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Cell {
        Text(String),
        Nothing(()),
    }
    match raw.map(|raw| (raw, serde_json::from_str(raw.get()))) {
        None | Some((_, Ok(Cell::Nothing(())))) => String::new(),
        Some((_, Ok(Cell::Text(text)))) => text,
        Some((raw, Err(_))) => raw.get().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_the_input_come_out_as_they_went_in_and_ours_give_way() {
        let mut table = Vec::new();
        let columns = vec!["prompt".to_owned(), "output".to_owned(), "n".to_owned()];
        let mut sink = CsvSink::new(&mut table, columns).unwrap();
        let input = r#"{"prompt":"a \"b\",\r\nc\u0001","output":" x ","n":1.50}"#;
        let row =
            format!(r#"{{"id":"1","index":0,"status":"ok","output":"é\n","attempts":1,"input":{input}}}"#);
        sink.row(row.as_bytes()).unwrap();
        sink.finish().unwrap();
        drop(sink);
        let mut reader = csv::Reader::from_reader(&table[..]);
        assert_eq!(reader.headers().unwrap().iter().nth(3), Some("pm_output"));
        let cells = reader.records().next().unwrap().unwrap();
        assert_eq!(
            cells.iter().take(5).collect::<Vec<_>>(),
            ["a \"b\",\r\nc\u{1}", " x ", "1.50", "é\n", "ok"]
        );
    }
}
