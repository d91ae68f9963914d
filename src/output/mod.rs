//! Outcomes as rows of an output: JSON lines, or a table with the input's own columns.

mod csv;
mod row;

use std::io::{self, Write};

pub use self::csv::{CsvSink, OwnCells, own_columns};
pub use row::{Encoder, StoredError, StoredRow, Text, input_json};

/// The formats of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// A JSON object a line.
    Jsonl,
    /// A table.
    Csv,
}

impl OutputFormat {
    /// All of them, in the order in which they are listed for people.
    pub const ALL: [Self; 2] = [Self::Jsonl, Self::Csv];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}

/// Where finished rows go, one after the other.
pub trait Sink {
    /// Writes a row, given as the text of its JSON object.
    ///
    /// # Errors
    /// The disk is full, the pipe is closed, or the row is no row.
    fn row(&mut self, row: &[u8]) -> io::Result<()>;

    /// Writes what is still held.
    ///
    /// # Errors
    /// As for a row.
    fn finish(&mut self) -> io::Result<()>;
}

/// JSON lines: the rows as they are.
#[derive(Debug)]
pub struct JsonlSink<W: Write>(pub W);

impl<W: Write> Sink for JsonlSink<W> {
    fn row(&mut self, row: &[u8]) -> io::Result<()> {
        self.0.write_all(row)?;
        self.0.write_all(b"\n")
    }

    fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
