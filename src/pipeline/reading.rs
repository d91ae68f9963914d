//! The thread that reads: rows to requests. Those that an earlier run finished are passed over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::handover::Sender;
use super::naming::{Named, Naming};
use super::recording::Message;
use super::survey::Marked;
use super::{Halt, Job, RunError, Selection, Stop};
use crate::domain::{
    Failure, Identity, Outcome, Record, RecordBody, Request, Row, RowId, Spent, TextHash, Usd,
};
use crate::ledger::{LedgerError, StoredRows, Unfinished, with_id, with_input};
use crate::output::{StoredRow, input_json};

/// A row on its way to be answered.
#[derive(Debug)]
pub(super) struct Work {
    /// The row's place among those selected, from 0.
    pub(super) slot: u64,
    pub(super) id: RowId,
    pub(super) identity: Identity,
    pub(super) record: Record,
    /// A hash of the record as it came.
    pub(super) text: TextHash,
    pub(super) request: Request,
    /// What earlier runs spent on it.
    pub(super) earlier: Spent,
}

/// What the reading thread leaves behind.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    /// The columns of the input, in order of appearance.
    pub(super) columns: Vec<String>,
    /// How many rows there are, once all are read.
    pub(super) rows: Option<u64>,
}

/// What is known of the rows before they are read.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How many rows there are, if all are finished and there is nothing to read them for.
    pub(super) all_kept: Option<u64>,
    /// Which rows are finished, a bit each.
    pub(super) kept: Vec<u64>,
    /// What else is known of rows, in their order.
    pub(super) marked: Vec<(u64, Marked)>,
    /// Attempts for rows that were not finished.
    pub(super) unfinished: HashMap<Identity, Unfinished>,
    pub(super) stored: Option<StoredRows>,
}

impl Known {
    fn is_kept(&self, slot: u64) -> bool {
        let word = usize::try_from(slot / 64).ok().and_then(|at| self.kept.get(at));
        word.is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// How many rows are kept, but written anew.
    pub(super) fn marked_as_kept(&self) -> u64 {
        self.marked.iter().filter(|(_, marked)| matches!(marked, Marked::Renamed { .. })).count() as u64
    }

    /// The bits of the places that are taken.
    pub(super) fn bits(places: &[u64]) -> Vec<u64> {
        let word = |places: &[u64]| {
            (0..).zip(places).fold(0, |bits, (at, place)| bits | u64::from(*place != 0) << at)
        };
        places.chunks(64).map(word).collect()
    }
}

/// The selected rows, each with its place among them.
pub(super) fn selected<I: Iterator>(rows: I, selection: Selection) -> impl Iterator<Item = (u64, I::Item)> {
    let skip = usize::try_from(selection.offset).unwrap_or(usize::MAX);
    let most = selection.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (0..).zip(rows.skip(skip).take(most))
}

/// Starts the thread.
pub(super) fn start(
    job: Arc<Job>,
    known: Known,
    to_calls: Sender<Work>,
    to_recorder: Sender<Message>,
    stop: Stop,
) -> Result<Reading, RunError> {
    let read = Arc::new(Mutex::new(Read::default()));
    let shared = read.clone();
    let thread = std::thread::Builder::new()
        .name("reader".into())
        .spawn(move || {
            let mut reader = Reader {
                job: &job,
                marked: 0,
                known,
                naming: Naming::default(),
                to_calls,
                to_recorder,
                read: shared,
                last_columns: None,
            };
            match reader.read_all(&stop) {
                // What was read until then is answered.
                Err(Halt::Input(error)) => stop.end_with(Halt::Input(error)),
                Err(halt) => stop.halt(halt),
                Ok(()) => {}
            }
        })
        .map_err(RunError::Thread)?;
    Ok(Reading { thread, read })
}

/// The thread and what it has found so far.
pub(super) struct Reading {
    thread: JoinHandle<()>,
    read: Arc<Mutex<Read>>,
}

/// A thread that is told to end may be waiting for standard input, from which nothing comes: it is left behind.
pub(super) const READER_GRACE: Duration = Duration::from_millis(300);

impl Reading {
    /// Waits for the thread to end, and returns what it found.
    pub(super) async fn end(self) -> Read {
        let deadline = Instant::now() + READER_GRACE;
        while !self.thread.is_finished() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Reader<'a> {
    job: &'a Job,
    known: Known,
    /// How many of the marked rows have passed.
    marked: usize,
    naming: Naming,
    to_calls: Sender<Work>,
    to_recorder: Sender<Message>,
    read: Arc<Mutex<Read>>,
    last_columns: Option<Arc<[String]>>,
}

impl Reader<'_> {
    fn read_all(&mut self, stop: &Stop) -> Result<(), Halt> {
        if let Some(rows) = self.known.all_kept {
            self.read().rows = Some(rows);
            return Ok(());
        }
        let mut rows = 0;
        for (slot, row) in selected(self.job.inputs.rows(), self.job.selection) {
            if stop.is_halted() {
                return Ok(());
            }
            rows = slot + 1;
            let row = row.map_err(Halt::Input)?;
            if self.known.is_kept(slot) {
                // Those behind it are named by what came before.
                self.naming.name(&self.job.planner, &row);
                if let Row::Record(record) = &row {
                    self.note_columns(record);
                }
                continue;
            }
            let named = self.naming.plan(&self.job.planner, row);
            self.note_columns(&named.record);
            if !self.pass_on(slot, named)? {
                return Ok(());
            }
        }
        self.read().rows = Some(rows);
        Ok(())
    }

