//! The lines of the ledger. Each is an object with a version `v` and a tag `t`; an outcome's last member is `row`, the
//! line of the output as it stands, so that finishing copies bytes.

use serde::{Deserialize, Serialize};

use crate::domain::{Identity, RequestHash, RowKey, StatusCounts, Tokens};

/// The version of the format; a later one is refused.
pub(super) const VERSION: u64 = 1;

/// What stands before the row. No string can hold it: inside of a string its quotes would be escaped.
const BEFORE_ROW: &[u8] = b",\"row\":{";
const BEFORE_INDEX: &[u8] = b",\"index\":";
const BEFORE_INPUT: &[u8] = b",\"input\":";

/// What the ledger knows of an outcome beside the row.
#[derive(Clone, Debug)]
pub struct OutcomeLine {
    /// The row's name; `None` for one that could not become a request and is judged anew by every run.
    pub identity: Option<Identity>,
    /// Whether the row was answered.
    pub ok: bool,
    /// A short hash of the row as it came.
    pub input: u64,
    /// The row's requests by status.
    pub statuses: StatusCounts,
    /// Tokens of answers that were not used.
    pub wasted: Tokens,
}

/// A line as it is read back, without the row.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Entry {
    /// The version of the line's format.
    pub v: u64,
    /// What the line says.
    pub t: EntryKind,
    /// The row's name, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The hash of what was asked, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The row's name whatever is asked of it, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether the row was answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ok: bool,
    /// A short hash of the row as it came, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Requests by status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuses: Option<StatusCounts>,
    /// Tokens of answers that were not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasted: Option<Tokens>,
    /// Milliseconds: of a run's end, how long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    /// Rows that a run answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<u64>,
    /// Completion tokens that a run received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
}

/// What a line says. Tags that this version does not know are passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// The first line of the file.
    Ledger,
    /// A run begins.
    Run,
    /// A row is finished.
    Outcome,
    /// An attempt failed and its row is not finished yet.
    Attempt,
    /// A run ended by itself.
    End,
    /// Something a later version writes.
    #[default]
    #[serde(other)]
    Unknown,
}

impl OutcomeLine {
    /// The line, with the row's text, ready to be appended.
    #[must_use]
    pub fn with_row(&self, row: &[u8]) -> Vec<u8> {
        let entry = Entry {
            v: VERSION,
            t: EntryKind::Outcome,
            key: self.identity.map(|identity| identity.key.to_string()),
            request: self.identity.map(|identity| identity.request.to_string()),
            source: self.identity.map(|identity| identity.source.to_string()),
            ok: self.ok,
            input: Some(format!("{:016x}", self.input)),
            statuses: (!self.statuses.0.is_empty()).then(|| self.statuses.clone()),
            wasted: (self.wasted != Tokens(0)).then_some(self.wasted),
            ..Entry::default()
        };
        let mut line = entry.to_bytes();
        line.truncate(line.len() - 1);
        line.extend_from_slice(&BEFORE_ROW[..BEFORE_ROW.len() - 1]);
        line.extend_from_slice(row);
        line.extend_from_slice(b"}\n");
        line
    }

    /// Reads back what `with_row` wrote.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let identity = || {
            Some(Identity {
                key: RowKey::parse(entry.key.as_deref()?)?,
                request: RequestHash::parse(entry.request.as_deref()?)?,
                source: RowKey::parse(entry.source.as_deref()?)?,
            })
        };
        Self {
            identity: identity(),
            ok: entry.ok,
            input: entry.input.as_deref().and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
            statuses: entry.statuses.clone().unwrap_or_default(),
            wasted: entry.wasted.unwrap_or_default(),
        }
    }
}

impl Entry {
    /// An entry of this kind, otherwise empty.
    #[must_use]
    pub fn new(kind: EntryKind) -> Self {
        Self { v: VERSION, t: kind, ..Self::default() }
    }

    /// The line without its end.
    fn to_bytes(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The whole line.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = self.to_bytes();
        line.push(b'\n');
        line
    }

