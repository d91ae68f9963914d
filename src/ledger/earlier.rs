//! What earlier runs left: where each row's outcomes stand. Held in memory as a sorted list, 32 bytes a row.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use super::line::{Entry, OutputMark, Unreadable};
use super::read::Lines;
use super::{Head, LedgerError};
use crate::domain::{Identity, JobHash, RequestHash, RowSource, StatusCounts, Usage};

/// Rows for each step of the index, on average.
const ROWS_A_STEP: usize = 8;

/// An outcome of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    source: RowSource,
    input: u64,
    place: Place,
}

/// Where a line begins, and in the upper bits what is known of it. Later lines compare as larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u64);

impl Place {
    const OK: u64 = 1 << 63;
    const CURRENT: u64 = 1 << 62;
    const ORPHAN: u64 = 1 << 61;
    const OFFSET: u64 = Self::ORPHAN - 1;

    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}

/// What became of a row in an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which one it is among all that are known.
    pub number: usize,
    /// Where its line begins in the ledger.
    pub offset: u64,
    /// Whether it was answered.
    pub ok: bool,
    /// Whether the job was the one of today, so that equal rows make equal requests.
    pub current: bool,
    /// Whether its row had left the input when the output was last written.
    pub orphan: bool,
    /// A short hash of the row as it came then.
    pub input: u64,
}

/// Attempts for a row that was not finished.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unfinished {
    /// How many, by status.
    pub statuses: StatusCounts,
    /// What they consumed.
    pub usage: Usage,
}

impl Unfinished {
    /// Adds further attempts.
    pub fn add(&mut self, other: &Self) {
        self.statuses.add(&other.statuses);
        self.usage += other.usage;
    }
}

/// The outcomes of earlier runs.
#[derive(Debug, Default)]
pub struct Earlier {
    known: Vec<Known>,
    /// Where the sources with the same first bits begin in `known`.
    steps: Vec<u32>,
    claimed: Vec<u64>,
    answered: u64,
    unfinished: HashMap<Identity, Unfinished>,
    /// How the last runs left the output, the last one last.
    pub(super) marks: Vec<OutputMark>,
    /// The totals of the last output, as its writer left them.
    pub(super) totals: Option<Value>,
    pub(super) overwrites: bool,
    /// Rows that only the output holds.
    pub(super) stored: u64,
    /// Where the rows end that stand in the order of the input of the last finished run.
    in_order_until: u64,
    /// Where lines begin whose rows had left the input, where the ledger was not rewritten since.
    gone: Vec<u64>,
    /// Where lines begin that others have taken the place of.
    replaced: Vec<u64>,
    /// How many lines hold outcomes.
    outcomes: u64,
    end: u64,
    damaged: u64,
}

impl Earlier {
    /// Reads a ledger.
    pub(super) fn read(path: &Path, job: JobHash) -> Result<Self, LedgerError> {
        let io_error = |source: io::Error| LedgerError::io("read", path)(source);
        let mut lines = Lines::open(path).map_err(io_error)?;
        let mut earlier = Self::default();
        let mut current = false;
        while let Some((offset, line)) = lines.next_line().map_err(io_error)? {
            match Entry::parse(line) {
                Ok(Entry::Run(of)) => current = of == job,
                Ok(entry) => earlier.take(offset, &entry, current),
                Err(Unreadable::Damaged) => earlier.damaged += 1,
                Err(Unreadable::Version(version)) => {
                    return Err(LedgerError::OtherVersion { path: path.to_owned(), version });
                }
            }
        }
        earlier.end = lines.end();
        earlier.sort();
        Ok(earlier)
    }

    fn take(&mut self, offset: u64, entry: &Entry, current: bool) {
        match entry {
            Entry::Ledger { overwrites } => self.overwrites = *overwrites,
            Entry::Outcome(head) => self.note(offset, head, current),
            Entry::Stored(head, _) => {
                self.stored += 1;
                self.note(offset, head, current);
            }
            Entry::Attempt(identity, attempt) => {
                self.unfinished.entry(*identity).or_default().add(attempt);
            }
            Entry::Gone(places) => self.gone.clone_from(places),
            Entry::Output(mark, totals) => {
                self.marks.push(*mark);
                self.totals.clone_from(totals);
                self.in_order_until = if mark.gapless && self.stored > 0 { offset } else { 0 };
            }
            Entry::Run(_) | Entry::End(_) | Entry::Unknown => {}
        }
    }

