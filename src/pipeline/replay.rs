//! The figures of an output, from what is on disk: the ledger beside it, or the output alone.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accounting::{Facts, FailedRow, Summary};
use crate::domain::{FailureKind, Identity, RowId, StatusCounts, Tokens, Usage, Usd};
use crate::ledger::{
    EndOfRun, Entry, Head, LEDGER_FILE, LedgerError, Lines, OutputMark, Span, StoredRows, Unfinished,
    folder_of,
};
use crate::output::{OwnCells, StoredRow};

/// Why an output cannot be reported on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(LedgerError),
    /// A line is no row of an output.
    #[error("{}:{line}: not a row of an output: {message}", .path.display())]
    NotARow {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
}

/// The facts about a row, from what the ledger knows of it and the row itself.
pub(super) fn facts_of<'a>(head: &'a Head, row: &'a [u8]) -> Option<Facts<'a>> {
    let mut facts = facts(StoredRow::parse(row).ok()?, head.resumed);
    facts.statuses = Cow::Borrowed(&head.statuses);
    facts.wasted = head.wasted;
    Some(facts)
}

/// The facts about a row of an output. What only the ledger knows is derived as far as it can be: the status of the
/// last request.
fn facts(stored: StoredRow<'_>, resumed: bool) -> Facts<'_> {
    let id = stored.error.is_some().then(|| Cow::Owned(stored.id()));
    let status = match (&stored.error, stored.attempts) {
        (_, 0) => None,
        (None, _) => Some(200),
        (Some(error), _) => Some(error.status.unwrap_or(0)),
    };
    Facts {
        failure: stored.error.zip(id).map(|(error, id)| FailedRow {
            id,
            kind: error.kind,
            status: error.status,
            message: error.message.into(),
        }),
        model: stored.model.map(|model| model.0),
        usage: stored.usage,
        wasted: Tokens(0),
        cost: stored.cost_usd.and_then(Usd::from_dollars),
        attempts: stored.attempts,
        statuses: Cow::Owned(StatusCounts(status.map(|status| (status, 1)).into_iter().collect())),
        latency: stored.latency_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
        cached: stored.cached,
        resumed,
    }
}

/// The figures of some outputs together.
///
/// # Errors
/// A file cannot be read, or is no output.
pub fn replay(outputs: &[PathBuf]) -> Result<Summary, ReplayError> {
    let mut summary = Summary::default();
    for output in outputs {
        replay_one(output, &mut summary)?;
    }
    Ok(summary)
}

fn replay_one(output: &Path, summary: &mut Summary) -> Result<(), ReplayError> {
    let ledger = folder_of(output).join(LEDGER_FILE);
    let overview = if ledger.exists() { Overview::read(&ledger)? } else { Overview::default() };
    let is_table = is_table(output);
    let length = output.metadata().map(|output| output.len()).ok();
    if overview.is_clean && length == overview.mark.map(|mark| mark.len) {
        read_lines(output, Some(&ledger), &overview, summary)?;
    } else if overview.outcomes > 0 && (length.is_none() || overview.stored == 0 || overview.has_news) {
        overview.fold(&ledger, output, summary)?;
    } else if is_table {
        read_table(output, summary)?;
    } else {
        read_lines(output, None, &overview, summary)?;
    }
    for unfinished in overview.unfinished.values() {
        summary.add_unfinished(&unfinished.statuses, unfinished.usage);
    }
    if let Some(end) = overview.end {
        summary.run.wall += Duration::from_millis(end.wall_ms);
        summary.run.answered += end.answered;
        summary.run.completion_tokens += end.completion_tokens;
        summary.run.add_endpoints(end.endpoints);
    }
    Ok(())
}

/// Whether an output is a table: rows as JSON begin with a brace.
fn is_table(output: &Path) -> bool {
    let mut first = [0];
    let read = std::fs::File::open(output).and_then(|mut file| file.read(&mut first));
    read.is_ok_and(|read| read > 0 && first != *b"{")
}

/// Reads an output and, line by line beside it, the ledger that says what it lacks.
fn read_lines(
    output: &Path,
    ledger: Option<&Path>,
    overview: &Overview,
    summary: &mut Summary,
) -> Result<(), ReplayError> {
    let mut heads = ledger.map(|ledger| Heads::open(ledger, overview.last_run)).transpose()?;
    let mut reader =
        BufReader::with_capacity(256 * 1024, std::fs::File::open(output).map_err(io_error(output))?);
    let (mut line, mut number, mut at) = (Vec::new(), 0, 0);
    while reader.read_until(b'\n', &mut line).map_err(io_error(output))? > 0 {
        number += 1;
        let stored = StoredRow::parse(&line).map_err(|error| ReplayError::NotARow {
            path: output.to_owned(),
            line: number,
            message: error.to_string(),
        })?;
        let head = heads.as_mut().map_or(Ok(None), |heads| heads.at(at))?;
        let mut facts = facts(stored, false);
        if let Some(head) = head {
            facts.statuses = Cow::Owned(head.statuses);
            facts.wasted = head.wasted;
            facts.resumed = head.resumed;
        }
        summary.add(&facts);
        at += line.len() as u64;
        line.clear();
    }
    Ok(())
}

/// What the ledger says of the rows of an output, in its order.
struct Heads {
    lines: Lines,
    path: PathBuf,
    last_run: u64,
    next: Option<(Head, Span)>,
}

impl Heads {
    fn open(ledger: &Path, last_run: u64) -> Result<Self, ReplayError> {
        let lines = Lines::open(ledger).map_err(io_error(ledger))?;
        Ok(Self { lines, path: ledger.to_owned(), last_run, next: None })
    }

    /// What it says of the row that begins there; nothing of those that could not become requests.
    fn at(&mut self, at: u64) -> Result<Option<Head>, ReplayError> {
        while self.next.is_none() {
            let Some((offset, line)) = self.lines.next_line().map_err(io_error(&self.path))? else { break };
            if let Ok(Entry::Stored(mut head, span)) = Entry::parse(line) {
                head.resumed |= offset < self.last_run;
                self.next = Some((head, span));
            }
        }
        Ok(self.next.take_if(|(_, span)| span.at == at).map(|(head, _)| head))
    }
}

/// A table holds less than the rows did; what it has is reported.
fn read_table(output: &Path, summary: &mut Summary) -> Result<(), ReplayError> {
    let io_error = |error: csv::Error| io_error(output)(error.into());
    let mut reader = csv::Reader::from_path(output).map_err(io_error)?;
    let header = reader.headers().map_err(io_error)?.clone();
    let ours = OwnCells::of(&header).ok_or_else(|| ReplayError::NotARow {
        path: output.to_owned(),
        line: 1,
        message: "the table lacks a column of those that `run` writes, such as \"status\"".to_owned(),
    })?;
    for (number, record) in (0_u64..).zip(reader.records()) {
        let record = record.map_err(io_error)?;
        let cell = |name: &str| ours.get(&record, name);
        let tokens = |name: &str| cell(name).and_then(|cell| cell.parse().ok()).map(Tokens);
        let failure = (cell("status") != Some("ok")).then(|| {
            let (kind, message) = cell("error").unwrap_or_default().split_once(": ").unwrap_or_default();
            let kind = serde_json::from_value(kind.into()).unwrap_or(FailureKind::BadResponse);
            let id = cell("id").map_or_else(|| number.to_string(), str::to_owned);
            FailedRow { id: Cow::Owned(RowId::Text(id)), kind, status: None, message: message.into() }
        });
        let attempts = cell("attempts").and_then(|cell| cell.parse().ok()).unwrap_or(0);
        let status = (attempts > 0 && failure.is_none()).then_some((200, 1));
        summary.add(&Facts {
            failure,
            model: cell("model").map(Cow::Borrowed),
            usage: Usage {
                prompt_tokens: tokens("prompt_tokens"),
                completion_tokens: tokens("completion_tokens"),
                total_tokens: tokens("total_tokens"),
                ..Usage::default()
            },
            wasted: Tokens(0),
            cost: cell("cost_usd").and_then(|cell| cell.parse().ok()).and_then(Usd::from_dollars),
            attempts,
            statuses: Cow::Owned(StatusCounts(status.into_iter().collect())),
            latency: cell("latency_ms")
                .and_then(|cell| cell.parse::<f64>().ok())
                .and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
            cached: false,
            resumed: false,
        });
    }
    Ok(())
}

/// What a ledger holds, as a whole.
#[derive(Default)]
struct Overview {
    /// Where the last run begins.
    last_run: u64,
    /// Rows whose outcomes it knows, and how many of them only the output holds.
    outcomes: u64,
    stored: u64,
    /// Whether rows were finished since the output was written.
    has_news: bool,
    /// Whether the output is all that there is.
    is_clean: bool,
    mark: Option<OutputMark>,
    gone: Vec<u64>,
    unfinished: HashMap<Identity, Unfinished>,
    end: Option<EndOfRun>,
}

impl Overview {
    fn read(ledger: &Path) -> Result<Self, ReplayError> {
        let mut lines = Lines::open(ledger).map_err(io_error(ledger))?;
        let mut overview = Self::default();
        while let Some((offset, line)) = lines.next_line().map_err(io_error(ledger))? {
            if let Ok(entry) = Entry::parse(line) {
                overview.take(offset, entry);
            }
        }
        overview.is_clean = overview.stored > 0 && !overview.has_news;
        Ok(overview)
    }

    fn take(&mut self, offset: u64, entry: Entry) {
        match entry {
            Entry::Run(_) => self.last_run = offset,
            Entry::Outcome(head) => {
                self.outcomes += 1;
                self.has_news |= !head.orphan;
                self.finished(&head);
            }
            Entry::Stored(head, _) => {
                self.outcomes += 1;
                self.stored += 1;
                self.finished(&head);
            }
            Entry::Attempt(identity, attempt) => self.unfinished.entry(identity).or_default().add(&attempt),
            Entry::Gone(places) => self.gone = places,
            Entry::Output(mark, _) => {
                self.mark = Some(mark);
                self.has_news = false;
            }
            Entry::End(end) => self.end = Some(end),
            Entry::Ledger { .. } | Entry::Unknown => {}
        }
    }

    fn finished(&mut self, head: &Head) {
        if let Some(identity) = &head.identity {
            self.unfinished.remove(identity);
        }
    }

    /// The last outcome of each row, in the order in which they stand: of a run that was killed, and of an output that
    /// says less than the ledger does.
    fn fold(&self, ledger: &Path, output: &Path, summary: &mut Summary) -> Result<(), ReplayError> {
        let stored_error = |error: LedgerError| ReplayError::Ledger(error);
        let (mut places, mut replaced) = (Vec::new(), Vec::new());
        let mut lines = Lines::open(ledger).map_err(io_error(ledger))?;
        while let Some((offset, line)) = lines.next_line().map_err(io_error(ledger))? {
            let Ok(Entry::Outcome(head) | Entry::Stored(head, _)) = Entry::parse(line) else { continue };
            replaced.extend(head.was);
            match head.identity {
                Some(identity) if !head.orphan && self.gone.binary_search(&offset).is_err() => {
                    places.push((Some(identity.source), offset));
                }
                // A row that could not become a request is judged by every run: the last one counts.
                None if offset > self.last_run => places.push((None, offset)),
                _ => {}
            }
        }
        replaced.sort_unstable();
        places.retain(|(_, offset)| replaced.binary_search(offset).is_err());
        places.sort_unstable_by_key(|(source, offset)| (*source, std::cmp::Reverse(*offset)));
        places.dedup_by(|later, earlier| later.0.is_some() && later.0 == earlier.0);
        places.sort_unstable_by_key(|(_, offset)| *offset);
        let mut rows = StoredRows::open(ledger, output).map_err(stored_error)?;
        for (_, offset) in places {
            let (mut head, row) = rows.row(offset).map_err(stored_error)?;
            head.resumed |= offset < self.last_run;
            if let Some(facts) = facts_of(&head, row) {
                summary.add(&facts);
            }
        }
        Ok(())
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> ReplayError {
    let path = path.to_owned();
    move |source| ReplayError::Io { path: path.clone(), source }
}
