//! The end of a run: the output, whole and in order, from what the ledger and the output before it hold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;

use super::replay::facts_of;
use super::survey::RESUMED;
use super::{FileTarget, Selection};
use crate::accounting::Summary;
use crate::domain::Identity;
use crate::ledger::{
    EndOfRun, Entry, Head, Ledger, LedgerError, Lines, NewOutput, NextLedger, StoredRows, Unfinished, row_of,
    with_index, without_input,
};
use crate::output::{CsvSink, OutputFormat, Sink as _};

/// The bits of a form: a table, in the order of the input, rows without their input. Above them stands the first row.
const IS_TABLE: u64 = 1;
const IN_INPUT_ORDER: u64 = 2;
pub(super) const LACKS_INPUT: u64 = 4;
const FIRST_ROW_SHIFT: u32 = 3;

/// What a run leaves to be finished.
pub(super) struct Finishing<'a> {
    pub(super) target: &'a FileTarget,
    pub(super) selection: Selection,
    /// Whether the row as it came is part of its output.
    pub(super) with_input: bool,
    /// Where each row's line begins in the ledger; 0 for a row that is not finished.
    pub(super) places: &'a [u64],
    /// Where lines begin that others have taken the place of.
    pub(super) replaced: Vec<u64>,
    /// How many lines of the ledger hold outcomes.
    pub(super) outcomes: u64,
    /// Attempts for rows that are not finished.
    pub(super) unfinished: HashMap<Identity, Unfinished>,
    /// Whether the run wrote anything.
    pub(super) wrote: bool,
    /// The columns of the input, for a table.
    pub(super) columns: &'a [String],
    pub(super) end: EndOfRun,
}

