//! The end of a run: the output as a whole, and a ledger that keeps only what the output lacks. First both are
//! written beside the old ones, then the output is moved to its place, then the ledger: whenever the process dies,
//! either both old ones are there, or the next opening concludes what was begun.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::Value;

use super::folder::{LEDGER_FILE, NEXT_FILE, UNFINISHED_OUTPUT, remove_if_there};
use super::read::sum_of;
use super::row::parts_of;
use super::{Durability, EndOfRun, Entry, Head, Ledger, LedgerError, Lines, OutputMark, Span, fault};

const BUFFER: usize = 256 * 1024;

/// A new output on its way to its place.
#[derive(Debug)]
pub struct NewOutput {
    output: BufWriter<Hashed>,
    length: u64,
    /// The new ledger, if there is to be one.
    next: Option<BufWriter<File>>,
    kind: NextLedger,
    rows: u64,
}

/// What becomes of the ledger with a new output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextLedger {
    /// It goes on: it holds all rows.
    Same,
    /// A new one points into the output, which can be read back.
    PointsIntoOutput,
    /// A new one holds the rows, which the old one did not and the output cannot give back.
    HoldsRows,
}

/// A file that hashes what is written to it. It stands behind the buffer: large pieces are hashed several times as
/// fast as single rows.
#[derive(Debug)]
struct Hashed {
    file: File,
    hasher: blake3::Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Ledger {
    /// Begins a new output.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn begin_output(&self, kind: NextLedger) -> Result<NewOutput, LedgerError> {
        let create = |name: &str| {
            let path = self.folder.join(name);
            File::create(&path).map_err(LedgerError::io("create", &path))
        };
        // In this order: a new ledger without an unfinished output would be taken for one to conclude.
        remove_if_there(&self.folder.join(NEXT_FILE))?;
        let output = Hashed { file: create(UNFINISHED_OUTPUT)?, hasher: blake3::Hasher::new() };
        let next = (kind != NextLedger::Same).then(|| create(NEXT_FILE)).transpose()?;
        let mut new = NewOutput {
            output: BufWriter::with_capacity(BUFFER, output),
            length: 0,
            next: next.map(|file| BufWriter::with_capacity(BUFFER, file)),
            kind,
            rows: 0,
        };
        if new.next.is_some() {
            new.keep(&Entry::Ledger { overwrites: false }.to_line()).map_err(self.cannot_write(NEXT_FILE))?;
        }
        Ok(new)
    }

    /// Moves the new output and its ledger to their places.
    ///
    /// # Errors
    /// The disk is full, or the output's folder is gone; what was there before still is.
    pub fn publish(
        mut self,
        mut new: NewOutput,
        end: &EndOfRun,
        totals: Value,
        form: u64,
        gapless: bool,
    ) -> Result<(), LedgerError> {
        new.output.flush().map_err(self.cannot_write(UNFINISHED_OUTPUT))?;
        let Hashed { file, hasher } = new.output.get_ref();
        self.sync(file, UNFINISHED_OUTPUT)?;
        fault::point("output-written", &self.file);
        let modified_ns = modified(file).map_err(self.cannot_write(UNFINISHED_OUTPUT))?;
        let sum = sum_of(&hasher.finalize());
        let mark = OutputMark { len: new.length, modified_ns, sum, form, gapless, rows: new.rows };
        let last = [Entry::End(end.clone()).to_line(), Entry::Output(mark, Some(totals)).to_line()].concat();
        if let Some(mut next) = new.next.take() {
            next.write_all(&last).and_then(|()| next.flush()).map_err(self.cannot_write(NEXT_FILE))?;
            self.sync(next.get_ref(), NEXT_FILE)?;
            self.sync_folder(&self.folder)?;
            fault::point("ledger-written", &self.file);
        } else {
            // The output is expected to look like this from here on: said before it does.
            self.append(&last)?;
            self.sync(&self.file, LEDGER_FILE)?;
        }
        let unfinished = self.folder.join(UNFINISHED_OUTPUT);
        fs::rename(&unfinished, &self.output).map_err(LedgerError::io("write", &self.output))?;
        if let Some(parent) = self.output.parent() {
            self.sync_folder(parent)?;
        }
        fault::point("output-moved", &self.file);
        adopt(&self.folder)?;
        self.sync_folder(&self.folder)
    }

