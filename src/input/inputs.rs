//! The list of inputs, resolved once and read as often as needed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tempfile::NamedTempFile;

use super::bytes::Compression;
use super::rows::OpenFile;
use super::{Format, InputError, Rows, resolve};
use crate::domain::Location;

/// What the user said about the input.
#[derive(Clone, Debug)]
pub struct InputSettings {
    /// Paths as given: files, patterns, `-` for standard input.
    pub paths: Vec<String>,
    /// The format of all of them; by default each one's extension tells it, and standard input is JSONL.
    pub format: Option<Format>,
    /// The longest row that is read, in bytes; longer ones are bad rows.
    pub max_row_bytes: u64,
}

/// The files that make up the input, in order.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub(super) files: Arc<[InputFile]>,
    pub(super) max_row_bytes: u64,
    stopped: Arc<AtomicBool>,
}

/// One file of the input.
#[derive(Clone, Debug)]
pub(super) struct InputFile {
    /// The path as given, for people.
    pub(super) name: Arc<str>,
    pub(super) place: Place,
    pub(super) format: Format,
}

/// Where the bytes of an input are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Stdin,
    File(PathBuf),
}

impl Inputs {
    /// Finds the files and their formats. Nothing is read yet.
    ///
    /// # Errors
    /// [`InputError::Unusable`] with every input that is missing, a directory, unreadable or of unknown format.
    pub fn resolve(settings: InputSettings) -> Result<Self, InputError> {
        let files = resolve::resolve(settings.paths, settings.format).map_err(InputError::Unusable)?;
        Ok(Self { files: files.into(), max_row_bytes: settings.max_row_bytes, stopped: Arc::default() })
    }

    /// All rows of all files, in order, read anew.
    #[must_use]
    pub fn rows(&self) -> Rows {
        Rows::new(self.clone())
    }

    /// Copies what can be read only once (standard input, a pipe) to temporary files, which are read in its place.
    /// They live as long as what is returned.
    ///
    /// # Errors
    /// The input cannot be read, or the disk is full.
    pub fn spool(&mut self) -> io::Result<Vec<NamedTempFile>> {
        let mut spools = Vec::new();
        let mut files = self.files.to_vec();
        for file in files.iter_mut().filter(|file| !file.is_regular()) {
            let mut spool = NamedTempFile::new()?;
            match &file.place {
                Place::Stdin => io::copy(&mut io::stdin().lock(), &mut spool)?,
                Place::File(path) => io::copy(&mut File::open(path)?, &mut spool)?,
            };
            file.place = Place::File(spool.path().to_owned());
            spools.push(spool);
        }
        self.files = files.into();
        Ok(spools)
    }

    /// Ends all reading of this input, on whatever thread: the next row is [`InputError::Stopped`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether reading was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether all of them can be read again.
    #[must_use]
    pub fn can_be_reread(&self) -> bool {
        self.files.iter().all(InputFile::is_regular)
    }

    /// How long the files are and when they were written.
    #[must_use]
    pub fn state(&self) -> Vec<Option<(u64, SystemTime)>> {
        let state = |path: &Path| {
            let metadata = path.metadata().ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        self.files
            .iter()
            .map(|file| match &file.place {
                Place::Stdin => None,
                Place::File(path) => state(path),
            })
            .collect()
    }

    /// The first file that is not in this state any more.
    #[must_use]
    pub fn changed_since(&self, before: &[Option<(u64, SystemTime)>]) -> Option<String> {
        let now = self.state();
        let changed = now.iter().zip(before).position(|(now, before)| now != before)?;
        self.files.get(changed).map(|file| file.name.to_string())
    }

    /// The files that are read, without standard input.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().filter_map(|file| match &file.place {
            Place::Stdin => None,
            Place::File(path) => Some(path.as_path()),
        })
    }

    /// How many rows there are; `None` where that takes reading what can be read only once (standard input, a pipe),
    /// or when told to stop.
    ///
    /// # Errors
    /// As reading the rows.
    pub fn count(&self, stop: &AtomicBool) -> Result<Option<u64>, InputError> {
        if !self.can_be_reread() {
            return Ok(None);
        }
        let mut rows = 0;
        for file in self.files.iter() {
            let mut open = OpenFile::open(file, self.max_row_bytes)?;
            while open.advance()? {
                rows += 1;
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(rows))
    }
}

impl InputFile {
    fn is_regular(&self) -> bool {
        match &self.place {
            Place::Stdin => false,
            Place::File(path) => path.is_file(),
        }
    }

    /// Reading failed in this file after so many rows, at this line. What fails in compressed data without the
    /// system having a part in it is the data's fault.
    pub(super) fn read_error(
        &self,
        compression: Option<Compression>,
        rows: u64,
        line: u64,
        source: io::Error,
    ) -> InputError {
        match compression.filter(|_| source.raw_os_error().is_none()) {
            Some(compression) => InputError::Compressed {
                file: self.name.to_string(),
                compression: compression.name(),
                rows,
                source,
            },
            None => InputError::Read { location: Location { file: Arc::clone(&self.name), line }, source },
        }
    }
}
