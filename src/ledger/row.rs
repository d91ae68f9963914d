//! The text of a row, which is a line of the output: found in a line of the ledger, and changed where a row moved, was
//! renamed, or carries another input. Only its first and last members are touched; the answer never is.

use std::borrow::Cow;

use serde::Deserialize;

/// What stands before the row in a line of the ledger. No string can hold it: inside of a string its quotes would be
/// escaped.
pub(super) const BEFORE_ROW: &[u8] = b",\"row\":{";
const BEFORE_INDEX: &[u8] = b",\"index\":";
const BEFORE_INPUT: &[u8] = b",\"input\":";

/// The row in an outcome's line: an object's text.
#[must_use]
pub fn row_of(line: &[u8]) -> Option<&[u8]> {
    let start = find(line, BEFORE_ROW)? + BEFORE_ROW.len() - 1;
    line.trim_ascii_end().get(start..)?.strip_suffix(b"}")
}

/// What every outcome's line begins with, and what the line of the same row does once the output holds it.
const OUTCOME: &[u8] = b"{\"v\":2,\"t\":\"outcome\",";
pub(super) const STORED: &[u8] = b"{\"v\":2,\"t\":\"stored\",";

/// An outcome's line taken apart without understanding it: the members that its line keeps once the output holds the
/// row, and the row. `None` if it is no such line, or has no name.
pub(super) fn parts_of(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(OUTCOME)?;
    let end = find(rest, BEFORE_ROW)?;
    let row = rest.get(end + BEFORE_ROW.len() - 1..)?.strip_suffix(b"}\n")?;
    rest.starts_with(b"\"key\":").then_some((&rest[..end], row))
}

/// The row with another index: rows move when others come or go before them. A row without an id of its own is called
/// by its index.
#[must_use]
pub fn with_index(row: &[u8], index: u64, brings_id: bool) -> Cow<'_, [u8]> {
    let Some(place) = find(row, BEFORE_INDEX) else { return row.into() };
    let start = place + BEFORE_INDEX.len();
    let digits = row[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let index = index.to_string();
    if &row[start..start + digits] == index.as_bytes() {
        return row.into();
    }
    let id = if brings_id { row[..place].to_vec() } else { format!("{{\"id\":\"{index}\"").into_bytes() };
    [&id, BEFORE_INDEX, index.as_bytes(), &row[start + digits..]].concat().into()
}

/// The row with its id as it is written now.
#[must_use]
pub fn with_id(row: &[u8], id: &str) -> Vec<u8> {
    let Some(place) = find(row, BEFORE_INDEX) else { return row.to_vec() };
    [b"{\"id\":", id.as_bytes(), &row[place..]].concat()
}

/// The row with another input, which is its last member: what a row carries beside its prompt may be edited without
/// making it another question.
#[must_use]
pub fn with_input(row: &[u8], input: &[u8]) -> Vec<u8> {
    let end = rfind_member(row).unwrap_or(row.len().saturating_sub(1));
    [&row[..end], BEFORE_INPUT, input, b"}"].concat()
}

/// The row without its input.
#[must_use]
pub fn without_input(row: &[u8]) -> Cow<'_, [u8]> {
    match rfind_member(row) {
        Some(end) => [&row[..end], b"}"].concat().into(),
        None => row.into(),
    }
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

pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FailureKind, Identity, RequestHash, RowSource, StatusCounts, Tokens};
    use crate::ledger::{Head, Span};

    #[test]
    fn a_moved_row_gets_its_new_index_and_an_edited_one_its_new_input() {
        let row = br#"{"id":",\"index\":5","index":12,"logprobs":{"index":1,"input":2},"input":{"a":1}}"#;
        assert!(matches!(with_index(row, 12, true), Cow::Borrowed(same) if same == row));
        assert_eq!(
            with_index(br#"{"id":"3","index":3,"a":1}"#, 4, false),
            &br#"{"id":"4","index":4,"a":1}"#[..]
        );
        assert_eq!(with_id(br#"{"id":3,"index":3}"#, "\"3\""), br#"{"id":"3","index":3}"#);
        assert_eq!(
            with_index(row, 7, true),
            &br#"{"id":",\"index\":5","index":7,"logprobs":{"index":1,"input":2},"input":{"a":1}}"#[..]
        );
        let edited = with_input(row, b"\"new\"");
        assert_eq!(
            edited,
            br#"{"id":",\"index\":5","index":12,"logprobs":{"index":1,"input":2},"input":"new"}"#
        );
        assert_eq!(with_input(br#"{"id":1,"index":2}"#, b"1"), br#"{"id":1,"index":2,"input":1}"#);
        let bare = br#"{"id":",\"index\":5","index":12,"logprobs":{"index":1,"input":2}}"#;
        assert_eq!(without_input(&edited), &bare[..]);
        assert_eq!(without_input(br#"{"id":1,"index":2}"#), &br#"{"id":1,"index":2}"#[..]);
    }

    #[test]
    fn a_line_is_turned_into_that_of_a_stored_row_without_being_understood() {
        let failed = Some(FailureKind::Server);
        let head = Head {
            identity: Some(Identity { source: RowSource([1; 16]), request: RequestHash([2; 16]) }),
            statuses: StatusCounts([(200, 1)].into()),
            ..Head::default()
        };
        let retried = Head { statuses: StatusCounts([(200, 1), (429, 2)].into()), ..head.clone() };
        let failed = Head { failed, wasted: Tokens(5), ..head.clone() };
        let row = br#"{"id":"x\",\"row\":{","index":12,"input":{"a":1}}"#;
        let span = Span { at: 10, len: 20, sum: u64::MAX };
        for head in [&head, &retried, &failed] {
            let line = head.with_row(row);
            let (kept, found) = parts_of(&line).unwrap();
            assert_eq!(found, row);
            let mut stored = Vec::new();
            span.write_line(kept, &mut stored).unwrap();
            assert_eq!(String::from_utf8(stored), String::from_utf8(head.stored_line(&span)));
        }
        assert_eq!(parts_of(&Head { identity: None, ..head.clone() }.with_row(row)), None);
        assert_eq!(parts_of(&head.stored_line(&span)), None);
    }
}
