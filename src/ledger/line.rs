//! The lines of the ledger. Each is an object with a version `v` and a tag `t`; an outcome's last member is `row`, the
//! line of the output as it stands, so that finishing copies bytes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::row::{BEFORE_ROW, find};
use super::{Span, Unfinished};
use crate::domain::{EndpointFigures, FailureKind, Identity, JobHash, StatusCounts, Tokens, Usage};

/// The version of the format. Later ones are refused, and the first, which no release wrote.
pub(super) const VERSION: u64 = 2;

/// What the ledger knows of a finished row beside the row itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// The row's name; `None` for one that could not become a request and is judged anew by every run.
    pub identity: Option<Identity>,
    /// A short hash of the row as it came.
    pub input: u64,
    /// Why it failed, if it did.
    pub failed: Option<FailureKind>,
    /// The row's requests by status.
    pub statuses: StatusCounts,
    /// Tokens of answers that were not used.
    pub wasted: Tokens,
    /// Whether the last run found the row finished.
    pub resumed: bool,
    /// Where the line begins that this one takes the place of: the same answer, under another name.
    pub was: Option<u64>,
    /// Whether it is the answer of a row that had left the input when the output was last written.
    pub orphan: bool,
}

/// How the output looked when a run wrote it, to notice when something else did since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct OutputMark {
    /// Its length, in bytes.
    pub len: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified_ns: u64,
    /// A hash of all of it.
    pub sum: u64,
    /// A hash of what decides over its form: format, order, fields, first row.
    pub form: u64,
    /// Whether its rows are numbered without a gap, in the order of the input.
    pub gapless: bool,
    /// How many of its rows the ledger does not hold itself.
    pub rows: u64,
}

/// A run's end, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct EndOfRun {
    /// How long it took.
    pub wall_ms: u64,
    /// Rows it answered.
    pub answered: u64,
    /// Completion tokens it received.
    pub completion_tokens: u64,
    /// How its endpoints were used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointFigures>,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The first line of the file. Whether the run was told to replace an output that was there.
    Ledger {
        /// It was.
        overwrites: bool,
    },
    /// A run of this job begins.
    Run(JobHash),
    /// A row is finished; the line holds it, behind the rest.
    Outcome(Head),
    /// A row was finished; the output holds it, there.
    Stored(Head, Span),
    /// Attempts failed, and their row was not finished when this was written.
    Attempt(Identity, Unfinished),
    /// The rows whose lines begin there had left the input when the output was last written.
    Gone(Vec<u64>),
    /// The output was written. Whoever wrote it may have left its totals, in a form of their own.
    Output(OutputMark, Option<Value>),
    /// A run ended by itself.
    End(EndOfRun),
    /// Something that this version does not know.
    Unknown,
}

/// The tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Tag {
    Ledger,
    Run,
    Outcome,
    Stored,
    Attempt,
    Gone,
    Output,
    End,
    #[default]
    #[serde(other)]
    Unknown,
}

/// A line as JSON has it, without the row.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Wire<'a> {
    v: u64,
    t: Tag,
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    input: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<FailureKind>,
    /// Left out where it is one request that came back with 200, or none of a row that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    statuses: Option<StatusCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wasted: Option<Tokens>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resumed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    orphan: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    sum: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    places: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    overwrites: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<OutputMark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<EndOfRun>,
}

impl Head {
    /// The statuses as they are when a line does not say them.
    fn usual_statuses(&self) -> StatusCounts {
        StatusCounts(if self.failed.is_none() { [(200, 1)].into() } else { [].into() })
    }

    fn has_usual_statuses(&self) -> bool {
        let statuses = &self.statuses.0;
        if self.failed.is_none() {
            statuses.len() == 1 && statuses.get(&200) == Some(&1)
        } else {
            statuses.is_empty()
        }
    }

    fn of(wire: &Wire<'_>) -> Self {
        let head = Self {
            identity: wire.key.and_then(Identity::parse),
            input: wire.input.and_then(parse_short).unwrap_or(0),
            failed: wire.failed,
            statuses: StatusCounts::default(),
            wasted: wire.wasted.unwrap_or_default(),
            resumed: wire.resumed,
            was: wire.was,
            orphan: wire.orphan,
        };
        let statuses = wire.statuses.clone().unwrap_or_else(|| head.usual_statuses());
        Self { statuses, ..head }
    }

