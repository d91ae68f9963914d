//! The one loop: rows to calls to ledger. A thread reads and plans, tasks call, a thread writes and counts; what is
//! not in the ledger did not happen, and a request's permit is held until its row is written.

mod calling;
mod finishing;
mod halt;
mod reading;
mod recording;
mod replay;
mod survey;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::accounting::{RunFigures, Summary};
use crate::domain::Event;
use crate::input::{InputError, Inputs, Planner};
use crate::ledger::{Earlier, EarlierBy, Entry, EntryKind, Ledger, LedgerError};
use crate::output::{JsonlSink, OutputFormat};
use crate::pace::{Gate, GateSettings, RetrySettings};
use crate::provider::Provider;

pub use halt::{Halt, MaxFailures, Stop};
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
    /// The most requests in flight at once.
    pub concurrency: usize,
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
        /// Settings that changed since, each as `name: before -> now`.
        changed: Vec<String>,
    },
    /// Standard input cannot be copied to be read twice.
    #[error("cannot copy standard input to a temporary file: {0}")]
    Spool(std::io::Error),
    /// The system gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The totals of the whole output.
    pub summary: Summary,
    /// Why it ended early, if it did.
    pub halt: Option<Halt>,
    /// Answers of earlier runs that belong to no row of this one; they stay in the ledger.
    pub unmatched: u64,
    /// Whether every row of the input is finished, answered or failed, however the run ended.
    pub complete: bool,
}

/// Whoever watches a run. Called in the order in which things happen, from the thread that writes: it must not wait.
pub trait Watcher: Send {
    /// Something happened.
    fn event(&mut self, event: &Event);
}

/// The ways to end a run early, and a look at what is under way.
#[derive(Clone, Debug)]
pub struct Controls {
    /// Stop reading, finish what is in flight.
    pub drain: CancellationToken,
    /// Stop now.
    pub abort: CancellationToken,
    permits: Arc<Semaphore>,
    concurrency: usize,
}

impl Controls {
    /// The controls of a run with this many requests at once.
    #[must_use]
    pub fn new(concurrency: usize) -> Self {
        Self {
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            permits: Arc::new(Semaphore::new(concurrency)),
            concurrency,
        }
    }

    /// Requests in flight: sent, or answered and not yet written.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.concurrency - self.permits.available_permits().min(self.concurrency)
    }
}

/// How many rows beyond those in flight may wait for their next attempt.
const LEAST_WAITING_ROWS: usize = 64;

/// Messages on their way to the writing thread.
const RECORDER_QUEUE: usize = 1024;

/// How long requests that are under way may take once the endpoint has refused the run for good.
const FATAL_GRACE: Duration = Duration::from_secs(30);

/// Runs a job to its end.
///
/// # Errors
/// The run could not start; once it has started, what ended it is in [`Ended`].
pub async fn run<P: Provider>(
    mut job: Job,
    provider: P,
    watchers: Vec<Box<dyn Watcher>>,
    controls: Controls,
) -> Result<Ended, RunError> {
    let started = Instant::now();
    let Opened { target, earlier, _spool } = open(&mut job)?;
    let stop = Stop::new(controls.clone(), job.max_failures);
    let ledger_was = earlier.answered();

    let (to_recorder, recorder_inbox) = mpsc::channel(RECORDER_QUEUE);
    let recorder = recording::start(target, job.with_input, watchers, recorder_inbox, stop.clone())?;
    let rows_waiting = job.concurrency + job.concurrency.max(LEAST_WAITING_ROWS);
    let (to_calls, calls_inbox) = mpsc::channel(rows_waiting.min(256));
    let job = Arc::new(job);
    let reader = reading::start(job.clone(), earlier, to_calls, to_recorder.clone(), stop.clone())?;

    let gate = Gate::new(GateSettings {
        longest_close: job.retry.backoff_max,
        probe_base: job.retry.backoff_base,
        probe_max: job.retry.backoff_max.min(Duration::from_secs(5)),
        max_wait: job.retry.max_wait,
    });
    let end = to_recorder.clone();
    let pool = calling::Pool { job: job.clone(), provider, gate, controls, stop: stop.clone(), to_recorder };
    pool.work(calls_inbox, rows_waiting).await;

    let read = reader.end().await;
    // A reader that waits for standard input still holds its way to the recorder; whatever it reads comes too late.
    let _ = end.send(recording::Message::End).await;
    let written = recorder.join().map_err(|_| RunError::Thread(std::io::ErrorKind::Other.into()))?;
    let mut summary = written.summary;
    let new_tokens = summary.usage.completion_tokens.unwrap_or_default().0;
    let run = RunFigures { wall: started.elapsed(), answered: summary.ok, completion_tokens: new_tokens };
    summary.run = run;
    if let recording::Target::Ledger(mut ledger) = written.target
        && let Target::File(target) = &job.target
    {
        let finished =
            finishing::finish(&ledger, target, &written.places, &read.columns, job.selection, &mut summary)
                .and_then(|()| ledger.append(&end_of_run(&run)).map(drop));
        if let Err(error) = finished {
            stop.halt(Halt::Ledger(error));
        }
    }
    let finished = written.places.iter().filter(|place| **place != 0).count() as u64;
    let complete = read.rows == Some(finished);
    let unmatched = if stop.is_halted() { 0 } else { ledger_was.saturating_sub(read.matched) };
    Ok(Ended { summary, halt: stop.into_halt(), unmatched, complete })
}

fn end_of_run(run: &RunFigures) -> Vec<u8> {
    let mut entry = Entry::new(EntryKind::End);
    entry.wall_ms = u64::try_from(run.wall.as_millis()).ok();
    entry.answered = Some(run.answered);
    entry.completion_tokens = Some(run.completion_tokens);
    entry.to_line()
}

/// What a run starts from.
struct Opened {
    target: recording::Target,
    earlier: Earlier,
    /// A copy of standard input, where it is read twice; gone with the run.
    _spool: Option<tempfile::NamedTempFile>,
}

/// Opens the target, and checks what has to be checked before anything is sent.
fn open(job: &mut Job) -> Result<Opened, RunError> {
    let Target::File(target) = job.target.clone() else {
        let spool = if job.strict { spool_stdin(&mut job.inputs)? } else { None };
        survey::check(job, &Earlier::default(), &[])?;
        let target = recording::Target::Stdout(JsonlSink(std::io::stdout()));
        return Ok(Opened { target, earlier: Earlier::default(), _spool: spool });
    };
    let by = if target.earlier == EarlierAnswers::Keep { EarlierBy::Source } else { EarlierBy::Key };
    let (ledger, earlier) = Ledger::open(&target.path, target.earlier == EarlierAnswers::StartOver, by)?;
    let changed = survey::changed_settings(ledger.settings().as_deref(), &target.settings);
    let spool = if job.strict || earlier.answered() > 0 { spool_stdin(&mut job.inputs)? } else { None };
    survey::check(job, &earlier, &changed)?;
    ledger.write_settings(&serde_json::to_vec_pretty(&target.settings).unwrap_or_default())?;
    Ok(Opened { target: recording::Target::Ledger(ledger), earlier, _spool: spool })
}

/// Standard input can be read once; what has to be read twice is copied to a file first.
fn spool_stdin(inputs: &mut Inputs) -> Result<Option<tempfile::NamedTempFile>, RunError> {
    if !inputs.has_stdin() {
        return Ok(None);
    }
    let mut spool = tempfile::NamedTempFile::new().map_err(RunError::Spool)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut spool).map_err(RunError::Spool)?;
    inputs.replace_stdin(spool.path().to_owned());
    Ok(Some(spool))
}
