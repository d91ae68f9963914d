//! What a reader of one format looks like from outside, and which one reads what.

use std::io;

use super::bytes::ByteStream;
use super::csv_records::RecordReader;
use super::json::JsonSource;
use super::lines::{LineSource, LinesAre};
use super::table::TableSource;
use super::{Format, RowFault};
use crate::domain::RecordBody;

/// Reads the rows of one file. To stand on a row and to build it are two steps, so that counting rows builds none.
pub trait Source: Send {
    /// Goes on to the next row; `false` at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read any further; there is no row after that.
    fn advance(&mut self) -> Result<bool, SourceError>;

    /// The row that [`Source::advance`] went to.
    fn row(&self) -> SourceRow;
}

/// A row of one file.
#[derive(Debug)]
pub struct SourceRow {
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// The row, or what is wrong with it.
    pub content: Result<RecordBody, RowFault>,
}

/// Why a file cannot be read any further.
#[derive(Debug)]
pub enum SourceError {
    /// The bytes could not be had.
    Read {
        /// The line, from 1.
        line: u64,
        /// What the system or the decompressor said.
        error: io::Error,
    },
    /// The file as a whole is not in its format.
    Malformed {
        /// The line, from 1.
        line: u64,
        /// What was expected.
        message: String,
    },
}

/// The reader of a format.
pub(super) fn source(format: Format, bytes: ByteStream, max_row_bytes: u64) -> Box<dyn Source> {
    let table =
        |delimiter, bytes| Box::new(TableSource::new(RecordReader::new(bytes, delimiter, max_row_bytes)));
    match format {
        Format::Jsonl => Box::new(LineSource::new(bytes, LinesAre::Json, max_row_bytes)),
        Format::Txt => Box::new(LineSource::new(bytes, LinesAre::Text, max_row_bytes)),
        Format::Json => Box::new(JsonSource::new(bytes, max_row_bytes)),
        Format::Csv => table(b',', bytes),
        Format::Tsv => table(b'\t', bytes),
    }
}
