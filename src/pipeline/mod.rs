//! The one loop: rows to calls to ledger. A thread reads and plans, tasks call, a thread writes and counts; what is
//! not in the ledger did not happen, and a request's permit is held until its row is written.

mod calling;
mod finishing;
mod halt;
mod handover;
mod hedging;
mod naming;
mod opening;
mod reading;
mod recording;
mod replay;
mod spool;
mod survey;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::accounting::{RunFigures, Summary};
use crate::domain::{Event, FailureKind, Notice, Tokens, Usd};
use crate::input::{InputError, Inputs, Planner};
use crate::ledger::{Durability, EndOfRun, LedgerError};
use crate::output::OutputFormat;
use crate::pace::{
    Admission, AdmissionSettings, GateSettings, Gauge, Hedge, LaneSettings, RetrySettings, Stragglers,
};
use crate::provider::Provider;

pub use halt::{Halt, MaxFailures, Stop};
use opening::Opened;
use reading::READER_GRACE;
use recording::Message;
pub use replay::{ReplayError, replay};

/// Everything about a run that is decided before it starts.
#[derive(Debug)]
pub struct Job {
    /// The files.
    pub inputs: Inputs,
    /// Which rows of them.
    pub selection: Selection,
    /// How rows become requests.
    pub planner: Planner,
    /// The model asked for by rows that name none.
    pub model: Option<String>,
    /// The endpoints, as the pool sees them.
    pub lanes: Vec<LaneSettings>,
    /// The most requests in flight at once, over all endpoints.
    pub concurrency: usize,
    /// Which requests are sent a second time.
    pub hedge: Hedge,
    /// How patient rows are.
    pub retry: RetrySettings,
    /// When to stop a run that is failing.
    pub max_failures: MaxFailures,
    /// Where the answers go.
    pub target: Target,
    /// Whether the row as it came is part of its output.
    pub with_input: bool,
    /// Whether all rows are checked before anything is sent.
    pub strict: bool,
    /// Which rows that failed in earlier runs are tried again.
    pub retry_failed: RetryFailed,
}

/// Which rows that failed in earlier runs are tried again. Rows that could not become requests are judged anew anyway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryFailed {
    /// All.
    All,
    /// Those that failed with one of these kinds; none, if there are none.
    Only(Vec<FailureKind>),
}

impl RetryFailed {
    fn includes(&self, kind: FailureKind) -> bool {
        match self {
            Self::All => true,
            Self::Only(kinds) => kinds.contains(&kind),
        }
    }
}

/// Which rows of the input are taken.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Rows to pass over.
    pub offset: u64,
    /// The most rows to take.
    pub limit: Option<u64>,
}

/// Where the answers go.
#[derive(Clone, Debug)]
pub enum Target {
    /// Standard output, as they come; nothing is kept.
    Stdout,
    /// A file, with a ledger beside it.
    File(FileTarget),
}

/// An output file.
#[derive(Clone, Debug)]
pub struct FileTarget {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: OutputFormat,
    /// Whether rows stand in the order of the input; otherwise as they were finished.
    pub input_order: bool,
    /// What becomes of earlier answers.
    pub earlier: EarlierAnswers,
    /// The job's settings by name, to tell what changed between runs; no secrets.
    pub settings: std::collections::BTreeMap<String, String>,
    /// When what is written is brought to the disk.
    pub durability: Durability,
}

/// What becomes of the answers that earlier runs left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierAnswers {
    /// They are kept for the rows they belong to; if most belong to none, the run refuses.
    Continue,
    /// The same, but the run goes on although most belong to no row.
    DropUnmatched,
    /// They are kept for their rows although the job's model, template or parameters changed.
    Keep,
    /// They are deleted.
    StartOver,
}

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The input cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// With `--strict`: rows cannot become requests.
    #[error("{count} of {rows} rows cannot become requests; nothing was sent")]
    Strict {
        /// How many.
        count: u64,
        /// Of how many.
        rows: u64,
        /// The first of them, in words.
        examples: Vec<String>,
    },
    /// Most earlier answers match no row of this job.
    #[error("{unmatched} of {answered} answers in {} belong to no row of this job", .path.display())]
    Unmatched {
        /// The output.
        path: PathBuf,
        /// Answers without a row.
        unmatched: u64,
        /// All answers.
        answered: u64,
        /// What those without a row consumed.
        paid: Paid,
        /// Settings that changed since, each as `name: before -> now`.
        changed: Vec<String>,
    },
    /// What can be read only once cannot be copied to be read twice.
    #[error("cannot copy {name} to a temporary file, to read it twice: {source}")]
    Spool {
        /// The input.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An input is not what it was when its rows were looked at.
    #[error("{0}: changed while it was read")]
    InputChanged(String),
    /// The system gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What answers have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Paid {
    /// Their tokens.
    pub tokens: Tokens,
    /// Their price, as far as it is known.
    pub cost: Option<Usd>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The totals of the whole output.
    pub summary: Summary,
    /// Why it ended early, if it did.
    pub halt: Option<Halt>,
    /// Whether every row of the input is finished, answered or failed, however the run ended.
    pub complete: bool,
}

/// Whoever watches a run. Called in the order in which things happen, from the thread that writes: it must not wait.
pub trait Watcher: Send {
    /// Something happened.
    fn event(&mut self, event: &Event);
}

