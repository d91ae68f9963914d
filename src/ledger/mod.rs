//! What is done, on disk: an append-only file of JSON lines beside the output. What is not in it did not happen.
//! It knows nothing of requests or formats; a row's output is a text to it.

mod earlier;
mod folder;
mod line;
mod read;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use earlier::{Earlier, EarlierBy, Found};
pub use folder::{LEDGER_FILE, Ledger, folder_of};
pub use line::{Entry, EntryKind, OutcomeLine, row_of, with_index, with_input};
pub use read::{LineAt, Lines};

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
    /// The ledger was written by a later version.
    #[error("{}: written by a later version of promptmill (format {version})", .path.display())]
    Later {
        /// The ledger.
        path: PathBuf,
        /// Its format.
        version: u64,
    },
}

impl LedgerError {
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
