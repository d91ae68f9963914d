//! Events as lines: what is tried again and what fails, or every row, on the screen or in a file.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::errors::CliError;
use super::progress::in_words;
use super::screen::{Screen, clean};
use crate::domain::Event;
use crate::pipeline::Watcher;

/// Lines of this level (1: trouble, 2: everything) on the screen.
#[derive(Debug)]
pub(super) struct ScreenLog {
    screen: Screen,
    level: u8,
}

impl ScreenLog {
    pub(super) fn new(screen: Screen, level: u8) -> Self {
        Self { screen, level }
    }
}

impl Watcher for ScreenLog {
    fn event(&mut self, event: &Event) {
        // Notices are shown at every level, by the progress display.
        if let Some((level, line)) = line(event).filter(|_| !matches!(event, Event::Notice(_)))
            && level <= self.level
        {
            self.screen.say(&line);
        }
    }
}

/// Everything, with the time, in a file.
#[derive(Debug)]
pub(super) struct FileLog {
    file: BufWriter<File>,
    path: PathBuf,
    screen: Screen,
    broken: bool,
}

impl FileLog {
    pub(super) fn create(path: &Path, screen: Screen) -> Result<Self, CliError> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| CliError::failed(format!("--log-file {}: {error}", path.display())))?;
        Ok(Self { file: BufWriter::new(file), path: path.to_owned(), screen, broken: false })
    }

    /// A log that cannot be written must not cost the run: that is said once.
    fn check(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && !std::mem::replace(&mut self.broken, true)
        {
            let path = self.path.display();
            self.screen
                .say(&format!("warning: cannot write the log {path}: {error}; the run goes on without it"));
        }
    }
}

impl Watcher for FileLog {
    fn event(&mut self, event: &Event) {
        if let Some((_, line)) = line(event) {
            let now = humantime::format_rfc3339_millis(SystemTime::now());
            let written = writeln!(self.file, "{now} {}", clean(&line).replace('\n', " "));
            self.check(written);
        }
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        let written = self.file.flush();
        self.check(written);
    }
}

/// The line of an event and from which level on it is shown.
fn line(event: &Event) -> Option<(u8, String)> {
    Some(match event {
        Event::Retrying { id, location, attempt, message, wait, .. } => {
            let wait = wait.as_secs_f64();
            (1, format!("{location}: row {id}: attempt {attempt}: {message}; again in {wait:.1}s"))
        }
        Event::Finished { id, location, failure: Some((kind, message)), .. } => {
            // Rows that cannot be read say where they stand themselves.
            let place = if message.starts_with(&location.to_string()) {
                String::new()
            } else {
                format!("{location}: ")
            };
            (1, format!("{place}row {id}: {kind}: {message}"))
        }
        Event::Finished { id, location, failure: None, usage, attempts, latency } => {
            let latency = latency.unwrap_or_default().as_secs_f64() * 1e3;
            let total = usage.total();
            (2, format!("{location}: row {id}: ok, {total} tokens, {attempts} attempts, {latency:.0} ms"))
        }
        Event::Notice(notice) => (1, in_words(notice)),
        Event::Resumed(_) => return None,
    })
}
