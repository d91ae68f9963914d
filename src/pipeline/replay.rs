//! The figures of an output, from what is on disk: the ledger beside it, or the output alone.

use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accounting::{Facts, RunFigures, Summary};
use crate::domain::{FailureKind, RowId, StatusCounts, Tokens, Usage, Usd};
use crate::ledger::{Entry, EntryKind, LEDGER_FILE, Lines, OutcomeLine, folder_of, row_of};
use crate::output::StoredRow;

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

/// The facts about a row, from its line in the ledger.
pub(super) fn facts_of(line: &[u8], resumed: bool) -> Option<Facts> {
    let outcome = OutcomeLine::of(&Entry::parse(line)?);
    let stored = StoredRow::parse(row_of(line)?).ok()?;
    let mut facts = facts(stored, resumed);
    facts.statuses = outcome.statuses;
    facts.wasted = outcome.wasted;
    Some(facts)
}

/// The facts about a row of an output. What only the ledger knows is derived as far as it can be: the status of the
/// last request.
fn facts(stored: StoredRow<'_>, resumed: bool) -> Facts {
    let status = match (&stored.error, stored.attempts) {
        (_, 0) => None,
        (None, _) => Some(200),
        (Some(error), _) => Some(error.status.unwrap_or(0)),
    };
    Facts {
        id: stored.id,
        failure: stored.error.map(|error| (error.kind, error.status, error.message)),
        model: stored.model,
        usage: stored.usage,
        wasted: Tokens(0),
        cost: stored.cost_usd.and_then(Usd::from_dollars),
        attempts: stored.attempts,
        statuses: StatusCounts(status.map(|status| (status, 1)).into_iter().collect()),
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
    let io_error = |path: &Path, source| ReplayError::Io { path: path.to_owned(), source };
    let ledger = folder_of(output).join(LEDGER_FILE);
    let known = if ledger.exists() {
        Known::read(&ledger).map_err(|source| io_error(&ledger, source))?
    } else {
        Known::default()
    };
    if !output.exists() && ledger.exists() {
        known.rows_of_a_broken_run(&ledger, summary).map_err(|source| io_error(&ledger, source))?;
    } else if output.extension().is_some_and(|extension| extension == "csv") {
        read_table(output, summary)?;
    } else {
        read_lines(output, &known, summary)?;
    }
    summary.run.wall += known.run.wall;
    summary.run.answered += known.run.answered;
    summary.run.completion_tokens += known.run.completion_tokens;
    Ok(())
}

fn read_lines(output: &Path, known: &Known, summary: &mut Summary) -> Result<(), ReplayError> {
    let io_error = |source| ReplayError::Io { path: output.to_owned(), source };
    let mut reader = BufReader::with_capacity(256 * 1024, std::fs::File::open(output).map_err(io_error)?);
    let (mut line, mut number) = (Vec::new(), 0);
    while reader.read_until(b'\n', &mut line).map_err(io_error)? > 0 {
        number += 1;
        let stored = StoredRow::parse(&line).map_err(|error| ReplayError::NotARow {
            path: output.to_owned(),
            line: number,
            message: error.to_string(),
        })?;
        let extra = known.rows.get(&row_name(&stored));
        let mut facts = facts(stored, false);
        if let Some(extra) = extra {
            facts.statuses = extra.statuses.clone();
            facts.wasted = extra.wasted;
            facts.resumed = extra.resumed;
        }
        summary.add(&facts);
        line.clear();
    }
    Ok(())
}

/// A table holds less than the rows did; what it has is reported.
fn read_table(output: &Path, summary: &mut Summary) -> Result<(), ReplayError> {
    let io_error = |error: csv::Error| ReplayError::Io { path: output.to_owned(), source: error.into() };
    let mut reader = csv::Reader::from_path(output).map_err(io_error)?;
    let header = reader.headers().map_err(io_error)?.clone();
    // Ours are the last columns of their names, or of their names with the prefix.
    let column = |name: &str| {
        let found = (0..header.len()).rev();
        found
            .into_iter()
            .find(|at| header.get(*at).is_some_and(|column| column.trim_start_matches("pm_") == name))
    };
    let places = [
        "status",
        "model",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cost_usd",
        "attempts",
        "latency_ms",
        "error",
        "id",
    ]
    .map(column);
    if places[0].is_none() {
        let message = "the table has no column \"status\"".to_owned();
        return Err(ReplayError::NotARow { path: output.to_owned(), line: 1, message });
    }
    for (number, record) in (0_u64..).zip(reader.records()) {
        let record = record.map_err(io_error)?;
        let cell = |at: usize| places[at].and_then(|place| record.get(place)).filter(|cell| !cell.is_empty());
        let tokens = |at: usize| cell(at).and_then(|cell| cell.parse().ok()).map(Tokens);
        let failure = (cell(0) != Some("ok")).then(|| {
            let (kind, message) = cell(8).unwrap_or_default().split_once(": ").unwrap_or_default();
            let kind = serde_json::from_value(kind.into()).unwrap_or(FailureKind::BadResponse);
            (kind, None, message.to_owned())
        });
        let attempts = cell(6).and_then(|cell| cell.parse().ok()).unwrap_or(0);
        let status = (attempts > 0 && failure.is_none()).then_some((200, 1));
        summary.add(&Facts {
            id: RowId::Text(cell(9).map_or_else(|| number.to_string(), str::to_owned)),
            failure,
            model: cell(1).map(str::to_owned),
            usage: Usage {
                prompt_tokens: tokens(2),
                completion_tokens: tokens(3),
                total_tokens: tokens(4),
                ..Usage::default()
            },
            wasted: Tokens(0),
            cost: cell(5).and_then(|cell| cell.parse().ok()).and_then(Usd::from_dollars),
            attempts,
            statuses: StatusCounts(status.into_iter().collect()),
            latency: cell(7)
                .and_then(|cell| cell.parse::<f64>().ok())
                .and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
            cached: false,
            resumed: false,
        });
    }
    Ok(())
}

/// What the ledger knows and the output lacks.
#[derive(Default)]
struct Known {
    rows: std::collections::HashMap<RowName, Extra>,
    run: RunFigures,
}

/// A row's name on both sides: its id and what it cost tell it apart well enough to find its statuses again.
type RowName = (String, u64, u64);

struct Extra {
    statuses: StatusCounts,
    wasted: Tokens,
    resumed: bool,
    offset: u64,
    run: u64,
}

fn row_name(stored: &StoredRow<'_>) -> RowName {
    (stored.id.to_string(), stored.attempts, stored.latency_ms.unwrap_or(0.0).to_bits())
}

impl Known {
    fn read(ledger: &Path) -> io::Result<Self> {
        let mut lines = Lines::open(ledger)?;
        let mut known = Self::default();
        let mut run = 0;
        while let Some((offset, line)) = lines.next_line()? {
            let Some(entry) = Entry::parse(line) else { continue };
            match entry.t {
                EntryKind::Run => run += 1,
                EntryKind::End => {
                    known.run = RunFigures {
                        wall: Duration::from_millis(entry.wall_ms.unwrap_or(0)),
                        answered: entry.answered.unwrap_or(0),
                        completion_tokens: entry.completion_tokens.unwrap_or(0),
                    };
                }
                EntryKind::Outcome => {
                    let Some(stored) = row_of(line).and_then(|row| StoredRow::parse(row).ok()) else {
                        continue;
                    };
                    let outcome = OutcomeLine::of(&entry);
                    let extra = Extra {
                        statuses: outcome.statuses,
                        wasted: outcome.wasted,
                        resumed: false,
                        offset,
                        run,
                    };
                    known.rows.insert(row_name(&stored), extra);
                }
                _ => {}
            }
        }
        known.rows.values_mut().for_each(|extra| extra.resumed = extra.run < run);
        Ok(known)
    }

    /// A run that was killed has left no output yet, but its rows are in the ledger.
    fn rows_of_a_broken_run(&self, ledger: &Path, summary: &mut Summary) -> io::Result<()> {
        let mut places: Vec<&Extra> = self.rows.values().collect();
        places.sort_unstable_by_key(|extra| extra.offset);
        let mut lines = crate::ledger::LineAt::open(ledger)?;
        for extra in places {
            if let Some(facts) = facts_of(lines.line(extra.offset)?, extra.resumed) {
                summary.add(&facts);
            }
        }
        Ok(())
    }
}
