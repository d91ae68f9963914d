//! Whether the output is as the last run left it, since it may hold answers that the ledger does not; and what can be
//! saved where it is not.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::finish::modified;
use super::folder::{LEDGER_FILE, NEXT_FILE};
use super::read::sum_of;
use super::{Earlier, Entry, LedgerError, Lines, OutputMark, Span};
use crate::domain::JobHash;

/// Checks the output against the ledger. Where lines are gone from it, their rows are as if they had not been
/// answered.
///
/// # Errors
/// The output is gone with answers, or holds lines that no run wrote: what exists is not destroyed.
pub(super) fn check_output(
    folder: &Path,
    output: &Path,
    earlier: &mut Earlier,
    job: JobHash,
) -> Result<(), LedgerError> {
    let Ok(file) = File::open(output) else {
        return match earlier.stored {
            0 => Ok(()),
            answers => Err(LedgerError::OutputGone { path: output.to_owned(), answers }),
        };
    };
    let now = now(&file).map_err(LedgerError::io("read", output))?;
    let as_written = |mark: &OutputMark| (mark.len, mark.modified_ns) == now;
    if earlier.marks.iter().rev().any(as_written) {
        return Ok(());
    }
    let same_length = earlier.marks.iter().any(|mark| mark.len == now.0);
    if same_length && {
        let sum = sum(file).map_err(LedgerError::io("read", output))?;
        earlier.marks.iter().any(|mark| mark.sum == sum)
    } {
        // It was copied or touched.
        return Ok(());
    }
    if earlier.stored == 0 {
        return match earlier.marks.is_empty() {
            true if earlier.overwrites => Ok(()),
            true => Err(LedgerError::Foreign(output.to_owned())),
            false => Err(LedgerError::OutputChanged { path: output.to_owned(), line: 1 }),
        };
    }
    let changed = save_rows(folder, output, now)?;
    match changed {
        Some(line) => Err(LedgerError::OutputChanged { path: output.to_owned(), line }),
        None => {
            *earlier = Earlier::read(&folder.join(LEDGER_FILE), job)?;
            Ok(())
        }
    }
}

/// Length and time of a file.
fn now(file: &File) -> io::Result<(u64, u64)> {
    Ok((file.metadata()?.len(), modified(file)?))
}

fn sum(mut file: File) -> io::Result<u64> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut file, &mut hasher)?;
    Ok(sum_of(&hasher.finalize()))
}

/// Moves the rows that the output still holds into the ledger. Returns the output's first line, from 1, that is none
/// of them.
fn save_rows(folder: &Path, output: &Path, now: (u64, u64)) -> Result<Option<u64>, LedgerError> {
    let (ledger, next) = (folder.join(LEDGER_FILE), folder.join(NEXT_FILE));
    let wanted = wanted(&ledger).map_err(LedgerError::io("read", &ledger))?;
    let (places, foreign) = held(output, &wanted).map_err(LedgerError::io("read", output))?;
    let rewrite = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(&next)?);
        let mut lines = Lines::open(&ledger)?;
        let mut rows = File::open(output)?;
        while let Some((_, line)) = lines.next_line()? {
            match Entry::parse(line) {
                Ok(Entry::Stored(head, span)) => {
                    if let Some(at) = places.get(&span.sum) {
                        file.write_all(&head.with_row(&row_at(&mut rows, *at, span.len)?))?;
                    }
                }
                Ok(Entry::Output(..)) => {}
                _ => file.write_all(line)?,
            }
        }
        // Without foreign lines there is nothing in the output that the ledger lacks; with them it stays as it is.
        let (len, modified_ns) = if foreign.is_none() { now } else { (u64::MAX, 0) };
        let mark = OutputMark { len, modified_ns, ..OutputMark::default() };
        file.write_all(&Entry::Output(mark, None).to_line())?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(&next, &ledger)
    };
    rewrite().map_err(LedgerError::io("repair", &ledger))?;
    Ok(foreign)
}

/// The hashes of the rows that the output should hold.
fn wanted(ledger: &Path) -> io::Result<HashSet<u64>> {
    let mut wanted = HashSet::new();
    let mut lines = Lines::open(ledger)?;
    while let Some((_, line)) = lines.next_line()? {
        if let Ok(Entry::Stored(_, span)) = Entry::parse(line) {
            wanted.insert(span.sum);
        }
    }
    Ok(wanted)
}

/// Where the output holds them, and its first line that is not among them.
fn held(output: &Path, wanted: &HashSet<u64>) -> io::Result<(HashMap<u64, u64>, Option<u64>)> {
    let (mut held, mut foreign, mut number) = (HashMap::new(), None, 0);
    let mut lines = Lines::open(output)?;
    while let Some((at, line)) = lines.next_line()? {
        number += 1;
        let sum = Span::of(at, &line[..line.len() - 1]).sum;
        if wanted.contains(&sum) {
            held.insert(sum, at);
        } else if foreign.is_none() && !is_judged_anew(line) {
            foreign = Some(number);
        }
    }
    // A last line without its end was cut; whether it is one of ours cannot be told.
    let whole = lines.end() == fs::metadata(output)?.len();
    Ok((held, foreign.or((!whole).then_some(number + 1))))
}

/// Rows that could not become requests have no name in the ledger: every run writes them anew.
fn is_judged_anew(line: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Row<'a> {
        status: &'a str,
        attempts: u64,
    }
    serde_json::from_slice(line).is_ok_and(|row: Row<'_>| row.status == "error" && row.attempts == 0)
}

fn row_at(output: &mut File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    output.seek(SeekFrom::Start(at))?;
    let mut row = Vec::new();
    output.take(len).read_to_end(&mut row)?;
    Ok(row)
}