/// The ways to end a run early, and a look at what is under way.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    /// Stop reading, finish what is in flight.
    pub drain: CancellationToken,
    /// Stop now.
    pub abort: CancellationToken,
    /// How many requests are under way.
    pub gauge: Arc<Gauge>,
}

/// Rows that are read before they can go, so that nobody waits for the reader.
const ROWS_READ_AHEAD: usize = 256;

/// An endpoint that is down is tried at least this often.
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(5);

/// Messages on their way to the writing thread.
const RECORDER_QUEUE: usize = 1024;

/// How long requests that are under way may take once the endpoint has refused the run for good.
const FATAL_GRACE: Duration = Duration::from_secs(30);

/// Runs a job to its end, with a provider for each of its endpoints.
///
/// # Errors
/// The run could not start; once it has started, what ended it is in [`Ended`].
pub async fn run<P: Provider>(
    mut job: Job,
    providers: Vec<P>,
    watchers: Vec<Box<dyn Watcher>>,
    controls: Controls,
) -> Result<Ended, RunError> {
    let started = Instant::now();
    let drain = controls.drain.clone();
    let opening =
        tokio::task::spawn_blocking(move || opening::open(&mut job, &drain).map(|opened| (job, opened)));
    let gave_up = async {
        controls.drain.cancelled().await;
        // It may be waiting for a pipe from which nothing comes.
        tokio::time::sleep(READER_GRACE).await;
    };
    let (job, opened) = tokio::select! {
        opened = opening => opened.map_err(|_| RunError::Thread(std::io::ErrorKind::Other.into()))??,
        () = gave_up => return Err(InputError::Stopped.into()),
    };
    let Opened { target, before, resumption, known, _copies } = opened;
    let stop = Stop::new(controls.clone(), job.max_failures);

    let (to_recorder, recorder_inbox) = handover::channel(RECORDER_QUEUE);
    let with_input = job.with_input;
    let recorder = recording::start(target, before, with_input, watchers, recorder_inbox, stop.clone())?;
    if let Some(resumption) = resumption {
        let finished = resumption.kept + resumption.left_failed - known.marked_as_kept();
        let _ = to_recorder.send(Message::Event(Event::Notice(Notice::Resuming(resumption)))).await;
        let _ = to_recorder.send(Message::Event(Event::Resumed(finished))).await;
    }
    let (to_calls, calls_inbox) = handover::channel(ROWS_READ_AHEAD);
    let job = Arc::new(job);
    let reader = reading::start(job.clone(), known, to_calls, to_recorder.clone(), stop.clone())?;

    let admission = Admission::new(admission_settings(&job), controls.gauge.clone());
    let end = to_recorder.clone();
    let pool = calling::Pool {
        job: job.clone(),
        providers,
        admission: admission.clone(),
        stragglers: Stragglers::new(job.hedge),
        controls,
        stop: stop.clone(),
        to_recorder,
    };
    pool.work(calls_inbox).await;

    let read = reader.end().await;
    // A reader that waits for standard input still holds its way to the recorder; whatever it reads comes too late.
    let _ = end.send(Message::End).await;
    let written = recorder.join().map_err(|_| RunError::Thread(std::io::ErrorKind::Other.into()))?;
    let finished = written.places.iter().filter(|place| **place != 0).count() as u64;
    let complete = read.rows == Some(finished);
    let summary = finish(&job, written, &read, started, &admission, &stop);
    Ok(Ended { summary, halt: stop.into_halt(), complete })
}

fn admission_settings(job: &Job) -> AdmissionSettings {
    let retry = &job.retry;
    let gate = GateSettings {
        longest_close: retry.backoff_max,
        probe_base: retry.backoff_base,
        probe_max: retry.backoff_max.min(LONGEST_PROBE_PAUSE),
        max_wait: retry.max_wait,
    };
    AdmissionSettings { lanes: job.lanes.clone(), most: job.concurrency, gate }
}

/// Writes the output, and counts what earlier runs finished.
fn finish(
    job: &Job,
    written: recording::Recorded,
    read: &reading::Read,
    started: Instant,
    admission: &Admission,
    stop: &Stop,
) -> Summary {
    let mut summary = written.summary;
    let new_tokens = summary.usage.completion_tokens.unwrap_or_default().0;
    summary.run = RunFigures {
        wall: started.elapsed(),
        answered: summary.ok,
        completion_tokens: new_tokens,
        endpoints: admission.figures(),
    };
    if let recording::Target::Ledger(ledger) = written.target
        && let Target::File(target) = &job.target
    {
        let finishing = finishing::Finishing {
            target,
            selection: job.selection,
            with_input: job.with_input,
            places: &written.places,
            replaced: written.replaced,
            outcomes: written.outcomes,
            unfinished: written.unfinished,
            wrote: written.wrote,
            columns: &read.columns,
            end: EndOfRun {
                wall_ms: u64::try_from(summary.run.wall.as_millis()).unwrap_or(u64::MAX),
                answered: summary.run.answered,
                completion_tokens: new_tokens,
                endpoints: summary.run.endpoints.clone(),
            },
        };
        if let Err(error) = finishing.finish(ledger, &mut summary) {
            stop.halt(Halt::Ledger(error));
        }
    }
    summary
}
