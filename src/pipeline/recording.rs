//! The thread that writes: outcomes to the ledger, then to the figures, then to whoever watches. It puts everything
//! that happens into one order.

use std::io::{Stdout, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as sync_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;

use super::{Halt, RunError, Stop, Watcher};
use crate::accounting::{Facts, Summary};
use crate::domain::{Event, Outcome};
use crate::ledger::{Ledger, LedgerError, OutcomeLine};
use crate::output::{Encoder, JsonlSink, Sink as _, input_hash};

/// The most messages that share a write.
const BATCH: usize = 256;

/// What is written is brought to the disk this often; a crash of the machine costs no more than this.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// A row's place in the ledger is marked with this bit when an earlier run answered it.
pub(super) const RESUMED: u64 = 1 << 63;

/// What the other parts tell this one.
pub(super) enum Message {
    /// A row is finished. Its permits are let go when it is written.
    Finished { slot: u64, outcome: Box<Outcome>, permits: Option<[OwnedSemaphorePermit; 2]> },
    /// A row was answered by an earlier run.
    Kept { slot: u64, offset: u64 },
    /// A row was answered by an earlier run and is written anew, with its input as it is now.
    Rewritten { slot: u64, line: Vec<u8> },
    /// An attempt failed and its row goes again; the line says so in the ledger.
    Attempt { line: Option<Vec<u8>>, event: Event },
    /// Something else happened.
    Event(Event),
    /// Nothing that counts comes after this.
    End,
}

impl Message {
    pub(super) fn finished(slot: u64, outcome: Outcome, permits: Option<[OwnedSemaphorePermit; 2]>) -> Self {
        Self::Finished { slot, outcome: Box::new(outcome), permits }
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

/// What the thread leaves behind.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) target: Target,
    /// Where each selected row's line begins in the ledger; 0 for a row that is not finished.
    pub(super) places: Vec<u64>,
    /// The rows that this run finished.
    pub(super) summary: Summary,
}

/// Starts the thread.
pub(super) fn start(
    target: Target,
    with_input: bool,
    watchers: Vec<Box<dyn Watcher>>,
    inbox: Receiver<Message>,
    stop: Stop,
) -> Result<JoinHandle<Recorded>, RunError> {
    let syncer = match &target {
        Target::Ledger(ledger) => Some(Syncer::start(ledger)?),
        Target::Stdout(_) => None,
    };
    let recorder = Recorder {
        target,
        encoder: Encoder { with_input },
        watchers,
        stop,
        syncer,
        places: Vec::new(),
        summary: Summary::default(),
        unwritten: Vec::new(),
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
    summary: Summary,
    /// Lines that the disk did not take; they are tried again before anything newer.
    unwritten: Vec<u8>,
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
            if let Err(halt) = written {
                self.stop.halt(halt);
            }
            let over = batch.iter().any(|message| matches!(message, Message::End));
            for message in batch.drain(..) {
                self.account(message);
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
        Recorded { target: self.target, places: self.places, summary: self.summary }
    }

    /// Writes what a batch of messages brings, in one write.
    fn write(&mut self, batch: &[Message]) -> Result<(), Halt> {
        let mut lines = std::mem::take(&mut self.unwritten);
        let mut placed = Vec::with_capacity(batch.len());
        for message in batch {
            let start = lines.len();
            match message {
                Message::Finished { slot, outcome, .. } => {
                    let row = self.encoder.encode(outcome);
                    match &mut self.target {
                        Target::Ledger(_) => lines.extend_from_slice(&envelope(outcome).with_row(&row)),
                        Target::Stdout(sink) => sink.row(&row).map_err(Halt::Stdout)?,
                    }
                    placed.push(Placed { slot: *slot, start, resumed: false });
                }
                Message::Rewritten { slot, line } => {
                    lines.extend_from_slice(line);
                    placed.push(Placed { slot: *slot, start, resumed: true });
                }
                Message::Kept { slot, offset } => self.place(*slot, offset | RESUMED),
                Message::Attempt { line, .. } => lines.extend_from_slice(line.as_deref().unwrap_or_default()),
                Message::Event(_) | Message::End => {}
            }
        }
        self.append(lines, &placed)
    }

    fn append(&mut self, lines: Vec<u8>, placed: &[Placed]) -> Result<(), Halt> {
        match &mut self.target {
            Target::Stdout(sink) => sink.0.flush().map_err(Halt::Stdout),
            Target::Ledger(_) if lines.is_empty() => Ok(()),
            Target::Ledger(ledger) => {
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
                for row in placed {
                    let resumed = if row.resumed { RESUMED } else { 0 };
                    self.place(row.slot, (start + row.start as u64) | resumed);
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

    /// Counts a message that is written and shows it; the permits go with it.
    fn account(&mut self, message: Message) {
        match message {
            Message::Finished { outcome, permits, .. } => {
                // The row is on its way to the disk: others may send, and be read.
                drop(permits);
                let facts = Facts::of(&outcome);
                self.summary.add(&facts);
                let failure = facts.failure.map(|(kind, _, message)| (kind, message));
                self.stop.count(failure.as_ref().map(|(kind, message)| (*kind, message.as_str())));
                self.show(&Event::Finished {
                    id: facts.id,
                    location: outcome.location,
                    failure,
                    usage: facts.usage,
                    attempts: facts.attempts,
                    latency: facts.latency,
                });
            }
            Message::Kept { .. } | Message::Rewritten { .. } => self.show(&Event::Resumed),
            Message::Attempt { event, .. } | Message::Event(event) => self.show(&event),
            Message::End => {}
        }
    }

    fn show(&mut self, event: &Event) {
        for watcher in &mut self.watchers {
            watcher.event(event);
        }
    }
}

fn envelope(outcome: &Outcome) -> OutcomeLine {
    OutcomeLine {
        identity: outcome.identity,
        ok: outcome.result.is_ok(),
        input: outcome.input.as_ref().map_or(0, input_hash),
        statuses: outcome.spent.by_status.clone(),
        wasted: outcome.spent.wasted,
    }
}

/// Brings what was written to the disk, beside the writing.
struct Syncer {
    dirty: Arc<AtomicBool>,
    end: Option<sync_mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    fn start(ledger: &Ledger) -> Result<Self, RunError> {
        let file = ledger.handle()?;
        let dirty = Arc::new(AtomicBool::new(false));
        let (end, ended) = sync_mpsc::channel();
        let flag = dirty.clone();
        let sync = move || {
            loop {
                let over = ended.recv_timeout(SYNC_EVERY) != Err(sync_mpsc::RecvTimeoutError::Timeout);
                if flag.swap(false, Ordering::Relaxed) {
                    // A disk that fails here fails the next write too, which is where it is said.
                    let _ = file.sync_data();
                }
                if over {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("sync".into()).spawn(sync).map_err(RunError::Thread)?;
        Ok(Self { dirty, end: Some(end), thread: Some(thread) })
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
