//! What is done, on disk: an append-only file of JSON lines beside the output. What is not in it did not happen.
//! It knows nothing of requests or formats; a row's output is a text to it.

mod earlier;
mod fault;
mod finish;
mod folder;
mod line;
mod read;
mod row;
mod salvage;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use earlier::{Earlier, Found, Unfinished};
pub use finish::{NewOutput, NextLedger};
pub use folder::{Durability, LEDGER_FILE, Ledger, Opening, SyncHandle, folder_of};
pub use line::{EndOfRun, Entry, Head, OutputMark, Unreadable};
pub use read::{Lines, Span, StoredRows};
pub use row::{row_of, with_id, with_index, with_input, without_input};

/// Why a ledger cannot be used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another run holds the lock.
    #[error("another run is writing {}", .0.display())]
    Locked(PathBuf),
    /// The output is there, but nothing says how it came to be.
    #[error("{} exists, and no run of promptmill left a ledger for it", .0.display())]
    Foreign(PathBuf),
    /// The output is no file.
    #[error("{} is a device or a pipe, which an output cannot be", .0.display())]
    NoFile(PathBuf),
    /// The output was removed, and answers with it.
    #[error("{} is gone, and {answers} answers with it", .path.display())]
    OutputGone {
        /// The output.
        path: PathBuf,
        /// How many answers only it held.
        answers: u64,
    },
    /// The folder was removed while the run went on.
    #[error("{} was removed while the run went on; the ledger is back in its place, with all answers", .0.display())]
    Removed(PathBuf),
    /// Something else changed the output.
    #[error("{}: line {line} was changed since the last run, by something else", .path.display())]
    OutputChanged {
        /// The output.
        path: PathBuf,
        /// The first line that no run wrote, from 1.
        line: u64,
    },
    /// The ledger was written by another version.
    #[error("{}: written by another version of promptmill (format {version})", .path.display())]
    OtherVersion {
        /// The ledger.
        path: PathBuf,
        /// Its format.
        version: u64,
    },
}

impl LedgerError {
    /// A row was asked for where no ledger is.
    #[must_use]
    pub fn nothing_stored() -> Self {
        Self::Io { action: "read", path: PathBuf::new(), source: io::ErrorKind::NotFound.into() }
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Writes a whole file by a temporary one and a rename, so that it is never seen half written.
///
/// # Errors
/// The disk is full, or the folder is not there or not writable.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
