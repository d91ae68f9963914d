//! The folder beside the output: the ledger, its lock, the settings of the job.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Earlier, Entry, LedgerError, OutputMark, StoredRows, fault, finish, salvage, write_whole};
use crate::domain::JobHash;

/// The ledger's name in its folder.
pub const LEDGER_FILE: &str = "ledger.jsonl";
const LOCK_FILE: &str = "lock";
const SETTINGS_FILE: &str = "settings.json";
/// The output while it is written; it is moved to its own place whole.
pub(super) const UNFINISHED_OUTPUT: &str = "output.tmp";
/// The ledger that belongs to that output, until it takes the old one's place.
pub(super) const NEXT_FILE: &str = "ledger.next";

/// The folder of an output: its path with `.promptmill` behind it. It stands beside the file that a link leads to.
#[must_use]
pub fn folder_of(output: &Path) -> PathBuf {
    let mut name = OsString::from(followed(output));
    name.push(".promptmill");
    name.into()
}

/// The file itself, where the path is a link: that is what is replaced, not the link.
fn followed(output: &Path) -> PathBuf {
    let target = output.is_symlink().then(|| fs::canonicalize(output).ok()).flatten();
    target.unwrap_or_else(|| output.to_owned())
}

/// A handle to bring to the disk what was written while more is being written.
#[derive(Debug)]
pub struct SyncHandle(File);

impl SyncHandle {
    /// Brings everything that is written by now to the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&self) -> std::io::Result<()> {
        let length = self.0.metadata()?.len();
        self.0.sync_data()?;
        fault::synced(length);
        Ok(())
    }
}

/// When what is written is brought to the disk, so that a power cut does not lose it. A crash of the process alone
/// loses nothing in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the system sees fit.
    Off,
    /// Every so often.
    Every(Duration),
    /// Before a row counts as finished.
    Row,
}

/// How an output is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// What is there is replaced.
    pub overwrite: bool,
    /// The job of today.
    pub job: JobHash,
    /// When what is written is brought to the disk.
    pub durability: Durability,
}

/// The ledger of one output, open for appending and locked against other runs.
#[derive(Debug)]
pub struct Ledger {
    pub(super) folder: PathBuf,
    pub(super) output: PathBuf,
    pub(super) file: File,
    length: u64,
    job: JobHash,
    durability: Durability,
    mark: Option<OutputMark>,
    totals: Option<Value>,
    /// Rows that only the output holds.
    stored: u64,
    /// Held for as long as the run lives; the system lets go of it when the process dies.
    _lock: File,
}

impl Ledger {
    /// Opens the ledger of an output, repairs what a crash left, and reads what earlier runs did.
    ///
    /// # Errors
    /// Another run writes it, the output is not as a run left it, or a file cannot be read or written.
    pub fn open(output: &Path, opening: &Opening) -> Result<(Self, Earlier), LedgerError> {
        let output = &followed(output);
        let folder = folder_of(output);
        let path = folder.join(LEDGER_FILE);
        let there = fs::metadata(output).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            return Err(LedgerError::NoFile(output.clone()));
        }
        if there.is_some() && !path.exists() && !opening.overwrite {
            return Err(LedgerError::Foreign(output.clone()));
        }
        create_folder(&folder)?;
        let lock = lock(&folder, output)?;
        if opening.overwrite {
            for name in [LEDGER_FILE, SETTINGS_FILE, NEXT_FILE, UNFINISHED_OUTPUT] {
                remove_if_there(&folder.join(name))?;
            }
        }
        finish::conclude(&folder, output)?;
        let mut earlier = if path.exists() { Earlier::read(&path, opening.job)? } else { Earlier::default() };
        if earlier.end() > 0 {
            salvage::check_output(&folder, output, &mut earlier, opening.job)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .map_err(LedgerError::io("open", &path))?;
        // What stands behind the last whole line was being written when the process died.
        file.set_len(earlier.end()).map_err(LedgerError::io("repair", &path))?;
        let mut ledger = Self {
            folder,
            output: output.clone(),
            file,
            length: earlier.end(),
            job: opening.job,
            durability: opening.durability,
            mark: earlier.marks.last().copied(),
            totals: earlier.totals.take(),
            stored: earlier.stored,
            _lock: lock,
        };
        if ledger.length == 0 {
            ledger.append(&Entry::Ledger { overwrites: opening.overwrite }.to_line())?;
        }
        ledger.append(&Entry::Run(opening.job).to_line())?;
        Ok((ledger, earlier))
    }

    /// Appends whole lines in one write. Returns where the first of them begins.
    ///
    /// # Errors
    /// The disk is full or the file cannot be written; the whole lines that it took stay, for the next run.
    pub fn append(&mut self, lines: &[u8]) -> Result<u64, LedgerError> {
        let start = self.length;
        fault::point("before-write", &self.file);
        if let Err(source) = self.write(lines) {
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
        fault::point("written", &self.file);
        if self.durability == Durability::Row {
            self.file.sync_data().map_err(LedgerError::io("write", &self.path()))?;
            fault::synced(self.length);
            fault::point("synced", &self.file);
        }
        Ok(start)
    }

    /// Puts the ledger back where it was, if something removed it while the run went on: what was paid for is not
    /// lost as long as the file is open.
    ///
    /// # Errors
    /// It was removed: the run cannot go on as if nothing had been. Or it cannot be put back.
    pub fn check_place(&self) -> Result<(), LedgerError> {
        let path = self.path();
        if path.exists() {
            return Ok(());
        }
        let put_back = || -> std::io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            let mut from = self.file.try_clone()?;
            from.rewind()?;
            let mut to = File::create(&path)?;
            std::io::copy(&mut from, &mut to)?;
            to.sync_all()
        };
        put_back().map_err(LedgerError::io("put back", &path))?;
        Err(LedgerError::Removed(self.folder.clone()))
    }

