//! What is done before anything is sent: with `--strict`, a look at whether every row can become a request; on
//! resuming, finding each row among what earlier runs left, and judging whether this is still the same job.
//!
//! A row whose text and job are the same needs no plan: it is found by its name alone. Only what is left is planned.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::naming::{Naming, Which};
use super::reading::selected;
use super::{EarlierAnswers, FileTarget, Job, Paid, RunError, Target};
use crate::domain::{FailureKind, Request, Resumption, Row, Usd};
use crate::input::{InputError, Planned};
use crate::ledger::{Earlier, Found, LedgerError, StoredRows};
use crate::output::StoredRow;

/// How many bad rows are shown.
const EXAMPLES: usize = 20;

/// A row's place in the ledger is marked with this bit when an earlier run finished it.
pub(super) const RESUMED: u64 = 1 << 63;

/// What the survey found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Where each selected row's line begins in the ledger, with [`RESUMED`]; 0 for one that is not finished. Empty
    /// where there was nothing to survey.
    pub(super) places: Vec<u64>,
    /// What else is known of rows, in their order.
    pub(super) marked: Vec<(u64, Marked)>,
    /// What is said of it.
    pub(super) resumption: Resumption,
    /// How many rows there are; `None` where nothing was surveyed.
    pub(super) rows: Option<u64>,
}

/// A row that an earlier run knew and that is not simply kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// It was answered; the answer is kept under the row's new name, with the row as it is now.
    Renamed {
        /// Where its line begins.
        offset: u64,
    },
    /// It failed, and is tried again.
    Failed {
        /// Where its line begins.
        offset: u64,
    },
}

/// What is different since the last run.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// Settings of the job, each as `name: before -> now`.
    pub(super) changed: Vec<String>,
    /// Whether rows were written without their input and are to have it now.
    pub(super) adds_input: bool,
}

/// Looks at the input before anything is sent, where there is a reason to.
pub(super) fn survey(
    job: &Job,
    earlier: &mut Earlier,
    stored: Option<StoredRows>,
    since: &Since,
    drain: &CancellationToken,
) -> Result<Survey, RunError> {
    if !job.strict && earlier.is_empty() {
        return Ok(Survey::default());
    }
    let mut surveyor = Surveyor {
        job,
        earlier,
        stored,
        since,
        drain,
        found: Survey::default(),
        matched: 0,
        waiting: Vec::new(),
        broken: None,
        bad: Vec::new(),
        bad_rows: 0,
    };
    surveyor.look_at_all()?;
    surveyor.look_for_requests()?;
    surveyor.conclude()
}

struct Surveyor<'a> {
    job: &'a Job,
    earlier: &'a mut Earlier,
    stored: Option<StoredRows>,
    since: &'a Since,
    drain: &'a CancellationToken,
    found: Survey,
    /// Answers of the last output that a row has taken.
    matched: u64,
    /// Rows without an id whose text is new: what they ask may still be known.
    waiting: Vec<u64>,
    /// Why the input could not be read to its end.
    broken: Option<InputError>,
    /// The first bad rows, in words.
    bad: Vec<String>,
    bad_rows: u64,
}

