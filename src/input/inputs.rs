//! The list of inputs, resolved once and read as often as needed.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::bytes::Compression;
use super::rows::OpenFile;
use super::{Format, InputError, Rows, resolve};
use crate::domain::Location;

/// How much is copied at once.
const COPY_BYTES: usize = 64 << 10;

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

    /// Ends all reading of this input, on whatever thread: the next row is [`InputError::Stopped`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether reading was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The places of the inputs that can be read only once: standard input, pipes.
    #[must_use]
    pub fn read_once(&self) -> Vec<ReadOnce> {
        let once = self.files.iter().enumerate().filter(|(_, file)| !file.is_regular());
        once.map(|(at, file)| ReadOnce { at, file: file.clone(), stopped: Arc::clone(&self.stopped) })
            .collect()
    }

    /// Reads this file in place of an input that can be read only once, which keeps its name.
    pub fn replace(&mut self, once: &ReadOnce, copy: PathBuf) {
        let mut files = self.files.to_vec();
        if let Some(file) = files.get_mut(once.at) {
            file.place = Place::File(copy);
        }
        self.files = files.into();
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

/// An input that can be read only once.
#[derive(Clone, Debug)]
pub struct ReadOnce {
    at: usize,
    file: InputFile,
    stopped: Arc<AtomicBool>,
}

impl ReadOnce {
    /// The path as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// Copies all of it, until the input is stopped. Waits for whoever writes into it.
    ///
    /// # Errors
    /// It cannot be read, or the copy not be written.
    pub fn copy_to(&self, copy: &mut File) -> io::Result<()> {
        let mut from: Box<dyn io::Read> = match &self.file.place {
            Place::Stdin => Box::new(io::stdin()),
            Place::File(path) => Box::new(File::open(path)?),
        };
        let mut buffer = vec![0; COPY_BYTES];
        while !self.stopped.load(Ordering::Relaxed) {
            match from.read(&mut buffer) {
                Ok(0) => return copy.flush(),
                Ok(read) => copy.write_all(&buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