    fn note(&mut self, offset: u64, head: &Head, current: bool) {
        self.outcomes += 1;
        let Some(identity) = head.identity else { return };
        self.replaced.extend(head.was);
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let flags = flag(head.failed.is_none(), Place::OK)
            | flag(current, Place::CURRENT)
            | flag(head.orphan, Place::ORPHAN);
        self.known.push(Known { source: identity.source, input: head.input, place: Place(offset | flags) });
        if !self.unfinished.is_empty() {
            self.unfinished.remove(&identity);
        }
    }

    /// Sorts by source, the latest outcome first. Of several for one text in one job only the last one counts.
    fn sort(&mut self) {
        self.replaced.sort_unstable();
        if !self.replaced.is_empty() {
            let replaced = &self.replaced;
            self.known.retain(|known| replaced.binary_search(&(known.place.0 & Place::OFFSET)).is_err());
        }
        self.gone.sort_unstable();
        for known in &mut self.known {
            if !self.gone.is_empty() && self.gone.binary_search(&(known.place.0 & Place::OFFSET)).is_ok() {
                known.place.0 |= Place::ORPHAN;
            }
        }
        let order = |known: &Known| {
            let place = known.place;
            (
                known.source,
                !place.has(Place::CURRENT),
                known.input,
                std::cmp::Reverse(place.0 & Place::OFFSET),
            )
        };
        self.known.sort_unstable_by_key(order);
        self.known.dedup_by(|later, earlier| {
            let both_current = later.place.has(Place::CURRENT) && earlier.place.has(Place::CURRENT);
            both_current && later.source == earlier.source && later.input == earlier.input
        });
        self.known.shrink_to_fit();
        let counts = |known: &&Known| known.place.has(Place::OK) && !known.place.has(Place::ORPHAN);
        self.answered = self.known.iter().filter(counts).count() as u64;
        self.claimed = vec![0; self.known.len().div_ceil(64)];
        self.index();
    }