impl Finishing<'_> {
    /// Writes the output with the rows that are finished, and counts those that earlier runs finished.
    pub(super) fn finish(self, mut ledger: Ledger, summary: &mut Summary) -> Result<(), LedgerError> {
        ledger.check_place()?;
        if self.is_as_it_was(&ledger)
            && let Some(saved) = ledger.totals().and_then(Summary::of_saved)
        {
            *summary = Summary { run: std::mem::take(&mut summary.run), ..saved };
            return Ok(());
        }
        let mut stored = ledger.rows()?;
        for unfinished in self.unfinished.values() {
            summary.add_unfinished(&unfinished.statuses, unfinished.usage);
        }
        let kind = match self.target.format {
            OutputFormat::Jsonl => NextLedger::PointsIntoOutput,
            OutputFormat::Csv if ledger.points_into_output() => NextLedger::HoldsRows,
            OutputFormat::Csv => NextLedger::Same,
        };
        if kind == NextLedger::Same {
            self.note_orphans(&mut ledger)?;
        }
        let mut new = ledger.begin_output(kind)?;
        let written = self.write(&ledger, &mut stored, &mut new, summary);
        if let Err(error) = written {
            ledger.abandon(new);
            return Err(error);
        }
        ledger.publish(new, &self.end, summary.to_saved(), self.form(), self.is_gapless())
    }

    fn write(
        &self,
        ledger: &Ledger,
        stored: &mut StoredRows,
        new: &mut NewOutput,
        summary: &mut Summary,
    ) -> Result<(), LedgerError> {
        match self.target.format {
            OutputFormat::Jsonl => {
                self.keep_the_rest(ledger, stored, new)?;
                for (slot, place) in self.in_order() {
                    // What this run wrote stands there as the output has it.
                    let as_it_is = self.with_input && place & RESUMED == 0;
                    let line = if as_it_is { stored.line(place)? } else { &[] };
                    if new.row_of_line(line).map_err(cannot_write(ledger))? {
                        continue;
                    }
                    self.write_row(slot, place, stored, summary, |head, row| {
                        new.row(&head, row).map_err(cannot_write(ledger))
                    })?;
                }
                Ok(())
            }
            OutputFormat::Csv => {
                let mut sink =
                    CsvSink::new(&mut *new, self.columns.to_vec()).map_err(cannot_write(ledger))?;
                self.write_rows(stored, summary, |_, row| sink.row(row).map_err(cannot_write(ledger)))?;
                sink.finish().map_err(cannot_write(ledger))?;
                drop(sink);
                if !ledger.points_into_output() {
                    return Ok(());
                }
                // What the old output held goes into the ledger: a table cannot give it back.
                self.keep_the_rest(ledger, stored, new)?;
                self.write_rows(stored, &mut Summary::default(), |head, row| {
                    new.keep(&head.with_row(row)).map_err(cannot_write(ledger))
                })
            }
        }
    }

    fn write_rows(
        &self,
        stored: &mut StoredRows,
        summary: &mut Summary,
        mut write: impl FnMut(Head, &[u8]) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        for (slot, place) in self.in_order() {
            self.write_row(slot, place, stored, summary, &mut write)?;
        }
        Ok(())
    }

    /// One row, under its number and with its input as they are now.
    fn write_row(
        &self,
        slot: u64,
        place: u64,
        stored: &mut StoredRows,
        summary: &mut Summary,
        write: impl FnOnce(Head, &[u8]) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let (mut head, row) = stored.row(place & !RESUMED)?;
        head.resumed = place & RESUMED != 0;
        (head.orphan, head.was) = (false, None);
        let brings_id = head.identity.is_none_or(|identity| identity.source.brings_id());
        let index = self.selection.offset + slot;
        let row = if self.with_input { row.into() } else { without_input(row) };
        let row = if head.resumed { with_index(&row, index, brings_id) } else { Cow::Borrowed(&*row) };
        if head.resumed
            && let Some(facts) = facts_of(&head, &row)
        {
            summary.add(&facts);
        }
        write(head, &row)
    }

    /// Nothing is to write: the rows are those that the output holds, in their order and under their numbers.
    fn is_as_it_was(&self, ledger: &Ledger) -> bool {
        let is_whole = |mark: &crate::ledger::OutputMark| {
            mark.gapless && mark.form == self.form() && mark.rows == self.places.len() as u64
        };
        !self.wrote
            && ledger.mark().as_ref().is_some_and(is_whole)
            && self.is_gapless()
            && self.places.is_sorted()
            && self.places.iter().all(|place| place & RESUMED != 0)
    }

    /// Whether all rows up to the last one are finished and stand in the order of the input.
    fn is_gapless(&self) -> bool {
        self.target.input_order && self.places.iter().all(|place| *place != 0)
    }

    /// What decides over the form of the output, beside its rows.
    fn form(&self) -> u64 {
        let bit = |set: bool, bit: u64| if set { bit } else { 0 };
        self.selection.offset << FIRST_ROW_SHIFT
            | bit(self.target.format == OutputFormat::Csv, IS_TABLE)
            | bit(self.target.input_order, IN_INPUT_ORDER)
            | bit(!self.with_input, LACKS_INPUT)
    }

    /// The rows that are finished: by their place in the input, or in the ledger.
    fn in_order(&self) -> Box<dyn Iterator<Item = (u64, u64)> + '_> {
        let rows = (0..).zip(self.places.iter().copied()).filter(|(_, place)| *place != 0);
        if self.target.input_order {
            return Box::new(rows);
        }
        let mut rows: Vec<(u64, u64)> = rows.collect();
        rows.sort_unstable_by_key(|(_, place)| place & !RESUMED);
        Box::new(rows.into_iter())
    }

    /// Carries over what the output does not hold: answers whose row is gone, and attempts of unfinished rows.
    fn keep_the_rest(
        &self,
        ledger: &Ledger,
        stored: &mut StoredRows,
        new: &mut NewOutput,
    ) -> Result<(), LedgerError> {
        self.each_orphan(ledger, |offset, head, line| {
            let orphan = Head { orphan: true, resumed: false, was: None, ..head };
            let row = match row_of(line) {
                Some(row) => row,
                None => stored.row(offset)?.1,
            };
            new.keep(&orphan.with_row(row)).map_err(cannot_write(ledger))
        })?;
        for (identity, unfinished) in &self.unfinished {
            let line = Entry::Attempt(*identity, unfinished.clone()).to_line();
            new.keep(&line).map_err(cannot_write(ledger))?;
        }
        // The rows that follow are those of this job.
        new.keep(&Entry::Run(ledger.job()).to_line()).map_err(cannot_write(ledger))
    }

    /// Says which answers belong to no row of the input, where the ledger goes on as it is.
    fn note_orphans(&self, ledger: &mut Ledger) -> Result<(), LedgerError> {
        let mut orphans = Vec::new();
        self.each_orphan(ledger, |offset, _, _| {
            orphans.push(offset);
            Ok(())
        })?;
        ledger.append(&Entry::Gone(orphans).to_line()).map(drop)
    }

    /// The answers that no row of the input has: where their lines begin, and the lines.
    fn each_orphan(
        &self,
        ledger: &Ledger,
        mut found: impl FnMut(u64, Head, &[u8]) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let placed = self.places.iter().filter(|place| **place != 0).map(|place| place & !RESUMED);
        let mut taken: Vec<u64> = placed.chain(self.replaced.iter().copied()).collect();
        if taken.len() as u64 == self.outcomes {
            return Ok(());
        }
        taken.sort_unstable();
        let mut lines = Lines::open(&ledger.path()).map_err(cannot_read(ledger))?;
        while let Some((offset, line)) = lines.next_line().map_err(cannot_read(ledger))? {
            if taken.binary_search(&offset).is_ok() {
                continue;
            }
            if let Ok(Entry::Outcome(head) | Entry::Stored(head, _)) = Entry::parse(line)
                && head.failed.is_none()
                && head.identity.is_some()
            {
                found(offset, head, line)?;
            }
        }
        Ok(())
    }
}

fn cannot_read(ledger: &Ledger) -> impl Fn(io::Error) -> LedgerError {
    let path = ledger.path();
    move |source| LedgerError::Io { action: "read", path: path.clone(), source }
}

fn cannot_write(ledger: &Ledger) -> impl Fn(io::Error) -> LedgerError {
    let path = ledger.path();
    move |source| LedgerError::Io { action: "write the output of", path: path.clone(), source }
}