    #[cfg(not(feature = "fault-points"))]
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        self.file.write_all(lines)
    }

    /// In two halves, so that the crash test can die between them.
    #[cfg(feature = "fault-points")]
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let (first, second) = lines.split_at(lines.len() / 2);
        self.file.write_all(first)?;
        fault::point("half-written", &self.file);
        self.file.write_all(second)
    }

    /// The ledger's file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(LEDGER_FILE)
    }

    /// How long the ledger is, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The job of this run.
    #[must_use]
    pub fn job(&self) -> JobHash {
        self.job
    }

    /// When what is written is brought to the disk.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// How the last run left the output, if one did.
    #[must_use]
    pub fn mark(&self) -> Option<OutputMark> {
        self.mark
    }

    /// Whether the output holds rows that this ledger only points to.
    #[must_use]
    pub fn points_into_output(&self) -> bool {
        self.stored > 0
    }

    /// The totals of the output as the last run left it, in its own form.
    #[must_use]
    pub fn totals(&self) -> Option<&Value> {
        self.totals.as_ref()
    }

    /// The rows that are finished, by the place of their lines.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn rows(&self) -> Result<StoredRows, LedgerError> {
        StoredRows::open(&self.path(), &self.output)
    }

    /// A handle to bring to the disk what was written while more is being written.
    ///
    /// # Errors
    /// The process has no file handles left.
    pub fn sync_handle(&self) -> Result<SyncHandle, LedgerError> {
        self.file.try_clone().map(SyncHandle).map_err(LedgerError::io("open", &self.path()))
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
}

/// Makes the folder, but not the one it stands in: an output in a folder that is not there is a slip of the pen.
fn create_folder(folder: &Path) -> Result<(), LedgerError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let missing = folder.parent().unwrap_or(folder);
            Err(LedgerError::io("find the folder", missing)(error))
        }
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

pub(super) fn remove_if_there(path: &Path) -> Result<(), LedgerError> {
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
    use crate::domain::{FailureKind, Identity, RequestHash, RowSource, StatusCounts};
    use crate::ledger::{Found, Head};

    const OPENING: Opening = Opening {
        overwrite: false,
        job: JobHash([1; 16]),
        durability: Durability::Every(Duration::from_secs(1)),
    };

    fn open(output: &Path) -> Result<(Ledger, Earlier), LedgerError> {
        Ledger::open(output, &OPENING)
    }

    fn outcome(row: u8, ok: bool) -> Vec<u8> {
        let identity = Some(Identity { source: RowSource([row; 16]), request: RequestHash([row; 16]) });
        let failed = (!ok).then_some(FailureKind::Server);
        Head { identity, input: 1, failed, statuses: StatusCounts([(200, 1)].into()), ..Head::default() }
            .with_row(format!("{{\"id\":\"{row}\",\"index\":{row},\"ok\":{ok}}}").as_bytes())
    }

    fn find(earlier: &Earlier, row: u8) -> Option<Found> {
        earlier.find(RowSource([row; 16])).next()
    }

    #[test]
    fn a_line_cut_by_a_crash_is_dropped_wherever_it_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let (mut ledger, _) = open(&output).unwrap();
        let start = ledger.append(&outcome(1, true)).unwrap();
        let torn = outcome(2, true);
        let path = ledger.path();
        drop(ledger);
        let whole = fs::read(&path).unwrap();
        for cut in 0..torn.len() {
            fs::write(&path, [&whole[..], &torn[..cut]].concat()).unwrap();
            let (mut ledger, earlier) = open(&output).unwrap();
            assert_eq!(earlier.answered(), 1);
            assert_eq!(find(&earlier, 1).unwrap().offset, start);
            assert_eq!(find(&earlier, 2), None);
            let again = ledger.append(&torn).unwrap();
            let mut rows = ledger.rows().unwrap();
            assert_eq!(rows.row(again).unwrap().1, br#"{"id":"2","index":2,"ok":true}"#);
        }
    }

    #[test]
    fn the_last_outcome_of_a_row_counts() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let (mut ledger, _) = open(&output).unwrap();
        for ok in [false, false, true] {
            ledger.append(&outcome(1, ok)).unwrap();
        }
        ledger.append(&outcome(2, true)).unwrap();
        drop(ledger);
        let (_, earlier) = open(&output).unwrap();
        assert_eq!(earlier.answered(), 2);
        assert!(find(&earlier, 1).unwrap().ok);
    }

    #[test]
    fn only_one_run_writes_an_output_and_foreign_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.jsonl");
        let first = open(&output).unwrap();
        assert!(matches!(open(&output), Err(LedgerError::Locked(_))));
        drop(first);
        drop(open(&output).unwrap());
        fs::write(&output, "put there while no run was looking").unwrap();
        assert!(matches!(open(&output), Err(LedgerError::Foreign(_))));
        let foreign = folder.path().join("mine.jsonl");
        fs::write(&foreign, "precious").unwrap();
        assert!(matches!(open(&foreign), Err(LedgerError::Foreign(_))));
        assert!(!folder_of(&foreign).exists());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_cannot_be_an_output() {
        assert!(matches!(open(Path::new("/dev/null")), Err(LedgerError::NoFile(_))));
        assert!(!folder_of(Path::new("/dev/null")).exists());
    }
}
