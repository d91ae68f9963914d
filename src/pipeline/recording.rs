//! The thread that writes: outcomes to the ledger, then to the figures, then to whoever watches. It puts everything
//! that happens into one order.

use std::collections::HashMap;
use std::io::{Stdout, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as sync_mpsc};
use std::thread::JoinHandle;

use super::handover::Receiver;
use super::survey::RESUMED;
use super::{Halt, RunError, Stop, Watcher};
use crate::accounting::{Facts, Summary};
use crate::domain::{Event, Identity, Outcome, TextHash};
use crate::ledger::{Durability, Entry, Head, Ledger, LedgerError, Unfinished};
use crate::output::{Encoder, JsonlSink, Sink as _};
use crate::pace::Leave;

/// The most messages that share a write.
const BATCH: usize = 256;

/// Memory for lines is kept from one write to the next, unless it is more than this, in bytes.
const MOST_ROOM: usize = 4 << 20;

/// What the other parts tell this one.
pub(super) enum Message {
    /// A row is finished. Its leave ends when it is written.
    Finished { slot: u64, text: TextHash, outcome: Box<Outcome>, leave: Option<Leave> },
    /// A row was finished by an earlier run, in the line that begins there, and is written anew: under its name of
    /// today, with its input as it is now.
    Renamed { slot: u64, before: u64, line: Vec<u8> },
    /// An attempt failed and its row goes again.
    Attempt { attempt: Option<(Identity, Unfinished)>, event: Event },
    /// Something else happened.
    Event(Event),
    /// Nothing that counts comes after this.
    End,
}

impl Message {
    pub(super) fn finished(slot: u64, text: TextHash, outcome: Outcome, leave: Option<Leave>) -> Self {
        Self::Finished { slot, text, outcome: Box::new(outcome), leave }
    }

    fn take_leave(&mut self) -> Option<Leave> {
        if let Self::Finished { leave, .. } = self { leave.take() } else { None }
    }
}

/// Where rows are written.
#[derive(Debug)]
pub(super) enum Target {
    /// The ledger of an output file.
    Ledger(Ledger),
    /// Standard output.
    Stdout(JsonlSink<Stdout>),
}

/// What earlier runs left.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Where each row's line begins, of those that are finished.
    pub(super) places: Vec<u64>,
    /// Where lines begin that others have taken the place of.
    pub(super) replaced: Vec<u64>,
    /// How many lines of the ledger hold outcomes.
    pub(super) outcomes: u64,
    /// Attempts for rows that are not finished.
    pub(super) unfinished: HashMap<Identity, Unfinished>,
}

/// What the thread leaves behind.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) target: Target,
    /// Where each selected row's line begins in the ledger; 0 for a row that is not finished.
    pub(super) places: Vec<u64>,
    /// Where lines begin that others have taken the place of.
    pub(super) replaced: Vec<u64>,
    /// How many lines of the ledger hold outcomes.
    pub(super) outcomes: u64,
    /// Attempts for rows that are not finished.
    pub(super) unfinished: HashMap<Identity, Unfinished>,
    /// Whether anything was written.
    pub(super) wrote: bool,
    /// The rows that this run finished.
    pub(super) summary: Summary,
}

/// Starts the thread.
pub(super) fn start(
    target: Target,
    before: Before,
    with_input: bool,
    watchers: Vec<Box<dyn Watcher>>,
    inbox: Receiver<Message>,
    stop: Stop,
) -> Result<JoinHandle<Recorded>, RunError> {
    let syncer = match &target {
        Target::Ledger(ledger) => Syncer::start(ledger)?,
        Target::Stdout(_) => None,
    };
    let recorder = Recorder {
        target,
        encoder: Encoder { with_input },
        watchers,
        stop,
        syncer,
        places: before.places,
        replaced: before.replaced,
        outcomes: before.outcomes,
        unfinished: before.unfinished,
        wrote: false,
        summary: Summary::default(),
        unwritten: Vec::new(),
        room: Vec::new(),
    };
    std::thread::Builder::new()
        .name("recorder".into())
        .spawn(move || recorder.record(inbox))
        .map_err(RunError::Thread)
}

struct Recorder {
    target: Target,
    encoder: Encoder,
    watchers: Vec<Box<dyn Watcher>>,
    stop: Stop,
    syncer: Option<Syncer>,
    places: Vec<u64>,
    replaced: Vec<u64>,
    outcomes: u64,
    unfinished: HashMap<Identity, Unfinished>,
    wrote: bool,
    summary: Summary,
    /// Lines that the disk did not take; they are tried again before anything newer.
    unwritten: Vec<u8>,
    /// Memory for the next lines.
    room: Vec<u8>,
}

/// Where a row's line stands in the lines that are about to be written.
struct Placed {
    slot: u64,
    start: usize,
    resumed: bool,
}

impl Recorder {
    fn record(mut self, mut inbox: Receiver<Message>) -> Recorded {
        let mut batch = Vec::with_capacity(BATCH);
        while inbox.blocking_recv_many(&mut batch, BATCH) > 0 {
            let written = self.write(&batch);
            let over = batch.iter().any(|message| matches!(message, Message::End));
            match written {
                Ok(()) => {
                    // These rows are on their way to the disk: others may send, and be read.
                    Leave::end_all(batch.iter_mut().filter_map(Message::take_leave));
                    batch.drain(..).for_each(|message| self.account(message));
                }
                // Rows that are not on the disk are not finished: they are neither counted nor shown.
                Err(halt) => {
                    self.stop.halt(halt);
                    batch.clear();
                }
            }
            if over {
                break;
            }
        }
        if !self.unwritten.is_empty()
            && let Err(halt) = self.write(&[])
        {
            self.stop.halt(halt);
        }
        drop(self.syncer);
        Recorded {
            target: self.target,
            places: self.places,
            replaced: self.replaced,
            outcomes: self.outcomes,
            unfinished: self.unfinished,
            wrote: self.wrote,
            summary: self.summary,
        }
    }

