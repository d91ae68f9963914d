//! CSV and TSV: the first record names the columns, every other one is a row with as many cells.

use std::collections::HashMap;
use std::sync::Arc;

use super::csv_records::RecordReader;
use super::{RowFault, Source, SourceError, SourceRow};
use crate::domain::{RecordBody, TableRow};

/// Reads a table.
pub(super) struct TableSource {
    records: RecordReader,
    /// The names in the header, once it was read.
    columns: Option<Arc<[String]>>,
}

impl TableSource {
    pub(super) fn new(records: RecordReader) -> Self {
        Self { records, columns: None }
    }

    fn next_record(&mut self) -> Result<bool, SourceError> {
        self.records.advance().map_err(|error| SourceError::Read { line: self.records.current_line(), error })
    }

    /// The header, from the record read last.
    fn header(&self) -> Result<Arc<[String]>, SourceError> {
        let malformed = |message| SourceError::Malformed { line: self.records.record_line(), message };
        self.records.cell_count().map_err(|fault| malformed(format!("in the header: {}", fault.message)))?;
        column_names(self.records.cells()).map_err(malformed)
    }

    fn content(&self) -> Result<RecordBody, RowFault> {
        let columns = self.columns.clone().unwrap_or_default();
        let count = self.records.cell_count()?;
        if count != columns.len() {
            let message = format!(
                "{} where the header has {}",
                counted(count, "cell"),
                counted(columns.len(), "column")
            );
            return Err(RowFault::new(message, self.records.raw()));
        }
        let cells = self.records.cells().zip(columns.iter()).map(|(cell, column)| {
            let not_utf8 =
                |_| RowFault::not_utf8(&format!("invalid UTF-8 in column {column:?}"), self.records.raw());
            std::str::from_utf8(cell).map(str::to_owned).map_err(not_utf8)
        });
        let cells = cells.collect::<Result<_, _>>()?;
        Ok(RecordBody::Table(TableRow { columns, cells }))
    }
}

impl Source for TableSource {
    fn advance(&mut self) -> Result<bool, SourceError> {
        if self.columns.is_none() {
            if !self.next_record()? {
                return Ok(false);
            }
            self.columns = Some(self.header()?);
        }
        self.next_record()
    }

    fn row(&self) -> SourceRow {
        SourceRow { line: self.records.record_line(), content: self.content() }
    }
}