    fn index(&mut self) {
        let steps = (self.known.len() / ROWS_A_STEP).next_power_of_two();
        let mut starts = vec![0_u32; steps + 1];
        for known in &self.known {
            starts[step(known.source, steps) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        self.steps = starts;
    }

    /// What became of the row with this name, whatever was asked; of the job of today first, then the latest first.
    pub fn find(&self, source: RowSource) -> impl Iterator<Item = Found> {
        let range = self.range(source);
        range.map(|number| self.found(number))
    }

    fn range(&self, source: RowSource) -> Range<usize> {
        if self.known.is_empty() {
            return 0..0;
        }
        let at = step(source, self.steps.len() - 1);
        let (start, end) = (self.steps[at] as usize, self.steps[at + 1] as usize);
        let within = &self.known[start..end];
        let from = start + within.partition_point(|known| known.source < source);
        let same = self.known[from..end].iter().take_while(|known| known.source == source).count();
        from..from + same
    }

    fn found(&self, number: usize) -> Found {
        let Known { input, place, .. } = self.known[number];
        Found {
            number,
            offset: place.0 & Place::OFFSET,
            ok: place.has(Place::OK),
            current: place.has(Place::CURRENT),
            orphan: place.has(Place::ORPHAN),
            input,
        }
    }

    /// Takes an outcome for a row; `false` if another row has it already.
    pub fn claim(&mut self, found: &Found) -> bool {
        let bit = 1 << (found.number % 64);
        let word = &mut self.claimed[found.number / 64];
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    /// Whether a row has taken this outcome.
    #[must_use]
    pub fn is_claimed(&self, found: &Found) -> bool {
        self.claimed[found.number / 64] & (1 << (found.number % 64)) != 0
    }

    /// The outcomes that no row has taken.
    pub fn unclaimed(&self) -> impl Iterator<Item = (RowSource, Found)> {
        let all = (0..self.known.len()).map(|number| (self.known[number].source, self.found(number)));
        all.filter(|(_, found)| !self.is_claimed(found))
    }

    /// The outcomes of rows without an id that no row has taken, by what they asked.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn by_request(
        &self,
        mut head: impl FnMut(u64) -> Result<Head, LedgerError>,
    ) -> Result<HashMap<RequestHash, Vec<Found>>, LedgerError> {
        let mut free: Vec<Found> =
            self.unclaimed().filter(|(source, _)| !source.brings_id()).map(|(_, found)| found).collect();
        // In the order in which they stand, so that reading goes forward.
        free.sort_unstable_by_key(|found| found.offset);
        let mut by_request = HashMap::<_, Vec<Found>>::new();
        for found in free {
            if let Some(identity) = head(found.offset)?.identity {
                by_request.entry(identity.request).or_default().push(found);
            }
        }
        Ok(by_request)
    }

    /// How many lines hold outcomes, of whatever rows.
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// Attempts for rows in runs that ended before the row did, and where lines begin that others have taken the place
    /// of.
    #[must_use]
    pub fn into_rest(self) -> (HashMap<Identity, Unfinished>, Vec<u64>) {
        (self.unfinished, self.replaced)
    }

    /// How many rows of the output were answered, those aside whose rows had left the input.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Rows whose lines begin before this place stand in the order of the input of the last finished run.
    #[must_use]
    pub fn in_order_until(&self) -> u64 {
        self.in_order_until
    }

    /// Whether nothing was finished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
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

/// The step of the index that a source belongs to: its first bits.
fn step(source: RowSource, steps: usize) -> usize {
    let first = source.0.iter().take(4).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
    (first * steps) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FailureKind, IdentityHasher};

    fn head(row: u32, request: u8) -> Head {
        let mut hasher = IdentityHasher::new("test");
        hasher.field("row", &row.to_le_bytes());
        let source = RowSource(hasher.finish());
        let identity = Identity { source, request: RequestHash([request; 16]) };
        Head { identity: Some(identity), input: u64::from(request), ..Head::default() }
    }

    fn earlier(entries: &[(Head, bool)]) -> Earlier {
        let mut earlier = Earlier::default();
        for (offset, (head, current)) in (100..).zip(entries) {
            earlier.take(offset, &Entry::Outcome(head.clone()), *current);
        }
        earlier.sort();
        earlier
    }

    fn found(earlier: &Earlier, row: u32) -> Vec<(u64, bool, bool)> {
        let found = earlier.find(head(row, 0).identity.unwrap().source);
        found.map(|found| (found.offset, found.ok, found.current)).collect()
    }

    #[test]
    fn every_row_among_many_is_found_and_no_other() {
        for count in [0, 1, 7, 8, 9, 1_000, 5_000_u32] {
            let rows: Vec<_> = (0..count).map(|row| (head(row, 1), true)).collect();
            let earlier = earlier(&rows);
            assert_eq!(earlier.answered(), u64::from(count));
            for row in 0..count {
                assert_eq!(found(&earlier, row), [(100 + u64::from(row), true, true)]);
            }
            assert_eq!(found(&earlier, count), []);
        }
    }

    #[test]
    fn the_last_outcome_of_a_text_counts_and_those_of_other_jobs_come_behind() {
        let failed = Head { failed: Some(FailureKind::Server), ..head(1, 1) };
        let earlier = earlier(&[
            (head(1, 2), false),
            (failed, true),
            (head(1, 1), true),
            (head(1, 3), true),
            (head(1, 2), false),
        ]);
        assert_eq!(
            found(&earlier, 1),
            [(102, true, true), (103, true, true), (104, true, false), (100, true, false)]
        );
        assert_eq!(earlier.answered(), 4);
    }

    #[test]
    fn an_outcome_is_taken_once() {
        let mut earlier = earlier(&[(head(1, 1), true), (head(2, 1), true)]);
        let one = earlier.find(head(1, 0).identity.unwrap().source).next().unwrap();
        assert!(earlier.claim(&one));
        assert!(!earlier.claim(&one));
        assert_eq!(earlier.unclaimed().map(|(_, found)| found.offset).collect::<Vec<_>>(), [101]);
    }

    #[test]
    fn an_answer_that_got_another_name_is_not_known_by_its_old_one() {
        let renamed = Head { was: Some(100), ..head(2, 1) };
        let earlier = earlier(&[(head(1, 1), true), (renamed, true)]);
        assert_eq!((found(&earlier, 1), earlier.answered()), (vec![], 1));
    }

    #[test]
    fn attempts_count_until_their_row_is_finished() {
        let identity = |row| head(row, 1).identity.unwrap();
        let failed = Unfinished { statuses: StatusCounts([(500, 1)].into()), usage: Usage::default() };
        let attempt = |row| Entry::Attempt(identity(row), failed.clone());
        let mut earlier = Earlier::default();
        for entry in [attempt(1), attempt(2), attempt(1), Entry::Outcome(head(2, 1))] {
            earlier.take(1, &entry, true);
        }
        let (unfinished, _) = earlier.into_rest();
        assert_eq!(unfinished[&identity(1)].statuses.0, [(500, 2)].into());
        assert_eq!(unfinished.get(&identity(2)), None);
    }
}
