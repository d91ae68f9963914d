//! The formats an input can have, and how a file's name tells them.

use std::fmt;

/// How the rows of an input are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON value a line.
    Jsonl,
    /// One array; each element is a row.
    Json,
    /// Comma-separated values under a header.
    Csv,
    /// Tab-separated values under a header, quoted as in CSV.
    Tsv,
    /// Each line is a prompt.
    Txt,
}

/// The endings of compressed files, which stand behind that of the format.
const COMPRESSED: [&str; 2] = ["gz", "zst"];

impl Format {
    /// All of them, in the order in which they are listed for people.
    pub const ALL: [Self; 5] = [Self::Jsonl, Self::Json, Self::Csv, Self::Tsv, Self::Txt];

    /// The name on the command line, which is also the usual extension.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Txt => "txt",
        }
    }

    /// The format of this name, in any case; `ndjson` is another name for `jsonl`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("ndjson") {
            return Some(Self::Jsonl);
        }
        Self::ALL.into_iter().find(|format| name.eq_ignore_ascii_case(format.name()))
    }

    /// The format that a file's name tells, whether or not the file is compressed.
    pub(super) fn of_file_name(name: &str) -> Option<Self> {
        let (rest, extension) = name.rsplit_once('.')?;
        if COMPRESSED.iter().any(|ending| extension.eq_ignore_ascii_case(ending)) {
            return rest.rsplit_once('.').and_then(|(_, extension)| Self::parse(extension));
        }
        Self::parse(extension)
    }

    /// The known formats as a list for people.
    pub(super) fn list() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_the_format_in_any_case_and_through_compression() {
        let format = |name| Format::of_file_name(name);
        assert_eq!(format("a.jsonl"), Some(Format::Jsonl));
        assert_eq!(format("a.b.NDJSON.gz"), Some(Format::Jsonl));
        assert_eq!(format("a.Csv.ZST"), Some(Format::Csv));
        assert_eq!(format("a.tsv"), Some(Format::Tsv));
        for unknown in ["a", "a.gz", "jsonl", "a.jsonl.xz", "a.gz.zst", "a.csv.gz.gz", ""] {
            assert_eq!(format(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_format_is_found_by_its_name() {
        assert!(Format::ALL.into_iter().all(|format| Format::parse(format.name()) == Some(format)));
        assert_eq!(Format::parse("xlsx"), None);
    }
}
