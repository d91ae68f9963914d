//! The end of a run: the output, whole and in order, from the ledger.

use std::io::{self, BufWriter};

use super::recording::RESUMED;
use super::replay::facts_of;
use super::{FileTarget, Selection};
use crate::accounting::Summary;
use crate::ledger::{Ledger, LedgerError, LineAt, row_of, with_index};
use crate::output::{CsvSink, JsonlSink, OutputFormat, Sink};

/// Writes the rows that are finished, and counts those that earlier runs answered.
pub(super) fn finish(
    ledger: &Ledger,
    target: &FileTarget,
    places: &[u64],
    columns: &[String],
    selection: Selection,
    summary: &mut Summary,
) -> Result<(), LedgerError> {
    let path = ledger.path();
    let io_error = |action: &'static str| {
        let path = path.clone();
        move |source: io::Error| LedgerError::Io { action, path, source }
    };
    let file = ledger.create_output()?;
    let writer = BufWriter::with_capacity(256 * 1024, &file);
    let mut sink: Box<dyn Sink> = match target.format {
        OutputFormat::Jsonl => Box::new(JsonlSink(writer)),
        OutputFormat::Csv => {
            Box::new(CsvSink::new(writer, columns.to_vec()).map_err(io_error("write the output of"))?)
        }
    };
    let mut lines = LineAt::open(&path).map_err(io_error("read"))?;
    for (slot, place) in in_order(places, target.input_order) {
        let line = lines.line(place & !RESUMED).map_err(io_error("read"))?;
        let row = row_of(line).ok_or(io::ErrorKind::InvalidData.into()).map_err(io_error("read"))?;
        let written = if place & RESUMED == 0 {
            sink.row(row)
        } else {
            let row = with_index(row, selection.offset + slot);
            if let Some(facts) = facts_of(line, true) {
                summary.add(&facts);
            }
            sink.row(&row)
        };
        written.map_err(io_error("write the output of"))?;
    }
    sink.finish().map_err(io_error("write the output of"))?;
    drop(sink);
    ledger.publish_output(&file)
}

/// The rows that are finished: by their place in the input, or in the ledger.
fn in_order(places: &[u64], input_order: bool) -> Vec<(u64, u64)> {
    let mut rows: Vec<(u64, u64)> =
        (0..).zip(places.iter().copied()).filter(|(_, place)| *place != 0).collect();
    if !input_order {
        rows.sort_unstable_by_key(|(_, place)| place & !RESUMED);
    }
    rows
}