impl Surveyor<'_> {
    /// Finds rows by their names.
    fn look_at_all(&mut self) -> Result<(), RunError> {
        let mut naming = Naming::default();
        let mut rows = 0;
        for (slot, row) in selected(self.job.inputs.rows(), self.job.selection) {
            if self.drain.is_cancelled() {
                return Err(InputError::Stopped.into());
            }
            let row = match row {
                Ok(row) => row,
                Err(InputError::Stopped) => return Err(InputError::Stopped.into()),
                // The rows before it are answered; the run comes to the error again.
                Err(error) => {
                    self.broken = Some(error);
                    return Ok(());
                }
            };
            rows = slot + 1;
            self.found.places.push(0);
            if self.job.strict {
                self.judge(&row);
            }
            match naming.name(&self.job.planner, &row) {
                Some(which) => self.look_at(slot, which, row)?,
                None => self.found.resumption.bad += 1,
            }
        }
        self.found.rows = Some(rows);
        Ok(())
    }

    /// Whether the row can become a request.
    fn judge(&mut self, row: &Row) {
        let named = Naming::default().plan(&self.job.planner, row.clone());
        if let Err(failure) = named.request {
            self.note_bad(failure.message);
        }
    }

    fn note_bad(&mut self, message: String) {
        self.bad_rows += 1;
        if self.bad.len() < EXAMPLES {
            self.bad.push(message);
        }
    }

    fn look_at(&mut self, slot: u64, which: Which, row: Row) -> Result<(), RunError> {
        let input = which.text.short();
        let known: Vec<Found> = self.earlier.find(which.source).collect();
        if known.is_empty() {
            if which.source.brings_id() {
                self.found.resumption.new += 1;
            } else {
                self.waiting.push(slot);
            }
            return Ok(());
        }
        if let Some(same) = known.iter().find(|found| found.current && found.input == input) {
            return self.take(slot, same, true);
        }
        match self.asked_before(&known, row)? {
            Some(found) => self.take(slot, &found, false),
            None => {
                let answered = known.iter().any(|found| found.ok && !found.orphan);
                let resumption = &mut self.found.resumption;
                *(if answered { &mut resumption.edited } else { &mut resumption.new }) += 1;
                Ok(())
            }
        }
    }

    /// Among the outcomes of a row, the one of what is asked now, or any that is to be kept regardless.
    fn asked_before(&mut self, known: &[Found], row: Row) -> Result<Option<Found>, RunError> {
        let Some(request) = self.request(row) else { return Ok(None) };
        let free = |found: &&Found| !self.earlier.is_claimed(found);
        let mut failed = None;
        for found in known.iter().filter(free) {
            let Some(stored) = &mut self.stored else { break };
            let same = stored.head(found.offset)?.identity.is_some_and(|known| known.request == request.hash);
            match (same, found.ok) {
                (true, true) => return Ok(Some(*found)),
                (true, false) => failed = failed.or(Some(*found)),
                (false, _) => {}
            }
        }
        let any_answer = || known.iter().filter(free).find(|found| found.ok).copied();
        Ok(if self.keeps_answers() { any_answer().or(failed) } else { failed })
    }

    fn request(&self, row: Row) -> Option<Request> {
        let Row::Record(record) = row else { return None };
        let Planned { request, .. } = self.job.planner.plan(record);
        request.ok()
    }

    /// Finds rows without an id whose text is new by what they ask: another part of the row may have been edited.
    fn look_for_requests(&mut self) -> Result<(), RunError> {
        let waiting = std::mem::take(&mut self.waiting);
        let Some(stored) = self.stored.as_mut().filter(|_| !waiting.is_empty()) else {
            self.found.resumption.new += waiting.len() as u64;
            return Ok(());
        };
        let mut free = self.earlier.by_request(|offset| stored.head(offset))?;
        // What was answered first, the latest last, so that it is taken first.
        for found in free.values_mut() {
            found.sort_unstable_by_key(|found| (found.ok, found.offset));
        }
        if free.is_empty() {
            self.found.resumption.new += waiting.len() as u64;
            return Ok(());
        }
        let mut waiting = waiting.into_iter().peekable();
        for (slot, row) in selected(self.job.inputs.rows(), self.job.selection) {
            if waiting.next_if_eq(&slot).is_none() {
                continue;
            }
            let Ok(row) = row else { break };
            let request = self.request(row);
            let found = request.and_then(|request| free.get_mut(&request.hash)?.pop());
            match found {
                Some(found) => self.take(slot, &found, false)?,
                None => self.found.resumption.new += 1,
            }
        }
        self.found.marked.sort_unstable_by_key(|(slot, _)| *slot);
        Ok(())
    }

    /// Gives a row the outcome that it had.
    fn take(&mut self, slot: u64, found: &Found, as_it_was: bool) -> Result<(), RunError> {
        self.earlier.claim(found);
        let resumption = &mut self.found.resumption;
        let at = usize::try_from(slot).unwrap_or(usize::MAX);
        let kind = if found.ok { None } else { failed_with(&mut self.stored, found.offset)? };
        let keep = kind.is_none_or(|kind| !self.job.retry_failed.includes(kind));
        self.matched += u64::from(found.ok && !found.orphan);
        match (found.ok, keep) {
            (true, _) => resumption.kept += 1,
            (false, true) => resumption.left_failed += 1,
            (false, false) => resumption.failed += 1,
        }
        if !keep {
            self.found.marked.push((slot, Marked::Failed { offset: found.offset }));
        } else if as_it_was && !self.since.adds_input {
            self.found.places[at] = found.offset | RESUMED;
        } else {
            self.found.marked.push((slot, Marked::Renamed { offset: found.offset }));
        }
        Ok(())
    }

    fn keeps_answers(&self) -> bool {
        self.target().is_some_and(|target| target.earlier == EarlierAnswers::Keep)
    }

    fn target(&self) -> Option<&FileTarget> {
        match &self.job.target {
            Target::File(target) => Some(target),
            Target::Stdout => None,
        }
    }

    /// Refuses where rows are bad and none may be, or where too much of what was paid for would be asked again.
    fn conclude(mut self) -> Result<Survey, RunError> {
        let rows = self.found.places.len() as u64;
        if let Some(error) = self.broken.take_if(|_| self.job.strict) {
            return Err(error.into());
        }
        if self.job.strict && self.bad_rows > 0 {
            return Err(RunError::Strict { count: self.bad_rows, rows, examples: self.bad });
        }
        let answered = self.earlier.answered();
        let unmatched = answered.saturating_sub(self.matched);
        self.found.resumption.gone = unmatched.saturating_sub(self.found.resumption.edited);
        let again = self.found.resumption.edited > 0 && !self.since.changed.is_empty();
        if let Some(target) = self.target()
            && target.earlier == EarlierAnswers::Continue
            && (unmatched * 2 > answered || again)
        {
            if let Some(error) = self.broken {
                return Err(error.into());
            }
            let path = target.path.clone();
            let paid = self.paid_for_unmatched()?;
            return Err(RunError::Unmatched {
                path,
                unmatched,
                answered,
                paid,
                changed: self.since.changed.clone(),
            });
        }
        self.found.resumption.moved = moved(&self.found.places, self.earlier.in_order_until());
        Ok(self.found)
    }

    /// What the answers that match no row consumed.
    fn paid_for_unmatched(&mut self) -> Result<Paid, LedgerError> {
        let unmatched = self.earlier.unclaimed().map(|(_, found)| found);
        let mut offsets: Vec<u64> =
            unmatched.filter(|found| found.ok && !found.orphan).map(|found| found.offset).collect();
        offsets.sort_unstable();
        let mut paid = Paid::default();
        if let Some(stored) = &mut self.stored {
            for offset in offsets {
                let (_, row) = stored.row(offset)?;
                let Ok(row) = StoredRow::parse(row) else { continue };
                paid.tokens += row.usage.total();
                if let Some(cost) = row.cost_usd.and_then(Usd::from_dollars) {
                    *paid.cost.get_or_insert_default() += cost;
                }
            }
        }
        Ok(paid)
    }
}

