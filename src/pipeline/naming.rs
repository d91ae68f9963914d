//! The names of rows: which ids and which texts came before. Flat in memory: some 30 bytes a row.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::domain::{
    BadRow, Failure, FailureKind, Identity, Record, RecordBody, Request, Row, RowId, RowSource, TextHash,
};
use crate::input::{Planned, Planner, Unplannable};

/// A row with its name, or the reason why it cannot become a request.
pub(super) struct Named {
    pub(super) id: RowId,
    pub(super) record: Record,
    /// A hash of the record as it came.
    pub(super) text: TextHash,
    pub(super) request: Result<(Identity, Request), Failure>,
}

/// Which row this is, whatever is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) source: RowSource,
    pub(super) text: TextHash,
}

/// Gives rows their names; knows which ones came before.
#[derive(Debug, Default)]
pub(super) struct Naming {
    seen: Seen,
}

impl Naming {
    /// Plans a row and names it.
    pub(super) fn plan(&mut self, planner: &Planner, row: Row) -> Named {
        let record = match row {
            Row::Record(record) => record,
            Row::Bad(bad) => return unreadable(bad),
        };
        let Planned { record, id, request } = planner.plan(record);
        let text = record.body.hash();
        let which = self.which(id.as_ref(), text);
        let request = match (which, request) {
            (_, Err(failure)) => Err(failure),
            (Some(Which { source, .. }), Ok(request)) => {
                Ok((Identity { source, request: request.hash }, request))
            }
            (None, Ok(_)) => {
                let id = id.as_ref().map_or_else(String::new, RowId::to_string);
                let message = format!("{}: the id {id:?} is that of an earlier row", record.location);
                Err(Failure::new(FailureKind::InvalidInput, message))
            }
        };
        let id = id.unwrap_or_else(|| RowId::Text(record.index.to_string()));
        Named { id, record, text, request }
    }

    /// Names a row without planning it. `None` if it cannot become a request, as far as that is seen without a plan.
    pub(super) fn name(&mut self, planner: &Planner, row: &Row) -> Option<Which> {
        let Row::Record(record) = row else { return None };
        match planner.id(&record.body) {
            Ok(id) => self.which(id.as_ref(), record.body.hash()),
            Err(Unplannable) => None,
        }
    }

    /// The row's name; `None` if an earlier row has its id.
    fn which(&mut self, id: Option<&RowId>, text: TextHash) -> Option<Which> {
        let source = match id {
            Some(id) => {
                let source = RowSource::of_id(id);
                (self.seen.times(source.0) == 0).then_some(source)?
            }
            None => RowSource::of_text(text, self.seen.times(text.0)),
        };
        Some(Which { source, text })
    }
}

fn unreadable(bad: BadRow) -> Named {
    let place =
        bad.column.map_or_else(|| bad.location.to_string(), |column| format!("{}:{column}", bad.location));
    let failure = Failure::new(FailureKind::InvalidInput, format!("{place}: {}", bad.message));
    let record = Record { index: bad.index, location: bad.location, body: RecordBody::Text(bad.text) };
    let text = record.body.hash();
    Named { id: RowId::Text(bad.index.to_string()), record, text, request: Err(failure) }
}

/// How many parts the set of what was seen has: each grows by itself, so that growing never needs twice the memory.
const PARTS: usize = 64;

/// Which hashes were seen, and those seen more than once how often. Kept to 96 bits: with ten million rows, one in
/// 10^15 data sets has two that meet.
#[derive(Debug)]
struct Seen {
    parts: Vec<HashSet<Short, BuildHasherDefault<FirstBits>>>,
    repeated: HashMap<[u8; 16], u64>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| HashSet::default()).collect(), repeated: HashMap::new() }
    }
}

impl Seen {
    /// How often this was seen before; from now on once more.
    fn times(&mut self, hash: [u8; 16]) -> u64 {
        let [part, short @ .., _, _, _] = hash;
        if self.parts[usize::from(part) % PARTS].insert(Short(short)) {
            return 0;
        }
        let times = self.repeated.entry(hash).or_default();
        *times += 1;
        *times
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Short([u8; 12]);

impl Hash for Short {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
    }
}

/// What is hashed already needs no hashing.
#[derive(Default)]
struct FirstBits(u64);

impl Hasher for FirstBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |bits, byte| bits << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_counted() {
        let mut seen = Seen::default();
        let hash = |n: u32| *blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap();
        for times in 0..3 {
            for n in 0..2_000 {
                assert_eq!(seen.times(hash(n)), times);
            }
        }
        assert_eq!(seen.times(hash(2_000)), 0);
    }
}