    /// The line of a row that the output holds.
    #[must_use]
    pub fn stored_line(&self, span: &Span) -> Vec<u8> {
        let (key, input, sum) = (self.key(), short(self.input), short(span.sum));
        let wire = self.wire(Tag::Stored, key.as_deref(), &input);
        line_of(&Wire { at: Some(span.at), len: Some(span.len), sum: Some(&sum), ..wire })
    }

    /// The line with the row in it.
    #[must_use]
    pub fn with_row(&self, row: &[u8]) -> Vec<u8> {
        let mut line = Vec::new();
        self.line_with(&mut line, |line| line.extend_from_slice(row));
        line
    }

    /// The same behind other lines, with a row that is written straight into it: an object's text.
    pub fn line_with(&self, lines: &mut Vec<u8>, write_row: impl FnOnce(&mut Vec<u8>)) {
        let (key, input) = (self.key(), short(self.input));
        // A struct of strings and numbers always serialises.
        let _ = serde_json::to_writer(&mut *lines, &self.wire(Tag::Outcome, key.as_deref(), &input));
        lines.pop();
        lines.extend_from_slice(&BEFORE_ROW[..BEFORE_ROW.len() - 1]);
        write_row(lines);
        lines.extend_from_slice(b"}\n");
    }

    fn key(&self) -> Option<String> {
        self.identity.map(|identity| identity.to_string())
    }

    fn wire<'a>(&self, tag: Tag, key: Option<&'a str>, input: &'a str) -> Wire<'a> {
        Wire {
            v: VERSION,
            t: tag,
            key,
            input: Some(input),
            failed: self.failed,
            statuses: (!self.has_usual_statuses()).then(|| self.statuses.clone()),
            wasted: (self.wasted != Tokens(0)).then_some(self.wasted),
            resumed: self.resumed,
            was: self.was,
            orphan: self.orphan,
            ..Wire::default()
        }
    }
}

/// Why a line is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no line of a ledger.
    Damaged,
    /// It is of another version of the format.
    Version(u64),
}

impl Entry {
    /// The whole line.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let empty = |tag| Wire { v: VERSION, t: tag, ..Wire::default() };
        match self {
            Self::Ledger { overwrites } => line_of(&Wire { overwrites: *overwrites, ..empty(Tag::Ledger) }),
            Self::Run(job) => line_of(&Wire { job: Some(&job.to_string()), ..empty(Tag::Run) }),
            Self::Outcome(head) => head.with_row(b"{}"),
            Self::Stored(head, span) => head.stored_line(span),
            Self::Attempt(identity, attempt) => line_of(&Wire {
                key: Some(&identity.to_string()),
                statuses: Some(attempt.statuses.clone()),
                usage: (!attempt.usage.is_unknown()).then_some(attempt.usage),
                ..empty(Tag::Attempt)
            }),
            Self::Gone(places) => line_of(&Wire { places: Some(places.clone()), ..empty(Tag::Gone) }),
            Self::Output(mark, totals) => {
                line_of(&Wire { output: Some(*mark), totals: totals.clone(), ..empty(Tag::Output) })
            }
            Self::End(run) => line_of(&Wire { run: Some(run.clone()), ..empty(Tag::End) }),
            Self::Unknown => line_of(&empty(Tag::Unknown)),
        }
    }

    /// Reads a line, the row left aside.
    ///
    /// # Errors
    /// It is no line of a ledger, or one of another version.
    pub fn parse(line: &[u8]) -> Result<Self, Unreadable> {
        let head;
        let text = match find(line, BEFORE_ROW) {
            None => line,
            Some(end) => {
                head = [&line[..end], b"}"].concat();
                &head
            }
        };
        let wire: Wire<'_> = serde_json::from_slice(text).map_err(|_| Unreadable::Damaged)?;
        // An array is read as an object too.
        if wire.v == 0 || text.first() != Some(&b'{') {
            return Err(Unreadable::Damaged);
        }
        if wire.v != VERSION {
            return Err(Unreadable::Version(wire.v));
        }
        Self::of(&wire).ok_or(Unreadable::Damaged)
    }

    fn of(wire: &Wire<'_>) -> Option<Self> {
        Some(match wire.t {
            Tag::Ledger => Self::Ledger { overwrites: wire.overwrites },
            Tag::Run => Self::Run(JobHash::parse(wire.job?)?),
            Tag::Outcome => Self::Outcome(Head::of(wire)),
            Tag::Stored => {
                let span = Span { at: wire.at?, len: wire.len?, sum: parse_short(wire.sum?)? };
                Self::Stored(Head::of(wire), span)
            }
            Tag::Attempt => {
                let statuses = wire.statuses.clone().unwrap_or_default();
                let attempt = Unfinished { statuses, usage: wire.usage.unwrap_or_default() };
                Self::Attempt(Identity::parse(wire.key?)?, attempt)
            }
            Tag::Gone => Self::Gone(wire.places.clone()?),
            Tag::Output => Self::Output(wire.output?, wire.totals.clone()),
            Tag::End => Self::End(wire.run.clone()?),
            Tag::Unknown => Self::Unknown,
        })
    }
}

