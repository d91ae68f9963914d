//! Writing what was read or answered as a row of an output.

use promptmill::domain::{Answer, Completion, Location, Outcome, Record, RecordBody, RowId, Spent};
use promptmill::output::{Encoder, StoredRow, input_json};
use serde_json::value::RawValue;

/// A row without an answer of its own, written and read back: one line, the same id and input.
pub fn check_row_written(record: &Record, id: Option<&RowId>) {
    let id = id.cloned().unwrap_or_else(|| RowId::Text(record.index.to_string()));
    let row = written(&outcome(&id, record.clone(), Completion::default()));
    let stored = StoredRow::parse(&row).expect("a row of an output is read back");
    assert_eq!((&stored.id(), stored.index, &*stored.status), (&id, record.index, "ok"));
    let input = input_json(record);
    assert_eq!(stored.input.map(RawValue::get), Some(input.trim()), "{record:?}");
}

/// An answer, written and read back: one line that holds what the answer holds.
pub fn check_answer_written(answer: Answer) {
    let record = Record {
        index: 7,
        location: Location { file: "f".into(), line: 1 },
        body: RecordBody::Text("p".into()),
    };
    let outputs = answer.completion.outputs.clone();
    let row = written(&outcome(&RowId::Text("i".into()), record, answer.completion));
    let stored = StoredRow::parse(&row).expect("a row of an output is read back");
    let read = |raw: Option<&RawValue>| -> serde_json::Value {
        serde_json::from_str(raw.map_or("null", RawValue::get)).expect("strings are read back")
    };
    assert_eq!(read(stored.output), serde_json::json!(outputs[0]));
    if outputs.len() > 1 {
        assert_eq!(read(stored.outputs), serde_json::json!(outputs));
    }
}

pub fn outcome(id: &RowId, record: Record, completion: Completion) -> Outcome {
    Outcome {
        id: id.clone(),
        index: record.index,
        location: record.location.clone(),
        identity: None,
        input: Some(record),
        result: Ok(completion),
        model: None,
        spent: Spent::default(),
        latency: None,
    }
}

/// The row, which is one line for every reader of lines.
pub fn written(outcome: &Outcome) -> Vec<u8> {
    let row = Encoder { with_input: true }.encode(outcome);
    assert!(!row.is_empty() && !row.iter().any(|byte| matches!(byte, b'\n' | b'\r')), "{outcome:?}");
    row
}