    /// Forgets a new output that could not be written.
    pub fn abandon(&self, new: NewOutput) {
        drop(new);
        let _ = remove_if_there(&self.folder.join(NEXT_FILE));
        let _ = remove_if_there(&self.folder.join(UNFINISHED_OUTPUT));
    }

    fn sync(&self, file: &File, name: &str) -> Result<(), LedgerError> {
        match self.durability() {
            Durability::Off => Ok(()),
            _ => file.sync_all().map_err(self.cannot_write(name)),
        }
    }

    /// Brings the names in a folder to the disk. Some file systems cannot; they do it by themselves.
    fn sync_folder(&self, folder: &Path) -> Result<(), LedgerError> {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if self.durability() != Durability::Off
            && let Ok(folder) = File::open(here)
        {
            match folder.sync_all() {
                Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                    return Err(LedgerError::io("write", here)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn cannot_write(&self, name: &str) -> impl FnOnce(io::Error) -> LedgerError + use<> {
        let path = self.folder.join(name);
        move |source| LedgerError::Io { action: "write", path, source }
    }
}

impl NewOutput {
    /// Writes a row to the output, and where it stands to the ledger if it has a name.
    ///
    /// # Errors
    /// The disk is full.
    pub fn row(&mut self, head: &Head, row: &[u8]) -> io::Result<()> {
        let span = Span::of(self.length, row);
        self.write_all(row)?;
        self.write_all(b"\n")?;
        if head.identity.is_some() && self.kind == NextLedger::PointsIntoOutput {
            self.rows += 1;
            self.keep(&head.stored_line(&span))?;
        }
        Ok(())
    }

    /// Writes the row of an outcome's line, as [`NewOutput::row`] does, from the bytes of the line alone. `false`, and
    /// nothing is written, if it has to be understood first.
    ///
    /// # Errors
    /// The disk is full.
    pub fn row_of_line(&mut self, line: &[u8]) -> io::Result<bool> {
        let Some((head, row)) = parts_of(line) else { return Ok(false) };
        let Some(next) = self.next.as_mut().filter(|_| self.kind == NextLedger::PointsIntoOutput) else {
            return Ok(false);
        };
        Span::of(self.length, row).write_line(head, next)?;
        self.rows += 1;
        self.write_all(row)?;
        self.write_all(b"\n")?;
        Ok(true)
    }

    /// Writes a line to the new ledger, if there is one.
    ///
    /// # Errors
    /// The disk is full.
    pub fn keep(&mut self, line: &[u8]) -> io::Result<()> {
        self.next.as_mut().map_or(Ok(()), |next| next.write_all(line))
    }
}

impl Write for NewOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Concludes what a run had begun when it died: if the new output was moved to its place, its ledger follows;
/// otherwise both are dropped.
pub(super) fn conclude(folder: &Path, output: &Path) -> Result<(), LedgerError> {
    let (next, unfinished) = (folder.join(NEXT_FILE), folder.join(UNFINISHED_OUTPUT));
    if !unfinished.exists() && next.exists() && belongs(&next, output) {
        return adopt(folder);
    }
    remove_if_there(&next)?;
    remove_if_there(&unfinished)
}

/// Whether this ledger is whole and speaks of this output.
fn belongs(next: &Path, output: &Path) -> bool {
    let last_mark = || {
        let mut lines = Lines::open(next).ok()?;
        let mut last = Entry::Unknown;
        while let Some((_, line)) = lines.next_line().ok()? {
            last = Entry::parse(line).ok()?;
        }
        Some(last)
    };
    let length = fs::metadata(output).map_or(0, |output| output.len());
    matches!(last_mark(), Some(Entry::Output(mark, _)) if mark.len == length)
}

/// Puts the new ledger, if there is one, in the place of the old one.
fn adopt(folder: &Path) -> Result<(), LedgerError> {
    let (next, ledger) = (folder.join(NEXT_FILE), folder.join(LEDGER_FILE));
    match fs::rename(next, &ledger) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LedgerError::io("write", &ledger)(error))
        }
        _ => Ok(()),
    }
}

/// When a file was last written, in nanoseconds since 1970.
pub(super) fn modified(file: &File) -> io::Result<u64> {
    let since = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
