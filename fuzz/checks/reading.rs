//! Reading bytes as a file of one format, and planning what is read.

use std::cell::RefCell;
use std::fs;

use promptmill::domain::{BadRow, Endpoint, FailureKind, Location, Record, RecordBody, Row, RowId};
use promptmill::input::{Format, InputError, InputSettings, Inputs, PlanSettings, Planned, Planner};
use tempfile::TempDir;

use super::writing::check_row_written;

/// Small, so that rows over the limit are met.
pub const MAX_ROW_BYTES: u64 = 400;

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(TempDir::new().expect("a temporary folder"));
}

/// All rows of a file with this content, and the error that ended it, if one did. Counting them is checked too.
pub fn read(format: Format, content: &[u8]) -> (Vec<Row>, Option<InputError>) {
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join(format!("in.{format}"));
        fs::write(&path, content).expect("a temporary file");
        let paths = vec![path.to_str().expect("a path in UTF-8").to_owned()];
        let settings = InputSettings { paths, format: Some(format), max_row_bytes: MAX_ROW_BYTES };
        let inputs = Inputs::resolve(settings).expect("the file is there");
        let (mut rows, mut end) = (Vec::new(), None);
        for row in inputs.rows() {
            assert!(end.is_none(), "a row after the error");
            match row {
                Ok(row) => rows.push(row),
                Err(error) => end = Some(error),
            }
        }
        match inputs.count(&false.into()) {
            Ok(count) => assert_eq!((count, end.is_none()), (Some(rows.len() as u64), true)),
            Err(_) => assert!(end.is_some(), "counting fails where reading does not"),
        }
        check_places(&rows);
        (rows, end)
    })
}

/// Whether these bytes are taken for something else than plain text: compressed, or UTF-16.
pub fn is_not_plain(content: &[u8]) -> bool {
    matches!(
        content,
        [0x1f, 0x8b, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
            | [0xff, 0xfe, ..]
            | [0xfe, 0xff, ..]
    )
}

pub fn without_mark(content: &[u8]) -> &[u8] {
    content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content)
}

pub fn location(row: &Row) -> &Location {
    match row {
        Row::Record(record) => &record.location,
        Row::Bad(bad) => &bad.location,
    }
}

/// Rows are numbered from 0 and stand in the order of their lines.
fn check_places(rows: &[Row]) {
    let mut line = 1;
    for (expected, row) in (0..).zip(rows) {
        let (Row::Record(Record { index, .. }) | Row::Bad(BadRow { index, .. })) = row;
        assert_eq!(*index, expected);
        assert!(location(row).line >= line, "{row:?} begins before line {line}");
        line = location(row).line;
        if let Row::Bad(bad) = row {
            assert!(!bad.message.is_empty() && !bad.message.contains(char::is_control), "{bad:?}");
            assert!(bad.text.chars().count() <= 1_001, "{bad:?}");
            assert_ne!(bad.column, Some(0));
        }
    }
}

/// Every row becomes one request or one failure, and in either case one row of an output.
pub fn check_plans(rows: Vec<Row>) {
    let planner = planner();
    for row in rows {
        match row {
            Row::Record(record) => check_plan(&planner, record),
            Row::Bad(bad) => {
                let body = RecordBody::Text(bad.text);
                check_row_written(&Record { index: bad.index, location: bad.location, body }, None);
            }
        }
    }
}

fn check_plan(planner: &Planner, record: Record) {
    let location = record.location.to_string();
    let Planned { id, request, record } = planner.plan(record);
    check_row_written(&record, id.as_ref());
    let again = planner.plan(record.clone());
    match (request, again.request) {
        (Ok(request), Ok(again)) => {
            assert_eq!((request.hash, &request.body), (again.hash, &again.body));
            let body: serde_json::Value = serde_json::from_slice(&request.body).expect("a body is JSON");
            let expected = if request.endpoint == Endpoint::Chat { "messages" } else { "prompt" };
            assert!(body.get(expected).is_some(), "{body}");
            assert!(request.answers >= 1);
            check_keys(&record, id.as_ref());
        }
        (Err(failure), _) => {
            assert_eq!(failure.kind, FailureKind::InvalidInput);
            assert!(failure.message.starts_with(&format!("{location}:")), "{failure:?}");
            assert!(!failure.message.contains(char::is_control), "{failure:?}");
        }
        (Ok(_), Err(failure)) => panic!("planned once and not again: {failure:?}"),
    }
}

/// What became a request is JSON, a text or a table, and an id is one that the row holds.
fn check_keys(record: &Record, id: Option<&RowId>) {
    let RecordBody::Json(text) = &record.body else { return };
    let raw: &serde_json::value::RawValue = serde_json::from_str(text).expect("a planned row is JSON");
    assert!(raw.get().starts_with(['{', '"']), "{text}");
    if let Some(RowId::Number(digits)) = id {
        assert!(text.contains(digits), "{digits} is not in {text}");
    }
}

fn planner() -> Planner {
    Planner::new(PlanSettings {
        endpoint: Endpoint::Chat,
        model: Some("m".into()),
        parameters: [("temperature".to_owned(), 0.5.into())].into(),
        unchecked: [("top_k".to_owned(), 3.into())].into(),
        id_field: None,
        prompt_field: None,
        template: None,
        system: None,
        realm: "api",
        max_completion_tokens: false,
    })
}
