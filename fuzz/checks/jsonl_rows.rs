//! JSON lines: a line is one row or one bad row with the right number, or blank and none.

use promptmill::domain::{RecordBody, Row};
use promptmill::input::Format;

use super::reading::{MAX_ROW_BYTES, check_plans, is_not_plain, location, read, without_mark};

pub fn check(data: &[u8]) {
    let (rows, error) = read(Format::Jsonl, data);
    if !is_not_plain(data) && !is_not_plain(without_mark(data)) {
        assert!(error.is_none(), "{error:?}");
        let expected = expected(without_mark(data));
        assert_eq!(rows.len(), expected.len());
        for (row, (line, text)) in rows.iter().zip(expected) {
            assert_eq!(location(row).line, line);
            match (row, text) {
                (Row::Record(record), Some(text)) => {
                    assert!(
                        matches!(&record.body, RecordBody::Json(read) if *read == text),
                        "{row:?} {text}"
                    );
                }
                (Row::Bad(_), None) => {}
                (row, text) => panic!("{row:?} was to be {text:?}"),
            }
        }
    }
    check_plans(rows);
}

/// The lines that are not blank, each with its number, and its text if that can be read.
fn expected(data: &[u8]) -> Vec<(u64, Option<&str>)> {
    let mut lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().filter(|last| !last.is_empty());
    let endings = lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let last = last.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    (1..)
        .zip(endings.chain(last))
        .filter_map(|(number, line)| {
            if line.len() as u64 > MAX_ROW_BYTES {
                return Some((number, None));
            }
            let text = std::str::from_utf8(line).ok().map(str::trim_ascii);
            (!line.trim_ascii().is_empty()).then_some((number, text))
        })
        .collect()
}
