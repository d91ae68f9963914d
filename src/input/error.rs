//! What ends the reading of the input. What concerns one row only is not here.

use std::fmt;
use std::io;

use super::Format;
use crate::domain::Location;

/// Why the input cannot be read, or not any further.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Inputs that cannot be used: all of them, found before anything was read.
    #[error("{}", list(.0))]
    Unusable(Vec<UnusableInput>),
    /// A file could not be opened although it was there before.
    #[error("{file}: cannot be opened")]
    Open {
        /// The path as given.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed in the middle.
    #[error("{location}: cannot be read any further")]
    Read {
        /// Where.
        location: Location,
        /// What the system said.
        source: io::Error,
    },
    /// A compressed file that is cut short or corrupt.
    #[error(
        "{file}: {compression} data is {} after {rows} {}",
        if .source.kind() == io::ErrorKind::UnexpectedEof { "cut short" } else { "corrupt" },
        if *.rows == 1 { "row" } else { "rows" }
    )]
    Compressed {
        /// The path as given.
        file: String,
        /// The compression: `gzip` or `zstd`.
        compression: &'static str,
        /// How many whole rows came before.
        rows: u64,
        /// What the decompressor said.
        source: io::Error,
    },
    /// A file whose name tells a compression that its first bytes do not.
    #[error(
        "{file}: is named like {compression} data but does not begin like it; it is cut short, or rename it"
    )]
    NotCompressed {
        /// The path as given.
        file: String,
        /// The compression: `gzip` or `zstd`.
        compression: &'static str,
    },
    /// A file in UTF-16 or UTF-32.
    #[error("{file}: is {encoding}; convert it to UTF-8: iconv -f {encoding} -t UTF-8")]
    OtherEncoding {
        /// The path as given.
        file: String,
        /// `UTF-16`, or with the order of its bytes where no mark tells it.
        encoding: &'static str,
    },
    /// Reading was stopped from outside.
    #[error("reading was stopped")]
    Stopped,
    /// A file that as a whole is not in its format.
    #[error("{location}: {message}")]
    Malformed {
        /// Where.
        location: Location,
        /// What was expected.
        message: String,
    },
}

/// An input that cannot be used.
#[derive(Debug)]
pub struct UnusableInput {
    /// The path or pattern as given.
    pub path: String,
    /// What is wrong with it.
    pub problem: InputProblem,
}

/// What can be wrong with an input before it is read.
#[non_exhaustive]
#[derive(Debug)]
pub enum InputProblem {
    /// There is no such file.
    Missing,
    /// It is a directory.
    Directory,
    /// It is there but cannot be read.
    Unreadable(io::Error),
    /// Neither its name nor an option tells its format.
    UnknownFormat,
    /// A pattern that no file matches.
    NothingMatches,
    /// A pattern that is not one; why.
    BadPattern(&'static str),
    /// Standard input can be read only once.
    StdinAgain,
}

impl InputError {
    /// What to do about it, where that is a matter of options.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let Self::Unusable(inputs) = self else { return None };
        inputs
            .iter()
            .any(|input| matches!(input.problem, InputProblem::UnknownFormat))
            .then(|| format!("say the format with --input-format: one of {}", Format::list()))
    }
}

impl fmt::Display for InputProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no such file"),
            Self::Directory => {
                f.write_str("is a directory; name its files, for example with a pattern like DIR/*.jsonl")
            }
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::UnknownFormat => write!(
                f,
                "the extension tells no known format ({}, each also with .gz or .zst behind it)",
                Format::list()
            ),
            Self::NothingMatches => f.write_str("no file matches this pattern"),
            Self::BadPattern(why) => write!(f, "is no pattern: {why}"),
            Self::StdinAgain => {
                f.write_str("standard input is named more than once but can be read only once")
            }
        }
    }
}

impl fmt::Display for UnusableInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// One input on the line of the error; several below it, a line each.
fn list(inputs: &[UnusableInput]) -> String {
    match inputs {
        [one] => one.to_string(),
        several => several.iter().fold(format!("{} inputs cannot be used", several.len()), |text, input| {
            format!("{text}\n  {input}")
        }),
    }
}
