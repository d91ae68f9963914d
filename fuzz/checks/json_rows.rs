//! A JSON array: where `serde_json` reads one, its elements are the rows.

use promptmill::domain::{RecordBody, Row};
use promptmill::input::Format;
use serde_json::value::RawValue;

use super::reading::{MAX_ROW_BYTES, check_plans, is_not_plain, location, read, without_mark};

pub fn check(data: &[u8]) {
    let (rows, error) = read(Format::Json, data);
    let data = without_mark(data);
    if !is_not_plain(data)
        && let Ok(elements) = serde_json::from_slice::<Vec<&RawValue>>(data)
    {
        assert!(error.is_none(), "{error:?}");
        assert_eq!(rows.len(), elements.len());
        for (row, element) in rows.iter().zip(elements) {
            let before = element.get().as_ptr().addr() - data.as_ptr().addr();
            let line = data[..before].split(|byte| *byte == b'\n').count() as u64;
            assert_eq!(location(row).line, line, "{row:?}");
            check_element(row, element);
        }
    }
    check_plans(rows);
}

fn check_element(row: &Row, element: &RawValue) {
    match row {
        Row::Record(record) => {
            let RecordBody::Json(text) = &record.body else { panic!("no JSON: {record:?}") };
            assert!(!text.contains(['\n', '\r']), "{text}");
            let read: Result<serde_json::Value, _> = serde_json::from_str(text);
            let expected = serde_json::from_str(element.get());
            assert_eq!(read.ok(), expected.ok(), "{text} was to be {element}");
        }
        Row::Bad(bad) => assert!(element.get().len() as u64 > MAX_ROW_BYTES, "{bad:?}"),
    }
}
