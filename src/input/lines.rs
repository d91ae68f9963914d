//! Formats in which a line is a row: JSONL and plain text. Never holds more of a line than the limit.

use std::io::{self, BufRead, Read};

use super::bytes::ByteStream;
use super::{RowFault, Source, SourceError, SourceRow};
use crate::domain::RecordBody;

/// What a line is.
#[derive(Clone, Copy, Debug)]
pub(super) enum LinesAre {
    /// The text of a JSON value, not parsed here.
    Json,
    /// A prompt.
    Text,
}

/// The longest line ending, in bytes.
const LINE_ENDING: u64 = 2;

/// Reads a line a row; lines of nothing but whitespace are no rows.
pub(super) struct LineSource {
    bytes: ByteStream,
    lines_are: LinesAre,
    max_row_bytes: u64,
    /// The line in the buffer, from 1.
    line: u64,
    /// The line without its ending, or its beginning if it is too long.
    buffer: Vec<u8>,
    too_long: bool,
}

impl LineSource {
    pub(super) fn new(bytes: ByteStream, lines_are: LinesAre, max_row_bytes: u64) -> Self {
        Self { bytes, lines_are, max_row_bytes, line: 0, buffer: Vec::new(), too_long: false }
    }

    /// Reads the next line into the buffer; `false` at the end.
    fn read_line(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        let limit = self.max_row_bytes.saturating_add(LINE_ENDING);
        let read = (&mut self.bytes).take(limit).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(false);
        }
        if read as u64 == limit && self.buffer.last() != Some(&b'\n') {
            self.bytes.skip_until(b'\n')?;
        }
        self.line += 1;
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.buffer.truncate(text.len());
        self.too_long = self.buffer.len() as u64 > self.max_row_bytes;
        Ok(true)
    }

    fn content(&self) -> Result<RecordBody, RowFault> {
        if self.too_long {
            return Err(RowFault::too_long(self.max_row_bytes, &self.buffer));
        }
        let Ok(text) = std::str::from_utf8(&self.buffer) else {
            return Err(RowFault::not_utf8("invalid UTF-8", &self.buffer));
        };
        Ok(match self.lines_are {
            LinesAre::Json => RecordBody::Json(text.trim_ascii().to_owned()),
            LinesAre::Text => RecordBody::Text(text.to_owned()),
        })
    }
}

impl Source for LineSource {
    fn advance(&mut self) -> Result<bool, SourceError> {
        loop {
            let more = self.read_line().map_err(|error| SourceError::Read { line: self.line + 1, error })?;
            if !more || self.too_long || !self.buffer.trim_ascii_start().is_empty() {
                return Ok(more);
            }
        }
    }

    fn row(&self) -> SourceRow {
        SourceRow { line: self.line, content: self.content() }
    }
}

#[cfg(test)]
mod tests {
    use crate::input::testing::{bad_rows, read, read_with_limit};

    #[test]
    fn a_line_is_a_row_and_blank_lines_are_none_but_count() {
        let bytes = b"{\"a\":1}\r\n\n  \t \n\"x\"\n \r\n  [1]  ";
        assert_eq!(read("a.jsonl", bytes), ["1 {\"a\":1}", "4 \"x\"", "6 [1]"]);
    }

    #[test]
    fn a_text_line_keeps_everything_but_its_ending() {
        assert_eq!(
            read("a.txt", b"  a \r\n\r\nb\r\r\n\0\n\xe4\xb8\xad"),
            ["1   a ", "3 b\r", "4 \0", "5 中"]
        );
    }

    #[test]
    fn an_empty_file_has_no_rows() {
        for bytes in [b"".as_slice(), b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"] {
            assert!(read("a.jsonl", bytes).is_empty());
        }
    }

    #[test]
    fn broken_json_is_passed_on_for_the_plan_to_refuse() {
        assert_eq!(read("a.jsonl", b"{\"a\":\0\nnope\n{}"), ["1 {\"a\":\0", "2 nope", "3 {}"]);
    }

    #[test]
    fn invalid_utf8_is_a_bad_row_with_its_column_in_characters() {
        let message = "bad: invalid UTF-8; convert the file to UTF-8, for example with iconv";
        let bytes = b"\"ok\"\n\"\xc3\xa9\xff\xe4\xb8\xad\"\n\"ok\"\n";
        assert_eq!(read("a.jsonl", bytes), ["1 \"ok\"", &format!("2:3 {message}"), "3 \"ok\""]);
        assert_eq!(bad_rows("a.txt", bytes, 100)[0].text, "\"é\u{fffd}中\"");
    }

    #[test]
    fn a_row_over_the_limit_is_bad_and_the_next_one_is_read() {
        let bad = "bad: row is longer than 4 bytes; raise --max-row-bytes";
        for ending in ["\n", "\r\n"] {
            for long in ["12345", "123456", "1234567", &"1".repeat(700_000), "12345\r", "1234\rx"] {
                let lines = ["1234", long, "", "4321", long].join(ending);
                let expected =
                    ["1 1234", &format!("2 {bad}"), "4 4321", &format!("5 {bad}")].map(str::to_owned);
                assert_eq!(read_with_limit("a.txt", lines.as_bytes(), 4), expected, "{ending:?}");
            }
        }
        assert_eq!(read_with_limit("a.txt", b"1234\r\n1234\n1234", 4), ["1 1234", "2 1234", "3 1234"]);
        assert_eq!(bad_rows("a.txt", b"12345\n", 4)[0].text, "12345…");
    }

    #[test]
    fn the_text_of_a_bad_row_is_cut() {
        let text = &bad_rows("a.txt", "é".repeat(5_000).as_bytes(), 9_000)[0].text;
        assert_eq!(*text, format!("{}…", "é".repeat(1_000)));
    }
}
