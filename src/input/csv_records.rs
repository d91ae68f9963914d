//! Records of CSV and TSV in bounded memory, and the line on which each begins. It knows nothing of headers.

use std::io::{self, BufRead};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::RowFault;
use super::bytes::ByteStream;

/// What the buffers begin with: cells' bytes and number of cells.
const CELL_BYTES: usize = 4 << 10;
const CELLS: usize = 32;
/// The longest line ending, in bytes.
const LINE_ENDING: u64 = 2;

/// Reads one record at a time and holds it until the next.
pub(super) struct RecordReader {
    bytes: ByteStream,
    parser: Reader,
    delimiter: u8,
    max_row_bytes: u64,
    /// The line that the next byte is on, from 1.
    line: u64,
    record: HeldRecord,
}

/// The record that was read last.
struct HeldRecord {
    /// The line on which it begins, from 1.
    line: u64,
    /// Its text as it stands in the file, line ending included; its beginning if it is too long.
    raw: Vec<u8>,
    cells: Vec<u8>,
    cells_len: usize,
    /// Where in `cells` each cell ends.
    ends: Vec<usize>,
    ends_len: usize,
    too_long: bool,
    /// The file ended within a quoted cell.
    unclosed: bool,
    blank: bool,
}

impl RecordReader {
    pub(super) fn new(bytes: ByteStream, delimiter: u8, max_row_bytes: u64) -> Self {
        let parser = ReaderBuilder::new().delimiter(delimiter).build();
        Self { bytes, parser, delimiter, max_row_bytes, line: 1, record: HeldRecord::new() }
    }

    /// Goes on to the next record that is not blank; `false` at the end.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        loop {
            self.skip_line_endings()?;
            self.record.clear(self.line);
            if !self.read_record()? {
                return Ok(false);
            }
            if !self.record.blank || self.record.too_long {
                return Ok(true);
            }
        }
    }

    /// The line that reading has come to, from 1.
    pub(super) fn current_line(&self) -> u64 {
        self.line
    }

    /// The line on which the record begins, from 1.
    pub(super) fn record_line(&self) -> u64 {
        self.record.line
    }

    /// The record as it stands in the file, without its line ending.
    pub(super) fn raw(&self) -> &[u8] {
        let raw = &self.record.raw;
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        raw.strip_suffix(b"\r").unwrap_or(raw)
    }

    /// How many cells the record has, or why it is none.
    pub(super) fn cell_count(&self) -> Result<usize, RowFault> {
        if self.record.unclosed {
            return Err(RowFault::new("quoted field is never closed", self.raw()));
        }
        if self.record.too_long || self.raw().len() as u64 > self.max_row_bytes {
            return Err(RowFault::too_long(self.max_row_bytes, self.raw()));
        }
        Ok(self.record.ends_len)
    }

    /// The cells, in order.
    pub(super) fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let ends = &self.record.ends[..self.record.ends_len];
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts.zip(ends).map(|(start, end)| &self.record.cells[start..*end])
    }

    /// The parser passes over empty lines silently: passed over here, they are counted.
    fn skip_line_endings(&mut self) -> io::Result<()> {
        loop {
            let chunk = fill(&mut self.bytes)?;
            let endings = chunk.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if endings == 0 {
                return Ok(());
            }
            self.line += newlines(&chunk[..endings]);
            self.bytes.consume(endings);
        }
    }

    fn read_record(&mut self) -> io::Result<bool> {
        loop {
            let chunk = fill(&mut self.bytes)?;
            let at_end = chunk.is_empty();
            if at_end && self.record.raw.is_empty() {
                return Ok(false);
            }
            // A line break ends every record but one within quotes: that tells how the file ended.
            let chunk = if at_end { b"\n" } else { chunk };
            let (result, used) = self.record.parse(&mut self.parser, chunk);
            if !at_end {
                self.line += newlines(&chunk[..used]);
                self.record.note(&chunk[..used], self.delimiter, self.max_row_bytes);
                self.bytes.consume(used);
            }
            match result {
                ReadRecordResult::Record => return Ok(true),
                ReadRecordResult::End => return Ok(false),
                ReadRecordResult::InputEmpty if at_end => {
                    self.record.unclosed = true;
                    return Ok(true);
                }
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => self.record.make_room(),
            }
        }
    }
}

impl HeldRecord {
    fn new() -> Self {
        Self {
            line: 1,
            raw: Vec::new(),
            cells: vec![0; CELL_BYTES],
            cells_len: 0,
            ends: vec![0; CELLS],
            ends_len: 0,
            too_long: false,
            unclosed: false,
            blank: true,
        }
    }

    fn clear(&mut self, line: u64) {
        self.line = line;
        self.raw.clear();
        self.cells_len = 0;
        self.ends_len = 0;
        self.too_long = false;
        self.unclosed = false;
        self.blank = true;
    }

    /// Feeds the parser; says how much of the chunk it used.
    fn parse(&mut self, parser: &mut Reader, chunk: &[u8]) -> (ReadRecordResult, usize) {
        let (cells, ends) = (&mut self.cells[self.cells_len..], &mut self.ends[self.ends_len..]);
        let (result, used, cells, ends) = parser.read_record(chunk, cells, ends);
        self.cells_len += cells;
        self.ends_len += ends;
        (result, used)
    }

    /// Keeps the record's text up to the limit.
    fn note(&mut self, bytes: &[u8], delimiter: u8, max_row_bytes: u64) {
        self.blank = self.blank && bytes.iter().all(|byte| byte.is_ascii_whitespace() && *byte != delimiter);
        let limit = usize::try_from(max_row_bytes.saturating_add(LINE_ENDING)).unwrap_or(usize::MAX);
        let room = limit.saturating_sub(self.raw.len());
        self.too_long |= bytes.len() > room;
        self.raw.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// What is too long is not kept: its cells are overwritten by those behind them.
    fn make_room(&mut self) {
        if self.too_long {
            self.cells_len = 0;
            self.ends_len = 0;
            return;
        }
        if self.cells_len == self.cells.len() {
            self.cells.resize(self.cells.len() * 2, 0);
        }
        if self.ends_len == self.ends.len() {
            self.ends.resize(self.ends.len() * 2, 0);
        }
    }
}

/// What is buffered, or the next read; empty at the end.
fn fill(bytes: &mut ByteStream) -> io::Result<&[u8]> {
    // The borrow checker does not let a loop return what `fill_buf` lends: first fill, then lend.
    while let Err(error) = bytes.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(bytes.buffer())
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}