fn line_of(wire: &Wire<'_>) -> Vec<u8> {
    // A struct of strings and numbers always serialises.
    let mut line = serde_json::to_vec(wire).unwrap_or_default();
    line.push(b'\n');
    line
}

/// A short hash as 11 characters.
pub(super) fn short(hash: u64) -> String {
    URL_SAFE_NO_PAD.encode(hash.to_be_bytes())
}

fn parse_short(text: &str) -> Option<u64> {
    let mut bytes = [0; 8];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (length == bytes.len()).then(|| u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{RequestHash, RowSource};
    use crate::ledger::row_of;

    fn head() -> Head {
        Head {
            identity: Some(Identity { source: RowSource([1; 16]), request: RequestHash([2; 16]) }),
            input: 7,
            statuses: StatusCounts([(200, 1), (429, 2)].into()),
            wasted: Tokens(5),
            ..Head::default()
        }
    }

    #[test]
    fn an_outcome_is_read_back_whole() {
        let row = br#"{"id":"x\",\"row\":{","index":12,"status":"ok","output":",\"row\":{","input":{"a":1}}"#;
        let line = head().with_row(row);
        assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1);
        assert_eq!(row_of(&line), Some(&row[..]));
        assert_eq!(Entry::parse(&line), Ok(Entry::Outcome(head())));
    }

    #[test]
    fn every_entry_is_read_back() {
        let identity = head().identity.unwrap();
        let usual = Head { statuses: StatusCounts([(200, 1)].into()), ..head() };
        let failed = Head { failed: Some(FailureKind::Server), ..Head::default() };
        let cached =
            Head { statuses: StatusCounts::default(), resumed: true, was: Some(3), orphan: true, ..head() };
        let span = Span { at: 10, len: 20, sum: u64::MAX };
        let mark = OutputMark { len: 1, modified_ns: 2, sum: 3, form: 4, gapless: true, rows: 5 };
        let usage = Usage { total_tokens: Some(Tokens(3)), ..Usage::default() };
        let entries = [
            Entry::Ledger { overwrites: true },
            Entry::Run(JobHash([3; 16])),
            Entry::Outcome(failed),
            Entry::Stored(usual, span),
            Entry::Stored(cached, span),
            Entry::Attempt(identity, Unfinished { statuses: StatusCounts([(0, 2)].into()), usage }),
            Entry::Gone(vec![1, 2]),
            Entry::Output(mark, None),
            Entry::Output(mark, Some(serde_json::json!({"rows": 1}))),
            Entry::End(EndOfRun { wall_ms: 1, answered: 2, completion_tokens: 3, endpoints: Vec::new() }),
            Entry::Unknown,
        ];
        for entry in entries {
            assert_eq!(Entry::parse(&entry.to_line()), Ok(entry));
        }
    }

    #[test]
    fn a_row_that_the_output_holds_takes_little_room() {
        let usual = Head { statuses: StatusCounts([(200, 1)].into()), wasted: Tokens(0), ..head() };
        let line = usual.stored_line(&Span { at: 123_456_789, len: 450, sum: 1 });
        assert!(line.len() <= 140, "{} bytes: {}", line.len(), String::from_utf8_lossy(&line));
    }

    #[test]
    fn lines_of_other_versions_are_known_as_such() {
        assert_eq!(Entry::parse(br#"{"v":2,"t":"loan","usd":1}"#), Ok(Entry::Unknown));
        assert_eq!(Entry::parse(br#"{"v":3,"t":"outcome"}"#), Err(Unreadable::Version(3)));
        assert_eq!(Entry::parse(br#"{"v":1,"t":"outcome"}"#), Err(Unreadable::Version(1)));
        for line in [&b"{\"v\":2,\"t\":\"outc"[..], b"{\"v\":2,\"t\":\"run\"}", b"", b"1", b"[2,\"end\"]"] {
            assert_eq!(Entry::parse(line), Err(Unreadable::Damaged));
        }
    }
}
