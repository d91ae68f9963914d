//! Reading what is on disk: lines from front to back, single ones by their place, and rows wherever they are kept.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::line::short;
use super::row::STORED;
use super::{Entry, Head, LedgerError, row_of};

/// Bytes read at once.
const BLOCK: u64 = 256 * 1024;

/// Blocks held. Rows are asked for in the order of the input and stand in the order in which they were finished:
/// close by, but not side by side.
const BLOCKS: usize = 8;

/// The whole lines of a file, one after the other, each with its place.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<File>,
    offset: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Reads a file from its beginning.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let reader = BufReader::with_capacity(4 * 256 * 1024, File::open(path)?);
        Ok(Self { reader, offset: 0, line: Vec::new() })
    }

    /// The next line with its place. A torn last line, one without its end, is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        self.line.clear();
        let read = self.reader.read_until(b'\n', &mut self.line)?;
        if self.line.last() != Some(&b'\n') {
            return Ok(None);
        }
        let start = self.offset;
        self.offset += read as u64;
        Ok(Some((start, &self.line)))
    }

    /// Where the last whole line ended.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset
    }
}

/// Single lines of a file by their place.
#[derive(Debug)]
struct LineAt {
    file: File,
    /// The one used last comes first.
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
}

impl LineAt {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, blocks: Vec::new() })
    }

    /// The line that begins at this place, with its end.
    fn line(&mut self, offset: u64) -> io::Result<&[u8]> {
        let start = offset - offset % BLOCK;
        match self.blocks.iter().position(|block| block.start == start) {
            Some(place) => self.blocks[..=place].rotate_right(1),
            None => {
                let mut block = match self.blocks.len() {
                    BLOCKS => self.blocks.pop().unwrap_or_else(|| Block::at(start)),
                    _ => Block::at(start),
                };
                (block.start, block.bytes) = (start, Vec::new());
                self.blocks.insert(0, block);
            }
        }
        let block = &mut self.blocks[0];
        let from = usize::try_from(offset - start).map_err(|_| io::ErrorKind::InvalidData)?;
        loop {
            let behind = block.bytes.get(from..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', behind) {
                return Ok(&self.blocks[0].bytes[from..=from + end]);
            }
            if !block.grow(&mut self.file)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Block {
    fn at(start: u64) -> Self {
        Self { start, bytes: Vec::new() }
    }

    /// Reads on: the block, or the end of a line that reaches beyond it. `false` at the end of the file.
    fn grow(&mut self, file: &mut File) -> io::Result<bool> {
        file.seek(SeekFrom::Start(self.start + self.bytes.len() as u64))?;
        Ok(file.take(BLOCK).read_to_end(&mut self.bytes)? > 0)
    }
}

/// Finished rows by the place of their line in the ledger, whether the ledger holds them or the output does.
#[derive(Debug)]
pub struct StoredRows {
    ledger_path: PathBuf,
    output_path: PathBuf,
    ledger: LineAt,
    output: Option<LineAt>,
}

impl StoredRows {
    /// Opens both files; an output need not be there.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn open(ledger: &Path, output: &Path) -> Result<Self, LedgerError> {
        let at = |path: &Path| LineAt::open(path).map_err(LedgerError::io("read", path));
        Ok(Self {
            ledger_path: ledger.to_owned(),
            output_path: output.to_owned(),
            ledger: at(ledger)?,
            output: if output.exists() { Some(at(output)?) } else { None },
        })
    }

    /// What the ledger says of the row whose line begins at this place.
    ///
    /// # Errors
    /// The file cannot be read, or there is no row.
    pub fn head(&mut self, offset: u64) -> Result<Head, LedgerError> {
        let line = self.ledger.line(offset).map_err(LedgerError::io("read", &self.ledger_path))?;
        match Entry::parse(line) {
            Ok(Entry::Outcome(head) | Entry::Stored(head, _)) => Ok(head),
            _ => Err(self.no_row()),
        }
    }

    /// The line that begins at this place, with its end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn line(&mut self, offset: u64) -> Result<&[u8], LedgerError> {
        self.ledger.line(offset).map_err(LedgerError::io("read", &self.ledger_path))
    }

    /// What the ledger says of a row, and the row: a line of the output without its end.
    ///
    /// # Errors
    /// A file cannot be read, there is no row, or the output is not as it was written.
    pub fn row(&mut self, offset: u64) -> Result<(Head, &[u8]), LedgerError> {
        let Self { ledger_path, output_path, ledger, output } = self;
        let damaged = |path: &Path| LedgerError::io("read", path)(io::ErrorKind::InvalidData.into());
        let line = ledger.line(offset).map_err(LedgerError::io("read", ledger_path))?;
        match Entry::parse(line) {
            Ok(Entry::Outcome(head)) => {
                row_of(line).map(|row| (head, row)).ok_or_else(|| damaged(ledger_path))
            }
            Ok(Entry::Stored(head, span)) => {
                let output = output.as_mut().ok_or_else(|| damaged(output_path))?;
                let row = output.line(span.at).map_err(LedgerError::io("read", output_path))?;
                let row = &row[..row.len() - 1];
                if span.fits(row) { Ok((head, row)) } else { Err(damaged(output_path)) }
            }
            _ => Err(damaged(ledger_path)),
        }
    }

    fn no_row(&self) -> LedgerError {
        LedgerError::io("read", &self.ledger_path)(io::ErrorKind::InvalidData.into())
    }
}

/// Where the output holds a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where its line begins.
    pub at: u64,
    /// How long it is, in bytes, without its end.
    pub len: u64,
    /// A hash of it.
    pub sum: u64,
}

impl Span {
    /// The span of this row.
    #[must_use]
    pub fn of(at: u64, row: &[u8]) -> Self {
        Self { at, len: row.len() as u64, sum: sum_of(&blake3::hash(row)) }
    }

    /// Writes the line of a row that stands here, of which the ledger says this.
    pub(super) fn write_line(&self, head: &[u8], to: &mut impl Write) -> io::Result<()> {
        to.write_all(STORED)?;
        to.write_all(head)?;
        writeln!(to, ",\"at\":{},\"len\":{},\"sum\":\"{}\"}}", self.at, self.len, short(self.sum))
    }

    /// Whether this is the row.
    #[must_use]
    pub fn fits(&self, row: &[u8]) -> bool {
        Self::of(self.at, row) == *self
    }
}

/// The first 64 bits of a hash.
pub(super) fn sum_of(hash: &blake3::Hash) -> u64 {
    hash.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_their_place_in_any_order_and_across_blocks() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut text, mut places) = (Vec::new(), Vec::new());
        for n in 0..3_000_usize {
            let line = format!("{n}:{}\n", "x".repeat(n * 7919 % 3_001));
            places.push((text.len() as u64, line.clone()));
            text.extend_from_slice(line.as_bytes());
        }
        places.push((text.len() as u64, format!("{}\n", "y".repeat(600_000))));
        text.extend_from_slice(places.last().unwrap().1.as_bytes());
        std::fs::write(file.path(), &text).unwrap();
        let mut lines = LineAt::open(file.path()).unwrap();
        let order = |n: usize| (n * 1_009 + n % 7 * 500) % places.len();
        for n in (0..places.len()).map(order).chain(0..places.len()).chain((0..places.len()).rev()) {
            assert_eq!(lines.line(places[n].0).unwrap(), places[n].1.as_bytes());
            assert!(lines.blocks.len() <= BLOCKS);
        }
        assert!(lines.line(text.len() as u64).is_err());
    }
}