    /// Sends a row where it belongs. `false` when nobody takes rows any more.
    fn pass_on(&mut self, slot: u64, named: Named) -> Result<bool, Halt> {
        let Named { id, record, text, request } = named;
        let (identity, request) = match request {
            Ok(request) => request,
            Err(failure) => return Ok(self.refuse(slot, id, record, text, failure)),
        };
        let mut earlier = Spent::default();
        match self.marked(slot) {
            Some(Marked::Renamed { offset }) => {
                let message = self.renamed(slot, offset, &id, &record, (identity, text))?;
                return Ok(self.to_recorder.blocking_send(message).is_ok());
            }
            Some(Marked::Failed { offset }) => earlier = self.spent_on(offset)?,
            None => {}
        }
        if let Some(unfinished) = self.known.unfinished.get(&identity) {
            earlier.attempts += unfinished.statuses.0.values().sum::<u64>();
            earlier.by_status.add(&unfinished.statuses);
            earlier.usage += unfinished.usage;
            earlier.wasted += unfinished.usage.total();
        }
        let work = Work { slot, id, identity, record, text, request, earlier };
        Ok(self.to_calls.blocking_send(work).is_ok())
    }

    fn marked(&mut self, slot: u64) -> Option<Marked> {
        let rest = self.known.marked.get(self.marked..)?;
        self.marked += rest.iter().take_while(|(marked, _)| *marked < slot).count();
        let (at, marked) = self.known.marked.get(self.marked)?;
        (*at == slot).then_some(*marked)
    }

    fn refuse(&self, slot: u64, id: RowId, record: Record, text: TextHash, failure: Failure) -> bool {
        let outcome = Outcome {
            id,
            index: record.index,
            location: record.location.clone(),
            identity: None,
            input: Some(record),
            result: Err(failure),
            model: None,
            spent: Spent::default(),
            latency: None,
        };
        self.to_recorder.blocking_send(Message::finished(slot, text, outcome, None)).is_ok()
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer that is kept for a row whose other columns were edited, or although something else is asked now.
    fn renamed(
        &mut self,
        slot: u64,
        offset: u64,
        id: &RowId,
        record: &Record,
        (identity, text): (Identity, TextHash),
    ) -> Result<Message, LedgerError> {
        let (mut head, row) = self.stored()?.row(offset)?;
        let row = &with_id(row, &serde_json::to_string(id).unwrap_or_default());
        head.input = text.short();
        head.identity = Some(identity);
        head.orphan = false;
        head.was = Some(offset);
        let edited = if self.job.with_input { &with_input(row, input_json(record).as_bytes()) } else { row };
        Ok(Message::Renamed { slot, before: offset, line: head.with_row(edited) })
    }

    /// What earlier runs spent on a row that failed.
    fn spent_on(&mut self, offset: u64) -> Result<Spent, LedgerError> {
        let (head, row) = self.stored()?.row(offset)?;
        let Ok(stored) = StoredRow::parse(row) else { return Ok(Spent::default()) };
        Ok(Spent {
            attempts: stored.attempts,
            by_status: head.statuses,
            wasted: stored.usage.total(),
            usage: stored.usage,
            cost: stored.cost_usd.and_then(Usd::from_dollars),
        })
    }

    fn stored(&mut self) -> Result<&mut StoredRows, LedgerError> {
        self.known.stored.as_mut().ok_or_else(LedgerError::nothing_stored)
    }

    /// Remembers the input's columns, for an output that is a table.
    fn note_columns(&mut self, record: &Record) {
        let super::Target::File(target) = &self.job.target else { return };
        if target.format != crate::output::OutputFormat::Csv || !self.job.with_input {
            return;
        }
        match &record.body {
            RecordBody::Table(row) => {
                if self.last_columns.as_ref().is_some_and(|last| Arc::ptr_eq(last, &row.columns)) {
                    return;
                }
                self.last_columns = Some(row.columns.clone());
                let mut read = self.read();
                row.columns.iter().for_each(|column| add(&mut read.columns, column));
            }
            RecordBody::Json(json) if json.starts_with('{') => {
                let members: Result<crate::input::Object<'_>, _> = serde_json::from_str(json);
                if let Ok(members) = members {
                    let mut read = self.read();
                    members.0.iter().for_each(|(name, _)| add(&mut read.columns, name));
                }
            }
            RecordBody::Json(_) | RecordBody::Text(_) => {
                let mut read = self.read();
                if read.columns.is_empty() {
                    read.columns.push("prompt".into());
                }
            }
        }
    }
}

fn add(columns: &mut Vec<String>, name: &str) {
    if !columns.iter().any(|column| column == name) {
        columns.push(name.to_owned());
    }
}
