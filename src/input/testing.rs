//! Inputs for tests: files in a directory of their own, and what is read from them in a form easy to compare.

use std::io::Write;
use std::path::Path;

use tempfile::TempDir;

use super::inputs::{InputFile, Place};
use super::{Format, InputSettings, Inputs, Rows};
use crate::domain::{BadRow, RecordBody, Row};

pub(super) const LIMIT: u64 = 1 << 20;

/// A directory with files in it.
pub(super) struct Files(pub(super) TempDir);

impl Files {
    pub(super) fn new(files: &[(&str, &[u8])]) -> Self {
        let dir = TempDir::new().unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        Self(dir)
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(super) fn settings(&self, names: &[&str]) -> InputSettings {
        let paths = names.iter().map(|name| self.path(name)).collect();
        InputSettings { paths, format: None, max_row_bytes: LIMIT }
    }

    /// A message without this directory's path.
    pub(super) fn shorten(&self, message: &str) -> String {
        message.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// What is read from one file with this name and content: a line a row, `LINE content`, and the error at last.
/// Checks by the way that counting gives the same number and that indices run from 0.
pub(super) fn read_with_limit(name: &str, bytes: &[u8], limit: u64) -> Vec<String> {
    let files = Files::new(&[(name, bytes)]);
    let inputs = Inputs::resolve(InputSettings { max_row_bytes: limit, ..files.settings(&[name]) }).unwrap();
    let lines = shown(&files, inputs.rows());
    if let Ok(count) = inputs.count(&false.into()) {
        assert_eq!(count, Some(lines.len() as u64));
    }
    lines
}

pub(super) fn read(name: &str, bytes: &[u8]) -> Vec<String> {
    read_with_limit(name, bytes, LIMIT)
}

pub(super) fn shown(files: &Files, rows: Rows) -> Vec<String> {
    let mut next_index = 0;
    rows.map(|row| match row {
        Ok(row) => {
            let (index, text) = show(&row);
            assert_eq!(index, next_index);
            next_index += 1;
            text
        }
        Err(error) => format!("error: {}", files.shorten(&error.to_string())),
    })
    .collect()
}

fn show(row: &Row) -> (u64, String) {
    match row {
        Row::Record(record) => {
            let line = record.location.line;
            let text = match &record.body {
                RecordBody::Json(text) | RecordBody::Text(text) => text.clone(),
                RecordBody::Table(table) => table.cells.join("|"),
            };
            (record.index, format!("{line} {text}"))
        }
        Row::Bad(bad) => {
            let column = bad.column.map(|column| format!(":{column}")).unwrap_or_default();
            (bad.index, format!("{}{column} bad: {}", bad.location.line, bad.message))
        }
    }
}

/// The bad rows of one file.
pub(super) fn bad_rows(name: &str, bytes: &[u8], limit: u64) -> Vec<BadRow> {
    let files = Files::new(&[(name, bytes)]);
    let inputs = Inputs::resolve(InputSettings { max_row_bytes: limit, ..files.settings(&[name]) }).unwrap();
    let bad = |row| if let Row::Bad(bad) = row { Some(bad) } else { None };
    inputs.rows().filter_map(|row| row.ok().and_then(bad)).collect()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Reads standard input from this file: its format is that of `settings`.
pub(super) fn with_stdin_from(path: &Path, format: Option<Format>) -> Inputs {
    let settings = InputSettings { paths: vec!["-".into()], format, max_row_bytes: LIMIT };
    let mut inputs = Inputs::resolve(settings).unwrap();
    inputs.files = inputs
        .files
        .iter()
        .cloned()
        .map(|file| InputFile { place: Place::File(path.to_owned()), ..file })
        .collect();
    inputs
}
