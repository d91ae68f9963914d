//! CSV: the cells are those that the `csv` crate reads, and a row that is written and read again is the same.

use promptmill::domain::{Completion, Record, RecordBody, Row, RowId, TableRow};
use promptmill::input::Format;
use promptmill::output::{CsvSink, Sink as _};

use super::reading::{check_plans, is_not_plain, read, without_mark};
use super::writing::{outcome, written};

pub fn check(data: &[u8]) {
    let (rows, error) = read(Format::Csv, data);
    let tables: Vec<&TableRow> = rows.iter().filter_map(table).collect();
    for table in &tables {
        assert_eq!(table.columns.len(), table.cells.len());
    }
    if error.is_none() && !is_not_plain(without_mark(data)) && !is_not_plain(data) {
        check_cells(without_mark(data), &rows);
    }
    check_written_and_read_again(&rows);
    check_plans(rows);
}

fn table(row: &Row) -> Option<&TableRow> {
    match row {
        Row::Record(Record { body: RecordBody::Table(table), .. }) => Some(table),
        _ => None,
    }
}

/// What the `csv` crate reads with as many cells as there are columns, and in UTF-8, is a row, unless it is too long or
/// its last quote is missing. A line of spaces, which may be one cell, is no row here.
fn check_cells(data: &[u8], rows: &[Row]) {
    let Some(names) = rows.iter().find_map(table).map(|table| &table.columns) else { return };
    let columns = names.len();
    // A header that is one cell without a name cannot be told from a blank line here.
    if columns == 1 && names[0] == "column_1" {
        return;
    }
    let is_blank = |cells: &[String]| matches!(cells, [one] if one.trim_ascii().is_empty());
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(data);
    let mut expected = reader
        .byte_records()
        .map(|record| record.expect("bytes in memory can be read"))
        .filter(|record| columns > 1 || !record[0].trim_ascii().is_empty())
        .filter(|record| record.len() == columns)
        .skip(1)
        .filter_map(|record| {
            let text = |cell: &[u8]| String::from_utf8(cell.to_vec());
            record.iter().map(text).collect::<Result<Vec<_>, _>>().ok()
        });
    let is_passed_over = |row: &&Row| {
        let Row::Bad(bad) = row else { return false };
        bad.message.contains("--max-row-bytes") || bad.message.contains("never closed")
    };
    let mut may_be_missing = rows.iter().filter(is_passed_over).count();
    for read in rows.iter().filter_map(table).filter(|table| !is_blank(&table.cells)) {
        while expected.next().as_ref() != Some(&read.cells) {
            assert!(may_be_missing > 0, "{read:?} is not what the csv crate reads");
            may_be_missing -= 1;
        }
    }
    assert!(expected.count() <= may_be_missing, "a row was not read");
}

fn check_written_and_read_again(rows: &[Row]) {
    let records: Vec<&Record> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Record(record) => Some(record),
            Row::Bad(_) => None,
        })
        .collect();
    let tables: Vec<&TableRow> = rows.iter().filter_map(table).collect();
    let Some(columns) = tables.first().map(|table| table.columns.to_vec()) else { return };
    // At the beginning of a file these are marks, which no name of a column is meant to be.
    if columns[0].starts_with('\u{feff}') || is_not_plain(columns[0].as_bytes()) {
        return;
    }
    let mut file = Vec::new();
    let mut sink = CsvSink::new(&mut file, columns.clone()).expect("bytes in memory can be written");
    for record in &records {
        let id = RowId::Text("i".into());
        let row = written(&outcome(&id, (*record).clone(), Completion::default()));
        sink.row(&row).expect("bytes in memory can be written");
    }
    sink.finish().expect("bytes in memory can be written");
    drop(sink);
    let (again, error) = read(Format::Csv, &file);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(again.len(), records.len());
    for (again, was) in again.iter().zip(tables) {
        // With our columns behind it, a row can be over the limit.
        let Some(again) = table(again) else { continue };
        assert_eq!(again.columns[..columns.len()], columns);
        assert_eq!(again.cells[..columns.len()], was.cells);
    }
}
