//! One sequence of rows over all files, numbered through.

use std::sync::Arc;

use super::bytes::{self, Compression};
use super::inputs::InputFile;
use super::source::source;
use super::{InputError, Inputs, Source, SourceError, SourceRow};
use crate::domain::{BadRow, Location, Record, Row};

/// The rows of all inputs in the order given. Ends after the first error.
pub struct Rows {
    inputs: Inputs,
    next_file: usize,
    open: Option<OpenFile>,
    next_index: u64,
}

/// A file being read.
pub(super) struct OpenFile {
    file: InputFile,
    compression: Option<Compression>,
    source: Box<dyn Source>,
    /// Rows that came before in this file.
    rows: u64,
}

impl Rows {
    pub(super) fn new(inputs: Inputs) -> Self {
        Self { inputs, next_file: 0, open: None, next_index: 0 }
    }

    fn next_row(&mut self) -> Result<Option<Row>, InputError> {
        loop {
            if self.inputs.is_stopped() {
                return Err(InputError::Stopped);
            }
            if let Some(open) = &mut self.open {
                if open.advance()? {
                    let row = open.row(self.next_index);
                    self.next_index += 1;
                    return Ok(Some(row));
                }
                self.open = None;
            }
            let Some(file) = self.inputs.files.get(self.next_file) else {
                return Ok(None);
            };
            self.next_file += 1;
            self.open = Some(OpenFile::open(file, self.inputs.max_row_bytes)?);
        }
    }

    fn end(&mut self) {
        self.open = None;
        self.next_file = self.inputs.files.len();
    }
}

impl Iterator for Rows {
    type Item = Result<Row, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_row();
        if row.is_err() {
            self.end();
        }
        row.transpose()
    }
}

impl OpenFile {
    pub(super) fn open(file: &InputFile, max_row_bytes: u64) -> Result<Self, InputError> {
        let opened = bytes::open(file)?;
        let source = source(file.format, opened.bytes, max_row_bytes);
        Ok(Self { file: file.clone(), compression: opened.compression, source, rows: 0 })
    }

    pub(super) fn advance(&mut self) -> Result<bool, InputError> {
        let more = self.source.advance().map_err(|error| self.error(error))?;
        self.rows += u64::from(more);
        Ok(more)
    }

    fn row(&self, index: u64) -> Row {
        let SourceRow { line, content } = self.source.row();
        let location = self.location(line);
        match content {
            Ok(body) => Row::Record(Record { index, location, body }),
            Err(fault) => Row::Bad(BadRow {
                index,
                location,
                column: fault.column,
                message: fault.message,
                text: fault.text,
            }),
        }
    }

    fn location(&self, line: u64) -> Location {
        Location { file: Arc::clone(&self.file.name), line }
    }

    fn error(&self, error: SourceError) -> InputError {
        match error {
            SourceError::Read { line, error } => {
                self.file.read_error(self.compression, self.rows, line, error)
            }
            SourceError::Malformed { line, message } => {
                InputError::Malformed { location: self.location(line), message }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::input::testing::{Files, read, shown, with_stdin_from};
    use crate::input::{Format, Inputs};

    #[test]
    fn all_files_are_one_sequence() {
        let files = Files::new(&[
            ("a.jsonl", b"1\n2"),
            ("b.csv", b"x\n3\n"),
            ("c.json", b"[4,5]"),
            ("d.csv", b"y,z\n6,7\n"),
            ("e.txt", b""),
        ]);
        let inputs =
            Inputs::resolve(files.settings(&["a.jsonl", "b.csv", "e.txt", "c.json", "d.csv"])).unwrap();
        assert_eq!(shown(&files, inputs.rows()), ["1 1", "2 2", "2 3", "1 4", "1 5", "2 6|7"]);
        assert_eq!(inputs.count(&false.into()).unwrap(), Some(6));
        assert_eq!(inputs.count(&true.into()).unwrap(), None);
    }

    #[test]
    fn nothing_is_read_after_an_error() {
        let files = Files::new(&[("a.json", b"[1,"), ("b.json", b"[2]")]);
        let inputs = Inputs::resolve(files.settings(&["a.json", "b.json"])).unwrap();
        let mut rows = inputs.rows();
        assert!(rows.next().unwrap().is_ok());
        assert!(rows.next().unwrap().is_err());
        assert!(rows.next().is_none());
        assert!(inputs.count(&false.into()).is_err());
    }

    #[test]
    fn a_file_that_went_away_is_an_error() {
        let files = Files::new(&[("a.txt", b"x")]);
        let inputs = Inputs::resolve(files.settings(&["a.txt"])).unwrap();
        std::fs::remove_file(files.path("a.txt")).unwrap();
        assert_eq!(shown(&files, inputs.rows()), ["error: a.txt: cannot be opened"]);
    }

    #[test]
    fn a_file_in_place_of_standard_input_keeps_its_name() {
        let files = Files::new(&[("spool.csv.gz", b"a\n1\n2,3\n")]);
        let inputs = with_stdin_from(files.path("spool.csv.gz").as_ref(), Some(Format::Csv));
        assert_eq!(inputs.count(&false.into()).unwrap(), Some(2));
        let bad = inputs.rows().nth(1).unwrap().unwrap();
        let crate::domain::Row::Bad(bad) = bad else { panic!("a bad row") };
        assert_eq!(bad.location.to_string(), "-:3");
    }

    #[test]
    fn rows_can_be_read_on_another_thread() {
        fn is_send<T: Send>(_: &T) {}
        let files = Files::new(&[("a.txt", b"x")]);
        is_send(&Inputs::resolve(files.settings(&["a.txt"])).unwrap().rows());
        assert_eq!(read("a.txt", b"x"), ["1 x"]);
    }
}