    /// Writes what a batch of messages brings, in one write.
    fn write(&mut self, batch: &[Message]) -> Result<(), Halt> {
        let mut lines = std::mem::take(&mut self.unwritten);
        if lines.is_empty() {
            lines = std::mem::take(&mut self.room);
        }
        let mut placed = Vec::with_capacity(batch.len());
        for message in batch {
            let start = lines.len();
            match message {
                Message::Finished { slot, text, outcome, .. } => {
                    match &mut self.target {
                        Target::Ledger(_) => {
                            let encode = |line: &mut Vec<u8>| self.encoder.encode_into(outcome, line);
                            head_of(outcome, *text).line_with(&mut lines, encode);
                        }
                        Target::Stdout(sink) => {
                            sink.row(&self.encoder.encode(outcome)).map_err(Halt::Stdout)?;
                        }
                    }
                    placed.push(Placed { slot: *slot, start, resumed: false });
                }
                Message::Renamed { slot, before, line } => {
                    lines.extend_from_slice(line);
                    self.replaced.push(*before);
                    placed.push(Placed { slot: *slot, start, resumed: true });
                }
                Message::Attempt { attempt: Some((identity, attempt)), .. } => {
                    lines.extend_from_slice(&Entry::Attempt(*identity, attempt.clone()).to_line());
                }
                Message::Attempt { attempt: None, .. } | Message::Event(_) | Message::End => {}
            }
        }
        self.append(lines, &placed)
    }

    fn append(&mut self, mut lines: Vec<u8>, placed: &[Placed]) -> Result<(), Halt> {
        match &mut self.target {
            Target::Stdout(sink) => sink.0.flush().map_err(Halt::Stdout),
            Target::Ledger(_) if lines.is_empty() => Ok(()),
            Target::Ledger(ledger) => {
                self.wrote = true;
                let start = match ledger.append(&lines) {
                    Ok(start) => start,
                    Err(error) => {
                        self.unwritten = lines;
                        return Err(Halt::Ledger(error));
                    }
                };
                if let Some(syncer) = &self.syncer {
                    syncer.dirty.store(true, Ordering::Relaxed);
                }
                self.outcomes += placed.len() as u64;
                for row in placed {
                    let resumed = if row.resumed { RESUMED } else { 0 };
                    self.place(row.slot, (start + row.start as u64) | resumed);
                }
                if lines.capacity() <= MOST_ROOM {
                    lines.clear();
                    self.room = lines;
                }
                Ok(())
            }
        }
    }

    fn place(&mut self, slot: u64, place: u64) {
        let Ok(slot) = usize::try_from(slot) else { return };
        if self.places.len() <= slot {
            self.places.resize(slot + 1, 0);
        }
        self.places[slot] = place;
    }

    /// Counts a message that is written and shows it.
    fn account(&mut self, message: Message) {
        match message {
            Message::Finished { outcome, .. } => {
                if let Some(identity) = &outcome.identity
                    && !self.unfinished.is_empty()
                {
                    self.unfinished.remove(identity);
                }
                self.summary.add(&Facts::of(&outcome));
                let Outcome { id, location, result, spent, latency, .. } = *outcome;
                let failure = result.err().map(|failure| (failure.kind, failure.message));
                self.stop.count(failure.as_ref().map(|(kind, message)| (*kind, message.as_str())));
                let (usage, attempts) = (spent.usage, spent.attempts);
                self.show(&Event::Finished { id, location, failure, usage, attempts, latency });
            }
            Message::Renamed { .. } => self.show(&Event::Resumed(1)),
            Message::Attempt { attempt, event } => {
                if let Some((identity, attempt)) = attempt {
                    self.unfinished.entry(identity).or_default().add(&attempt);
                }
                self.show(&event);
            }
            Message::Event(event) => self.show(&event),
            Message::End => {}
        }
    }

    fn show(&mut self, event: &Event) {
        for watcher in &mut self.watchers {
            watcher.event(event);
        }
    }
}

fn head_of(outcome: &Outcome, text: TextHash) -> Head {
    Head {
        identity: outcome.identity,
        input: text.short(),
        failed: outcome.result.as_ref().err().map(|failure| failure.kind),
        statuses: outcome.spent.by_status.clone(),
        wasted: outcome.spent.wasted,
        ..Head::default()
    }
}

/// Brings what was written to the disk, beside the writing.
struct Syncer {
    dirty: Arc<AtomicBool>,
    end: Option<sync_mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// Starts it, where the disk is to follow at its own pace.
    fn start(ledger: &Ledger) -> Result<Option<Self>, RunError> {
        let Durability::Every(pause) = ledger.durability() else { return Ok(None) };
        let file = ledger.sync_handle()?;
        let dirty = Arc::new(AtomicBool::new(false));
        let (end, ended) = sync_mpsc::channel();
        let flag = dirty.clone();
        let sync = move || {
            loop {
                let over = ended.recv_timeout(pause) != Err(sync_mpsc::RecvTimeoutError::Timeout);
                if flag.swap(false, Ordering::Relaxed) {
                    // A disk that fails here fails the next write too, which is where it is said.
                    let _ = file.sync();
                }
                if over {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("sync".into()).spawn(sync).map_err(RunError::Thread)?;
        Ok(Some(Self { dirty, end: Some(end), thread: Some(thread) }))
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl From<LedgerError> for Halt {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}
