//! The folder beside the output: the ledger, its lock, the settings of the job.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{Earlier, EarlierBy, Entry, EntryKind, LedgerError, write_whole};

/// The ledger's name in its folder.
pub const LEDGER_FILE: &str = "ledger.jsonl";
const LOCK_FILE: &str = "lock";
const SETTINGS_FILE: &str = "settings.json";
const UNFINISHED_OUTPUT: &str = "output.tmp";

/// The folder of an output: its path with `.promptmill` behind it.
#[must_use]
pub fn folder_of(output: &Path) -> PathBuf {
    let mut name = OsString::from(output);
    name.push(".promptmill");
    name.into()
}

/// The ledger of one output, open for appending and locked against other runs.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    output: PathBuf,
    file: File,
    length: u64,
    /// Held for as long as the run lives; the system lets go of it when the process dies.
    _lock: File,
}

impl Ledger {
    /// Opens the ledger of an output, repairs a torn end and reads what earlier runs left.
    ///
    /// # Errors
    /// Another run writes it, the output is there without a ledger, or a file cannot be read or written.
    pub fn open(output: &Path, overwrite: bool, by: EarlierBy) -> Result<(Self, Earlier), LedgerError> {
        let folder = folder_of(output);
        let path = folder.join(LEDGER_FILE);
        if output.exists() && !path.exists() && !overwrite {
            return Err(LedgerError::Foreign(output.to_owned()));
        }
        create_folder(&folder)?;
        let lock = lock(&folder, output)?;
        if overwrite {
            remove_if_there(&path)?;
            remove_if_there(&folder.join(SETTINGS_FILE))?;
        }
        let earlier = if path.exists() { Earlier::read(&path, by)? } else { Earlier::default() };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(LedgerError::io("open", &path))?;
        // What stands behind the last whole line was being written when the process died.
        file.set_len(earlier.end()).map_err(LedgerError::io("repair", &path))?;
        let mut ledger = Self { folder, output: output.to_owned(), file, length: earlier.end(), _lock: lock };
        if ledger.length == 0 {
            ledger.append(&Entry::new(EntryKind::Ledger).to_line())?;
        }
        ledger.append(&Entry::new(EntryKind::Run).to_line())?;
        Ok((ledger, earlier))
    }

    /// Appends whole lines in one write. Returns where the first of them begins.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; the whole lines that it took stay, for the next run.
    pub fn append(&mut self, lines: &[u8]) -> Result<u64, LedgerError> {
        let start = self.length;
        if let Err(source) = self.file.write_all(lines) {
            // Half a line in the middle would make the next one unreadable; if this fails too, the next opening
            // repairs it.
            let taken = self.file.metadata().map_or(0, |file| file.len().saturating_sub(start));
            let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(lines.len());
            let whole = memchr::memrchr(b'\n', &lines[..taken]).map_or(0, |end| end as u64 + 1);
            if self.file.set_len(start + whole).is_ok() {
                self.length = start + whole;
            }
            return Err(LedgerError::Io { action: "write", path: self.path(), source });
        }
        self.length += lines.len() as u64;
        Ok(start)
    }

    /// The ledger's file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(LEDGER_FILE)
    }

    /// A second handle, to bring to the disk what was written while more is being written.
    ///
    /// # Errors
    /// The process has no file handles left.
    pub fn handle(&self) -> Result<File, LedgerError> {
        self.file.try_clone().map_err(LedgerError::io("open", &self.path()))
    }

    /// The settings that the last run left, if any.
    #[must_use]
    pub fn settings(&self) -> Option<Vec<u8>> {
        fs::read(self.folder.join(SETTINGS_FILE)).ok()
    }

    /// Leaves this run's settings for the next one. They hold no secrets.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_settings(&self, settings: &[u8]) -> Result<(), LedgerError> {
        let path = self.folder.join(SETTINGS_FILE);
        write_whole(&path, settings).map_err(LedgerError::io("write", &path))
    }

    /// The place where the output is written before it is moved to its own.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create_output(&self) -> Result<File, LedgerError> {
        let path = self.folder.join(UNFINISHED_OUTPUT);
        File::create(&path).map_err(LedgerError::io("create", &path))
    }

    /// Moves the written output to its own place, whole.
    ///
    /// # Errors
    /// The disk is full, or the output's folder is gone.
    pub fn publish_output(&self, written: &File) -> Result<(), LedgerError> {
        let path = self.folder.join(UNFINISHED_OUTPUT);
        written.sync_all().map_err(LedgerError::io("write", &path))?;
        fs::rename(&path, &self.output).map_err(LedgerError::io("write", &self.output))
    }
}

