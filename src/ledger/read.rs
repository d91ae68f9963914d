//! Reading the ledger: from front to back, and single lines by their place.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Bytes read at once.
const BLOCK: usize = 256 * 1024;

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
        Ok(Self { reader: BufReader::with_capacity(BLOCK, File::open(path)?), offset: 0, line: Vec::new() })
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

/// Single lines of a file by their place. Neighbours are served from memory, as a finished run asks for them.
#[derive(Debug)]
pub struct LineAt {
    file: File,
    block: Vec<u8>,
    start: u64,
}

impl LineAt {
    /// Opens a file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, block: Vec::new(), start: 0 })
    }

    /// The line that begins at this place.
    ///
    /// # Errors
    /// The file cannot be read, or ends before the line does.
    pub fn line(&mut self, offset: u64) -> io::Result<&[u8]> {
        let mut want = BLOCK;
        loop {
            if let Some(range) = self.held(offset) {
                return Ok(&self.block[range]);
            }
            self.file.seek(SeekFrom::Start(offset))?;
            self.start = offset;
            self.block.clear();
            let read = self.file.by_ref().take(want as u64).read_to_end(&mut self.block)?;
            if read < want && self.held(offset).is_none() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            want *= 4;
        }
    }

    fn held(&self, offset: u64) -> Option<std::ops::Range<usize>> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let end = memchr::memchr(b'\n', self.block.get(from..)?)?;
        Some(from..from + end + 1)
    }
}
