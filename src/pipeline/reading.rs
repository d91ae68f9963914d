//! The thread that reads: rows to requests, and those that are done already to their place.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::recording::Message;
use super::{Halt, Job, RunError, Selection, Stop};
use crate::domain::{
    BadRow, Failure, FailureKind, Identity, IdentityHasher, Outcome, Record, RecordBody, Request, Row, RowId,
    RowKey, Spent,
};
use crate::input::{Planned, Planner};
use crate::ledger::{Earlier, Entry, LineAt, OutcomeLine, row_of, with_input};
use crate::output::{StoredRow, input_hash, input_json};

/// A row on its way to be answered.
#[derive(Debug)]
pub(super) struct Work {
    /// The row's place among those selected, from 0.
    pub(super) slot: u64,
    pub(super) id: RowId,
    pub(super) identity: Identity,
    pub(super) record: Record,
    pub(super) request: Request,
    /// What earlier runs spent on it.
    pub(super) earlier: Spent,
}

/// What the reading thread leaves behind.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    /// The columns of the input, in order of appearance.
    pub(super) columns: Vec<String>,
    /// Answers of earlier runs that belong to a row of this one.
    pub(super) matched: u64,
    /// How many rows there are, once all are read.
    pub(super) rows: Option<u64>,
}

/// A row with its name, or the reason why it is none.
pub(super) struct Named {
    pub(super) id: RowId,
    pub(super) record: Record,
    pub(super) request: Result<(Identity, Request), Failure>,
}

/// Gives rows their names; knows which ids and requests came before.
#[derive(Debug, Default)]
pub(super) struct Naming {
    seen: HashMap<[u8; 16], u32>,
}

impl Naming {
    pub(super) fn name(&mut self, planner: &Planner, row: Row) -> Named {
        let record = match row {
            Row::Record(record) => record,
            Row::Bad(bad) => return unreadable(bad),
        };
        let Planned { record, id, mut request } = planner.plan(record);
        if let Some(own) = &id
            && self.seen_before(own)
        {
            let message =
                format!("{}: the id {:?} is that of an earlier row", record.location, own.to_string());
            request = Err(Failure::new(FailureKind::InvalidInput, message));
        }
        let request = request.map(|request| {
            let hash = request.hash;
            let (key, source) = if let Some(id) = &id {
                (hash.key_with_id(id), RowKey::source_with_id(id))
            } else {
                let occurrence = self.occurrence(hash.0);
                let source = RowKey::source_with_input(&input_json(&record), occurrence);
                (hash.key_with_occurrence(occurrence), source)
            };
            (Identity { key, request: hash, source }, request)
        });
        Named { id: id.unwrap_or_else(|| RowId::Text(record.index.to_string())), record, request }
    }

    fn seen_before(&mut self, id: &RowId) -> bool {
        let mut hasher = IdentityHasher::new("row id");
        hasher.field("id", id.to_string().as_bytes());
        self.occurrence(hasher.finish()) > 0
    }

    fn occurrence(&mut self, hash: [u8; 16]) -> u64 {
        let count = self.seen.entry(hash).or_default();
        *count += 1;
        u64::from(*count - 1)
    }
}

fn unreadable(bad: BadRow) -> Named {
    let place =
        bad.column.map_or_else(|| bad.location.to_string(), |column| format!("{}:{column}", bad.location));
    let failure = Failure::new(FailureKind::InvalidInput, format!("{place}: {}", bad.message));
    let record = Record { index: bad.index, location: bad.location, body: RecordBody::Text(bad.text) };
    Named { id: RowId::Text(bad.index.to_string()), record, request: Err(failure) }
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
    earlier: Earlier,
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
                earlier,
                ledger: None,
                naming: Naming::default(),
                to_calls,
                to_recorder,
                read: shared,
                last_columns: None,
            };
            if let Err(halt) = reader.read_all(&stop) {
                stop.halt(halt);
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
const READER_GRACE: Duration = Duration::from_millis(300);

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
    earlier: Earlier,
    ledger: Option<LineAt>,
    naming: Naming,
    to_calls: Sender<Work>,
    to_recorder: Sender<Message>,
    read: Arc<Mutex<Read>>,
    last_columns: Option<Arc<[String]>>,
}

