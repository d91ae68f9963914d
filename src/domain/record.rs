//! One row of the input, as it came.

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{IdentityHasher, TextHash};

/// Where a row begins: the path as the user gave it and the line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The path as given; `-` for standard input.
    pub file: Arc<str>,
    /// The line on which the row begins, from 1.
    pub line: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What the reader found at one place of the input.
#[derive(Clone, Debug)]
pub enum Row {
    /// A row that could be read.
    Record(Record),
    /// A row that could not; the rows after it are read all the same.
    Bad(BadRow),
}

/// A row that could be read. Whether a request can be made of it is for the plan to say.
#[derive(Clone, Debug)]
pub struct Record {
    /// The row's place in the whole input, from 0.
    pub index: u64,
    /// Where the row begins.
    pub location: Location,
    /// The row itself.
    pub body: RecordBody,
}

/// The shapes a row comes in.
#[derive(Clone, Debug)]
pub enum RecordBody {
    /// The text of one JSON value on one line (no line breaks outside of strings, none inside). Not yet parsed:
    /// only known to be UTF-8.
    Json(String),
    /// A line of a plain text file: the prompt.
    Text(String),
    /// A row of a table.
    Table(TableRow),
}

impl RecordBody {
    /// A hash of the row as it came; a table's row by its columns and cells.
    #[must_use]
    pub fn hash(&self) -> TextHash {
        let mut hasher = IdentityHasher::new("row");
        match self {
            Self::Json(text) => hasher.field("json", text.as_bytes()),
            Self::Text(text) => hasher.field("text", text.as_bytes()),
            Self::Table(row) => {
                for (column, cell) in row.columns.iter().zip(&row.cells) {
                    hasher.field(column, cell.as_bytes());
                }
            }
        }
        TextHash(hasher.finish())
    }
}

/// A row of a table: as many cells as there are columns.
#[derive(Clone, Debug)]
pub struct TableRow {
    /// The names in the table's header, shared by all rows of the file.
    pub columns: Arc<[String]>,
    /// The cells, in the order of the columns, byte for byte as they came.
    pub cells: Vec<String>,
}

/// A row that cannot be read: broken UTF-8, a wrong number of columns, too long.
#[derive(Clone, Debug)]
pub struct BadRow {
    /// The row's place in the whole input, from 0.
    pub index: u64,
    /// Where the row begins.
    pub location: Location,
    /// Where in that line the fault is, in characters from 1, where that can be said.
    pub column: Option<u64>,
    /// What is wrong and what to do about it; without the location.
    pub message: String,
    /// The row's text as far as it can be shown, broken characters replaced, cut to a sane length.
    pub text: String,
}

/// A row's id, kept as it came: an id that is a number comes out with the same digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowId {
    /// An id that is a string, or the row's index written as one.
    Text(String),
    /// The text of a JSON number, as written.
    Number(String),
}

impl RowId {
    /// The id's characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RowId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(digits) => {
                serde_json::from_str::<&RawValue>(digits).map_err(S::Error::custom)?.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for RowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('"') {
            serde_json::from_str(raw.get()).map(Self::Text).map_err(D::Error::custom)
        } else {
            Ok(Self::Number(raw.get().to_owned()))
        }
    }
}