    /// Reads a line, the row left aside; `None` if it is no entry.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        match find(line, BEFORE_ROW) {
            None => serde_json::from_slice(line).ok(),
            Some(end) => {
                let mut head = Vec::with_capacity(end + 1);
                head.extend_from_slice(&line[..end]);
                head.push(b'}');
                serde_json::from_slice(&head).ok()
            }
        }
    }
}

/// The row in an outcome's line: an object's text.
#[must_use]
pub fn row_of(line: &[u8]) -> Option<&[u8]> {
    let start = find(line, BEFORE_ROW)? + BEFORE_ROW.len() - 1;
    line.trim_ascii_end().get(start..)?.strip_suffix(b"}")
}

/// The row with another index: rows move when others come or go before them.
#[must_use]
pub fn with_index(row: &[u8], index: u64) -> Vec<u8> {
    let Some(start) = find(row, BEFORE_INDEX).map(|at| at + BEFORE_INDEX.len()) else { return row.to_vec() };
    let digits = row[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    [&row[..start], index.to_string().as_bytes(), &row[start + digits..]].concat()
}

/// The row with another input, which is its last member: what a row carries beside its prompt may be edited without
/// making it another question.
#[must_use]
pub fn with_input(row: &[u8], input: &[u8]) -> Option<Vec<u8>> {
    let at = rfind_member(row)?;
    Some([&row[..at + BEFORE_INPUT.len()], input, b"}"].concat())
}

/// Where the row's own `input` member stands. An answer's parts may hold members of that name, deeper down and before
/// it, so it is found by reading the members of the row.
fn rfind_member(row: &[u8]) -> Option<usize> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        input: &'a serde_json::value::RawValue,
    }
    let parsed: Row<'_> = serde_json::from_slice(row).ok()?;
    let before = row.len().checked_sub(parsed.input.get().len() + 1 + BEFORE_INPUT.len())?;
    row[before..].starts_with(BEFORE_INPUT).then_some(before)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> OutcomeLine {
        OutcomeLine {
            identity: Some(Identity {
                key: RowKey([1; 16]),
                request: RequestHash([2; 16]),
                source: RowKey([3; 16]),
            }),
            ok: true,
            input: 7,
            statuses: StatusCounts([(200, 1), (429, 2)].into()),
            wasted: Tokens(5),
        }
    }

    #[test]
    fn an_outcome_is_read_back_whole() {
        let row = br#"{"id":"x\",\"row\":{","index":12,"status":"ok","output":",\"row\":{","input":{"a":1}}"#;
        let line = outcome().with_row(row);
        assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1);
        assert_eq!(row_of(&line), Some(&row[..]));
        let read = OutcomeLine::of(&Entry::parse(&line).unwrap());
        assert_eq!(read.identity, outcome().identity);
        assert_eq!((read.ok, read.input, read.wasted), (true, 7, Tokens(5)));
        assert_eq!(read.statuses, outcome().statuses);
    }

    #[test]
    fn a_moved_row_gets_its_new_index_and_an_edited_one_its_new_input() {
        let row = br#"{"id":",\"index\":5","index":12,"logprobs":{"index":1,"input":2},"input":{"a":1}}"#;
        let moved = with_index(row, 7);
        assert_eq!(
            moved,
            br#"{"id":",\"index\":5","index":7,"logprobs":{"index":1,"input":2},"input":{"a":1}}"#
        );
        let edited = with_input(row, b"\"new\"").unwrap();
        assert_eq!(
            edited,
            br#"{"id":",\"index\":5","index":12,"logprobs":{"index":1,"input":2},"input":"new"}"#
        );
        assert_eq!(with_input(br#"{"id":1,"index":2}"#, b"1"), None);
    }

    #[test]
    fn lines_of_later_versions_are_known_as_such() {
        assert_eq!(Entry::parse(br#"{"v":1,"t":"loan","usd":1}"#).unwrap().t, EntryKind::Unknown);
        assert!(Entry::parse(b"{\"v\":1,\"t\":\"outc").is_none());
    }
}