/// Makes the folder, but not the one it stands in: an output in a folder that is not there is a slip of the pen.
fn create_folder(folder: &Path) -> Result<(), LedgerError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map_err(LedgerError::io("create", folder)),
    }
}

fn lock(folder: &Path, output: &Path) -> Result<File, LedgerError> {
    let path = folder.join(LOCK_FILE);
    let file = File::create(&path).map_err(LedgerError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Locked(output.to_owned())),
        Err(TryLockError::Error(source)) => Err(LedgerError::Io { action: "lock", path, source }),
    }
}

fn remove_if_there(path: &Path) -> Result<(), LedgerError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LedgerError::Io { action: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Identity, RequestHash, RowKey, StatusCounts, Tokens};
    use crate::ledger::{LineAt, OutcomeLine, row_of};

    fn identity(key: u8) -> Identity {
        Identity { key: RowKey([key; 16]), request: RequestHash([key; 16]), source: RowKey([key; 16]) }
    }

    fn outcome(key: u8, ok: bool) -> Vec<u8> {
        let identity = Some(identity(key));
        OutcomeLine { identity, ok, input: 1, statuses: StatusCounts::default(), wasted: Tokens(0) }
            .with_row(format!("{{\"id\":\"{key}\",\"index\":{key},\"ok\":{ok}}}").as_bytes())
    }

    #[test]
    fn a_line_cut_by_a_crash_is_dropped_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let (mut ledger, _) = Ledger::open(&output, false, EarlierBy::Key).unwrap();
        let start = ledger.append(&outcome(1, true)).unwrap();
        let torn = outcome(2, true);
        let path = ledger.path();
        drop(ledger);
        let whole = fs::read(&path).unwrap();
        for cut in 0..torn.len() {
            fs::write(&path, [&whole[..], &torn[..cut]].concat()).unwrap();
            let (mut ledger, earlier) = Ledger::open(&output, false, EarlierBy::Key).unwrap();
            assert_eq!(earlier.answered(), 1);
            assert_eq!(earlier.find(&identity(1)).unwrap().offset, start);
            assert!(earlier.find(&identity(2)).is_none());
            let again = ledger.append(&torn).unwrap();
            let line = LineAt::open(&path).unwrap().line(again).unwrap().to_vec();
            assert_eq!(row_of(&line).unwrap(), br#"{"id":"2","index":2,"ok":true}"#);
        }
    }

    #[test]
    fn the_last_outcome_of_a_row_counts() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let (mut ledger, _) = Ledger::open(&output, false, EarlierBy::Key).unwrap();
        for ok in [false, false, true] {
            ledger.append(&outcome(1, ok)).unwrap();
        }
        ledger.append(&outcome(2, true)).unwrap();
        drop(ledger);
        let (_, earlier) = Ledger::open(&output, false, EarlierBy::Key).unwrap();
        assert_eq!(earlier.answered(), 2);
        assert!(earlier.find(&identity(1)).unwrap().ok);
    }

    #[test]
    fn only_one_run_writes_an_output_and_foreign_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let first = Ledger::open(&output, false, EarlierBy::Key).unwrap();
        assert!(matches!(Ledger::open(&output, false, EarlierBy::Key), Err(LedgerError::Locked(_))));
        drop(first);
        Ledger::open(&output, false, EarlierBy::Key).unwrap();
        let foreign = folder.path().join("mine.jsonl");
        fs::write(&foreign, "precious").unwrap();
        assert!(matches!(Ledger::open(&foreign, false, EarlierBy::Key), Err(LedgerError::Foreign(_))));
        assert!(!folder_of(&foreign).exists());
    }
}