fn failed_with(stored: &mut Option<StoredRows>, offset: u64) -> Result<Option<FailureKind>, LedgerError> {
    stored.as_mut().map_or(Ok(None), |stored| Ok(stored.head(offset)?.failed))
}

/// How many kept rows stand elsewhere than among their neighbours of the last run: all but those of the longest
/// sequence that is still in its old order (Schensted 1961).
fn moved(places: &[u64], in_order_until: u64) -> u64 {
    let kept = places.iter().filter(|place| **place != 0 && **place & !RESUMED < in_order_until);
    // The smallest last member of a sequence of each length.
    let mut ends: Vec<u64> = Vec::new();
    let mut rows = 0;
    for place in kept {
        rows += 1;
        match ends.last() {
            Some(last) if place <= last => {
                let at = ends.partition_point(|end| end < place);
                ends[at] = *place;
            }
            _ => ends.push(*place),
        }
    }
    rows - ends.len() as u64
}

/// What is different from the settings of the last run, as `name: before -> now`.
pub(super) fn changed_settings(before: Option<&[u8]>, now: &BTreeMap<String, String>) -> Vec<String> {
    let Some(before) = before.and_then(|text| serde_json::from_slice::<BTreeMap<String, String>>(text).ok())
    else {
        return Vec::new();
    };
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let value = |settings: &BTreeMap<String, String>, name: &String| {
        settings.get(name).map_or_else(|| "not set".to_owned(), Clone::clone)
    };
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| format!("{name}: {} -> {}", value(&before, name), value(now, name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_left_their_order_are_moved_and_their_neighbours_are_not() {
        for (places, expected) in [
            (vec![], 0),
            (vec![1, 2, 3, 4], 0),
            (vec![1, 0, 2, 0, 5], 0),
            (vec![4, 1, 2, 3], 1),
            (vec![2, 3, 4, 1], 1),
            (vec![4, 3, 2, 1], 3),
            (vec![1, 5, 2, 6, 3, 4], 2),
            (vec![4, 1, 12, 11, 2, 3], 1),
        ] {
            assert_eq!(moved(&places, 10), expected, "{places:?}");
        }
    }
}
