//! What earlier runs left: where each row's last outcome stands. Held in memory as a sorted list, 32 bytes a row.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::LedgerError;
use super::line::{Entry, EntryKind, OutcomeLine, VERSION};
use super::read::Lines;
use crate::domain::{Identity, RowKey, StatusCounts};

/// The bit of a place that says that the row was answered.
const OK: u64 = 1 << 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    key: [u8; 16],
    offset_and_ok: u64,
    input: u64,
}

/// What became of a row in an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its line begins.
    pub offset: u64,
    /// Whether it was answered.
    pub ok: bool,
    /// A short hash of the row as it came then.
    pub input: u64,
}

/// By which of their names rows are known again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlierBy {
    /// By what was asked: an answer to another question is none.
    #[default]
    Key,
    /// By the row alone: answers are kept although the job's model, template or parameters changed.
    Source,
}

/// The outcomes of earlier runs.
#[derive(Debug, Default)]
pub struct Earlier {
    by: EarlierBy,
    places: Vec<Place>,
    answered: u64,
    unfinished: HashMap<RowKey, StatusCounts>,
    end: u64,
    damaged: u64,
}

impl Earlier {
    /// Reads a ledger.
    pub(super) fn read(path: &Path, by: EarlierBy) -> Result<Self, LedgerError> {
        let io_error = |source: io::Error| LedgerError::Io { action: "read", path: path.to_owned(), source };
        let mut lines = Lines::open(path).map_err(io_error)?;
        let mut earlier = Self { by, ..Self::default() };
        while let Some((offset, line)) = lines.next_line().map_err(io_error)? {
            let Some(entry) = Entry::parse(line) else {
                earlier.damaged += 1;
                continue;
            };
            if entry.v > VERSION {
                return Err(LedgerError::Later { path: path.to_owned(), version: entry.v });
            }
            earlier.take(offset, &entry);
        }
        earlier.end = lines.end();
        earlier.sort();
        Ok(earlier)
    }

    fn take(&mut self, offset: u64, entry: &Entry) {
        let outcome = OutcomeLine::of(entry);
        match (entry.t, outcome.identity) {
            (EntryKind::Outcome, Some(identity)) => {
                let key = match self.by {
                    EarlierBy::Key => identity.key,
                    EarlierBy::Source => identity.source,
                };
                let ok = if outcome.ok { OK } else { 0 };
                self.places.push(Place { key: key.0, offset_and_ok: offset | ok, input: outcome.input });
                if !self.unfinished.is_empty() {
                    self.unfinished.remove(&identity.key);
                }
            }
            (EntryKind::Attempt, _) => {
                if let Some(key) = entry.key.as_deref().and_then(RowKey::parse) {
                    self.unfinished.entry(key).or_default().add(&outcome.statuses);
                }
            }
            _ => {}
        }
    }

    /// Sorts by key and keeps each row's last outcome.
    fn sort(&mut self) {
        self.places.sort_unstable_by_key(|place| (place.key, std::cmp::Reverse(place.offset_and_ok & !OK)));
        self.places.dedup_by_key(|place| place.key);
        self.places.shrink_to_fit();
        self.answered = self.places.iter().filter(|place| place.offset_and_ok & OK != 0).count() as u64;
    }

    /// What became of this row, if it was finished.
    #[must_use]
    pub fn find(&self, identity: &Identity) -> Option<Found> {
        let key = match self.by {
            EarlierBy::Key => identity.key,
            EarlierBy::Source => identity.source,
        };
        let at = self.places.binary_search_by_key(&key.0, |place| place.key).ok()?;
        let place = self.places[at];
        Some(Found {
            offset: place.offset_and_ok & !OK,
            ok: place.offset_and_ok & OK != 0,
            input: place.input,
        })
    }

    /// Requests of this row in a run that ended before the row did.
    #[must_use]
    pub fn unfinished(&self, key: &RowKey) -> Option<&StatusCounts> {
        if self.unfinished.is_empty() { None } else { self.unfinished.get(key) }
    }

    /// How many rows were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Where the whole lines ended.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Lines that could not be read back and count as not written.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}