impl Reader<'_> {
    fn read_all(&mut self, stop: &Stop) -> Result<(), Halt> {
        let mut rows = 0;
        for (slot, row) in selected(self.job.inputs.rows(), self.job.selection) {
            if stop.is_halted() {
                return Ok(());
            }
            rows = slot + 1;
            let named = self.naming.name(&self.job.planner, row.map_err(Halt::Input)?);
            self.note_columns(&named.record);
            let taken = match named.request {
                Ok((identity, request)) => self.pass_on(slot, named.id, identity, named.record, request)?,
                Err(failure) => self.refuse(slot, named.id, named.record, failure),
            };
            if !taken {
                return Ok(());
            }
        }
        self.read().rows = Some(rows);
        Ok(())
    }

    /// Sends a row where it belongs. `false` when nobody takes rows any more.
    fn pass_on(
        &mut self,
        slot: u64,
        id: RowId,
        identity: Identity,
        record: Record,
        request: Request,
    ) -> Result<bool, Halt> {
        let found = self.earlier.find(&identity);
        if let Some(found) = found.filter(|found| found.ok) {
            self.read().matched += 1;
            let same_input = found.input == input_hash(&record) || !self.job.with_input;
            let message = if same_input && !self.keeps_answers() {
                Message::Kept { slot, offset: found.offset }
            } else {
                self.written_anew(slot, found.offset, &record, identity)
                    .map_err(|error| self.unreadable_ledger(error))?
            };
            return Ok(self.to_recorder.blocking_send(message).is_ok());
        }
        let mut earlier = Spent::default();
        if let Some(found) = found {
            earlier = self.spent_on(found.offset).map_err(|error| self.unreadable_ledger(error))?;
        }
        if let Some(statuses) = self.earlier.unfinished(&identity.key) {
            earlier.attempts += statuses.0.values().sum::<u64>();
            earlier.by_status.add(statuses);
        }
        let work = Work { slot, id, identity, record, request, earlier };
        Ok(self.to_calls.blocking_send(work).is_ok())
    }

    fn refuse(&self, slot: u64, id: RowId, record: Record, failure: Failure) -> bool {
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
        self.to_recorder.blocking_send(Message::finished(slot, outcome, None)).is_ok()
    }

    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeps_answers(&self) -> bool {
        matches!(&self.job.target, super::Target::File(target) if target.earlier == super::EarlierAnswers::Keep)
    }

    /// An answer that is kept for a row whose other columns were edited, or although something else is asked now.
    fn written_anew(
        &mut self,
        slot: u64,
        offset: u64,
        record: &Record,
        identity: Identity,
    ) -> io::Result<Message> {
        let line = self.line(offset)?;
        let entry = Entry::parse(&line).ok_or(io::ErrorKind::InvalidData)?;
        let mut outcome = OutcomeLine::of(&entry);
        outcome.input = input_hash(record);
        outcome.identity = Some(identity);
        let row = row_of(&line).ok_or(io::ErrorKind::InvalidData)?;
        let row = with_input(row, input_json(record).as_bytes()).unwrap_or_else(|| row.to_vec());
        Ok(Message::Rewritten { slot, line: outcome.with_row(&row) })
    }

    /// What earlier runs spent on a row that failed.
    fn spent_on(&mut self, offset: u64) -> io::Result<Spent> {
        let line = self.line(offset)?;
        let outcome = OutcomeLine::of(&Entry::parse(&line).ok_or(io::ErrorKind::InvalidData)?);
        let row = row_of(&line).ok_or(io::ErrorKind::InvalidData)?;
        let stored = StoredRow::parse(row)?;
        Ok(Spent {
            attempts: stored.attempts,
            by_status: outcome.statuses,
            wasted: stored.usage.total(),
            usage: stored.usage,
            cost: stored.cost_usd.and_then(crate::domain::Usd::from_dollars),
        })
    }

    fn line(&mut self, offset: u64) -> io::Result<Vec<u8>> {
        let super::Target::File(target) = &self.job.target else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if self.ledger.is_none() {
            let path = crate::ledger::folder_of(&target.path).join(crate::ledger::LEDGER_FILE);
            self.ledger = Some(LineAt::open(&path)?);
        }
        let ledger = self.ledger.as_mut().ok_or(io::ErrorKind::NotFound)?;
        ledger.line(offset).map(<[u8]>::to_vec)
    }

    fn unreadable_ledger(&self, source: io::Error) -> Halt {
        let path = match &self.job.target {
            super::Target::File(target) => crate::ledger::folder_of(&target.path),
            super::Target::Stdout => std::path::PathBuf::from("-"),
        };
        Halt::Ledger(crate::ledger::LedgerError::Io { action: "read", path, source })
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