/// The names of the columns; one without a name is called by its place, from 1. No two may have the same.
fn column_names<'a>(cells: impl Iterator<Item = &'a [u8]>) -> Result<Arc<[String]>, String> {
    let mut names = Vec::new();
    let mut places = HashMap::new();
    for (place, cell) in (1..).zip(cells) {
        let name = match std::str::from_utf8(cell) {
            Ok(name) if name.trim().is_empty() => format!("column_{place}"),
            Ok(name) => name.to_owned(),
            Err(_) => {
                return Err(format!(
                    "the name of column {place} is invalid UTF-8; convert the file to UTF-8"
                ));
            }
        };
        if let Some(first) = places.insert(name.clone(), place) {
            return Err(format!("columns {first} and {place} are both named {name:?}; rename one of them"));
        }
        names.push(name);
    }
    Ok(names.into())
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use crate::domain::{RecordBody, Row};
    use crate::input::Inputs;
    use crate::input::testing::{Files, bad_rows, read, read_with_limit};

    #[test]
    fn the_line_of_a_record_is_right_whatever_stands_before_it() {
        for ending in ["\n", "\r\n"] {
            let lines =
                ["", "a,b", "1,2", "", "  ", "\"x", "", "y\",3", "4,5", "\"\"\"q\"\"\",\"", "\"", "", "6,7"]
                    .join(ending);
            let inner = format!("x{ending}{ending}y");
            let expected =
                ["3 1|2", &format!("6 {inner}|3"), "9 4|5", &format!("10 \"q\"|{ending}"), "13 6|7"]
                    .map(str::to_owned);
            assert_eq!(read("a.csv", lines.as_bytes()), expected, "{ending:?}");
            assert_eq!(read("a.csv", format!("{lines}{ending}{ending}").as_bytes()), expected, "{ending:?}");
        }
    }

    #[test]
    fn lines_are_right_across_the_borders_of_the_buffer() {
        let mut table = String::from("n,text\r\n");
        let mut expected = Vec::new();
        let mut line = 2;
        for n in 0..20_000 {
            let text = format!("{}\r\n{}", "é".repeat(n % 37), n);
            expected.push(format!("{line} {n}|{text}"));
            table.extend([n.to_string().as_str(), ",\"", &text, "\"\r\n"]);
            line += 2;
            if n % 3 == 0 {
                table.push_str(" \r\n\r\n");
                line += 2;
            }
        }
        assert_eq!(read("a.csv", table.as_bytes()), expected);
    }

    #[test]
    fn cells_come_byte_for_byte() {
        let bytes = "a,b\n \"x\" ,😀\n\"\0,\r\n中\",' \n,\n\"\",\"\"\"\"\n".as_bytes();
        assert_eq!(read("a.csv", bytes), ["2  \"x\" |😀", "3 \0,\r\n中|' ", "5 |", "6 |\""]);
    }

    #[test]
    fn tabs_part_the_cells_of_a_tsv_and_a_line_of_tabs_is_a_row() {
        assert_eq!(read("a.tsv", b"a\tb\n1,2\t\"x\ty\"\n\t\n  \n"), ["2 1,2|x\ty", "3 |"]);
    }

    #[test]
    fn a_quoted_empty_cell_is_a_row_where_a_blank_line_is_none() {
        assert_eq!(read("a.csv", b"a\n\"\"\n\n \nx"), ["2 ", "5 x"]);
    }

    #[test]
    fn a_wrong_number_of_cells_is_a_bad_row() {
        let bytes = b"a,b\n1\n1,2,3\r\n1,2\n\"1,2\"\n";
        let expected = [
            "2 bad: 1 cell where the header has 2 columns",
            "3 bad: 3 cells where the header has 2 columns",
            "4 1|2",
            "5 bad: 1 cell where the header has 2 columns",
        ];
        assert_eq!(read("a.csv", bytes), expected);
        let texts: Vec<_> = bad_rows("a.csv", bytes, 100).into_iter().map(|bad| bad.text).collect();
        assert_eq!(texts, ["1", "1,2,3", "\"1,2\""]);
    }

    #[test]
    fn many_columns_and_long_cells_fit() {
        let header: Vec<_> = (0..1_000).map(|n| format!("c{n}")).collect();
        let cells: Vec<_> = (0..1_000).map(|n| "x".repeat(n)).collect();
        let table = format!("{}\n{}\n", header.join(","), cells.join(","));
        assert_eq!(read("a.csv", table.as_bytes()), [format!("2 {}", cells.join("|"))]);
    }

    #[test]
    fn a_record_over_the_limit_is_bad_and_the_next_one_is_read() {
        let bad = "bad: row is longer than 8 bytes; raise --max-row-bytes";
        for long in [
            "1,2345678",
            "1,\"23\n\n78\"",
            "1,\"23456\r\n9\"",
            &format!("1,\"{}\"", "\n".repeat(600_000)),
            &",".repeat(600_000),
        ] {
            let table = format!("a,b\n{long}\r\n12,45678\r\n{long}");
            let next = 3 + long.matches('\n').count();
            let expected = [format!("2 {bad}"), format!("{next} 12|45678"), format!("{} {bad}", next + 1)];
            assert_eq!(read_with_limit("a.csv", table.as_bytes(), 8), expected);
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_is_one_bad_row() {
        let bad = "3 bad: quoted field is never closed";
        for end in ["", "\n", "\r\n5,6\n", "\"\"", &"x\n".repeat(900_000)] {
            assert_eq!(read("a.csv", format!("a,b\n1,2\n3,\"4{end}").as_bytes()), ["2 1|2", bad]);
        }
        assert_eq!(read("a.csv", b"a,b\n1,\"2\""), ["2 1|2"]);
        assert_eq!(bad_rows("a.csv", b"a,b\n3,\"4\n5", 100)[0].text, "3,\"4\n5");
    }

    #[test]
    fn invalid_utf8_names_the_column_of_the_table() {
        let how = "convert the file to UTF-8, for example with iconv";
        let expected = [
            format!("2:4 bad: invalid UTF-8 in column \"b\"; {how}"),
            format!("3 bad: invalid UTF-8 in column \"a\"; {how}"),
            "5 1|2".to_owned(),
        ];
        assert_eq!(read("a.csv", b"a,b\n\xc3\xa9,x\xff\n\"\n\xff\",\n1,2"), expected);
    }

    #[test]
    fn columns_must_differ_and_one_without_a_name_gets_one() {
        let same = "error: a.csv:2: columns 1 and 3 are both named \"x\"; rename one of them";
        assert_eq!(read("a.csv", b"\nx,y,x\n1,2,3\n"), [same]);
        let escaped = r#"error: a.csv:1: columns 1 and 2 are both named "x\ny"; rename one of them"#;
        assert_eq!(read("a.csv", b"\"x\ny\",\"x\ny\"\n1,2\n"), [escaped]);
        let clash = "error: a.csv:1: columns 1 and 2 are both named \"column_2\"; rename one of them";
        assert_eq!(read("a.csv", b"column_2,\n1,2\n"), [clash]);
        let files = Files::new(&[("a.csv", b"\xef\xbb\xbfid,,\"a\nb\"\n1,2,3\n")]);
        let mut rows = Inputs::resolve(files.settings(&["a.csv"])).unwrap().rows();
        let Some(Ok(Row::Record(record))) = rows.next() else { panic!("a record") };
        let RecordBody::Table(table) = record.body else { panic!("a table") };
        assert_eq!(
            (record.location.line, &*table.columns),
            (3, &["id", "column_2", "a\nb"].map(String::from)[..])
        );
    }

    #[test]
    fn a_header_that_cannot_be_read_ends_the_run() {
        assert_eq!(
            read("a.csv", b"a,\"b\n1,2"),
            ["error: a.csv:1: in the header: quoted field is never closed"]
        );
        let utf8 = "error: a.csv:1: the name of column 2 is invalid UTF-8; convert the file to UTF-8";
        assert_eq!(read("a.csv", b"a,\xff\n1,2"), [utf8]);
        let long = "error: a.csv:1: in the header: row is longer than 2 bytes; raise --max-row-bytes";
        assert_eq!(read_with_limit("a.csv", b"a,b\n1,2", 2), [long]);
    }

    #[test]
    fn a_table_without_rows_has_none() {
        for bytes in [b"".as_slice(), b"\r\n \n", b"a,b", b"a,b\r\n\r\n"] {
            assert!(read("a.csv", bytes).is_empty());
        }
    }
}
