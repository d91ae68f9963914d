//! A JSON array of which every element is a row, read element by element. Whether an element is good JSON is not
//! asked here.

use std::io::{self, BufRead};

use super::bytes::ByteStream;
use super::json_element::ElementScanner;
use super::{RowFault, Source, SourceError, SourceRow};
use crate::domain::RecordBody;

/// Reads the elements of an array.
pub(super) struct JsonSource {
    bytes: ByteStream,
    max_row_bytes: u64,
    /// The line that the next byte is on, from 1.
    line: u64,
    place: Place,
    element: ElementScanner,
    /// The line on which the element begins, from 1.
    element_line: u64,
}

/// Where in the array reading stands.
#[derive(Clone, Copy)]
enum Place {
    BeforeArray,
    FirstElement,
    AfterElement,
    End,
}

impl JsonSource {
    pub(super) fn new(bytes: ByteStream, max_row_bytes: u64) -> Self {
        let element = ElementScanner::new(usize::try_from(max_row_bytes).unwrap_or(usize::MAX));
        Self { bytes, max_row_bytes, line: 1, place: Place::BeforeArray, element, element_line: 1 }
    }

    fn open_array(&mut self) -> Result<(), SourceError> {
        match self.peek()? {
            Some(b'[') => self.bytes.consume(1),
            Some(b'{') => {
                let hint = "; for a file with one JSON value a line use --input-format jsonl";
                return Err(self.malformed(format!("expected an array but found an object{hint}")));
            }
            found => return Err(self.malformed(format!("expected an array but found {}", shown(found)))),
        }
        self.place = Place::FirstElement;
        Ok(())
    }

    fn first_element(&mut self) -> Result<bool, SourceError> {
        if self.peek()? == Some(b']') {
            return self.close_array();
        }
        self.read_element()
    }

    fn element_after_comma(&mut self) -> Result<bool, SourceError> {
        match self.peek()? {
            Some(b',') => self.bytes.consume(1),
            Some(b']') => return self.close_array(),
            found => return Err(self.malformed(format!("expected a comma or ] but found {}", shown(found)))),
        }
        if self.peek()? == Some(b']') {
            return Err(self.malformed("expected another element after the comma but found ]"));
        }
        self.read_element()
    }

    fn read_element(&mut self) -> Result<bool, SourceError> {
        self.peek()?;
        self.element.clear();
        self.element_line = self.line;
        loop {
            let chunk = self.fill()?;
            if chunk == 0 {
                return Err(self.unfinished());
            }
            let (used, done) = self.element.scan(self.bytes.buffer());
            self.bytes.consume(used);
            if done {
                self.line = self.element_line + self.element.line_breaks();
                self.place = Place::AfterElement;
                return Ok(true);
            }
        }
    }

    /// The file ends where the array does not.
    fn unfinished(&self) -> SourceError {
        let message = if self.element.text().is_empty() {
            "expected an element or ] but found the end of the file"
        } else {
            "expected the end of the element that begins here, and ], but found the end of the file"
        };
        SourceError::Malformed { line: self.element_line, message: message.to_owned() }
    }

    fn close_array(&mut self) -> Result<bool, SourceError> {
        self.bytes.consume(1);
        self.place = Place::End;
        match self.peek()? {
            None => Ok(false),
            found => {
                Err(self.malformed(format!("expected nothing after the array but found {}", shown(found))))
            }
        }
    }

    /// Passes over whitespace; the byte behind it, which is not consumed.
    fn peek(&mut self) -> Result<Option<u8>, SourceError> {
        loop {
            if self.fill()? == 0 {
                return Ok(None);
            }
            let chunk = self.bytes.buffer();
            let space = chunk.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
            let found = chunk.get(space).copied();
            self.line += chunk[..space].iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            self.bytes.consume(space);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// How many bytes are buffered, after reading if there were none; 0 at the end.
    fn fill(&mut self) -> Result<usize, SourceError> {
        loop {
            match self.bytes.fill_buf() {
                Ok(chunk) => return Ok(chunk.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(SourceError::Read { line: self.line, error });
                }
            }
        }
    }

    fn malformed(&self, message: impl Into<String>) -> SourceError {
        SourceError::Malformed { line: self.line, message: message.into() }
    }

    fn content(&self) -> Result<RecordBody, RowFault> {
        let text = self.element.text();
        if self.element.is_too_long() {
            return Err(RowFault::too_long(self.max_row_bytes, text));
        }
        if self.element.has_line_break_in_string() {
            return Err(RowFault::new("line break within a string; write it as \\n", text));
        }
        if text.is_empty() {
            return Err(RowFault::new("an element is missing before the comma", text));
        }
        match std::str::from_utf8(text) {
            Ok(text) => Ok(RecordBody::Json(text.to_owned())),
            // The column counts in the text as it stands in the file, which is not held.
            Err(_) => Err(RowFault { column: None, ..RowFault::not_utf8("invalid UTF-8", text) }),
        }
    }
}

impl Source for JsonSource {
    fn advance(&mut self) -> Result<bool, SourceError> {
        if matches!(self.place, Place::BeforeArray) {
            self.open_array()?;
        }
        match self.place {
            Place::BeforeArray | Place::End => Ok(false),
            Place::FirstElement => self.first_element(),
            Place::AfterElement => self.element_after_comma(),
        }
    }

    fn row(&self) -> SourceRow {
        SourceRow { line: self.element_line, content: self.content() }
    }
}

fn shown(byte: Option<u8>) -> String {
    match byte {
        None => "the end of the file".to_owned(),
        Some(byte) if byte.is_ascii_graphic() => char::from(byte).to_string(),
        Some(byte) => format!("byte 0x{byte:02x}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::input::testing::{bad_rows, read, read_with_limit};

    #[test]
    fn elements_come_as_they_stand_without_whitespace_and_with_their_line() {
        let bytes = b"\xef\xbb\xbf \r\n[ { \"b\" : 1.50e+3,\r\n \"a\\\" ,]\" :\t[ 1 , 2 ] } ,\n\n \"x y\\u00e9\",null\n , -0 ]\n ";
        let expected = [r#"2 {"b":1.50e+3,"a\" ,]":[1,2]}"#, r#"5 "x y\u00e9""#, "5 null", "6 -0"];
        assert_eq!(read("a.json", bytes), expected);
    }

    #[test]
    fn an_empty_array_has_no_rows() {
        assert!(read("a.json", b" [ \n ] \n").is_empty());
    }

    #[test]
    fn a_broken_element_stays_broken_and_the_next_one_is_read() {
        let expected = ["1 {\"a\":1 2}", "1 {\"a\":1]", "1 tru e", "1 {\"a\":1}{\"b\":2}", "1 }", "1 {}"];
        assert_eq!(read("a.json", b"[{\"a\":1 2}, {\"a\":1], tru e, {\"a\":1} {\"b\":2}, }, {}]"), expected);
    }

    #[test]
    fn an_element_that_cannot_be_on_one_line_is_bad() {
        let bad = "1 bad: line break within a string; write it as \\n";
        assert_eq!(read("a.json", b"[\"a\nb\",\n\"\\\n\", 2]"), [bad, &bad.replacen('1', "3", 1), "4 2"]);
    }

    #[test]
    fn a_missing_element_is_a_bad_row_and_a_last_comma_an_error() {
        let bad = "1 bad: an element is missing before the comma";
        assert_eq!(read("a.json", b"[1, , 2]"), ["1 1", bad, "1 2"]);
        let error = "error: a.json:2: expected another element after the comma but found ]";
        assert_eq!(read("a.json", b"[1,\n]"), ["1 1", error]);
    }

    #[test]
    fn what_is_no_array_is_refused_after_the_rows_before_it() {
        let cases: [(&[u8], &[&str]); 9] = [
            (b"", &["1: expected an array but found the end of the file"]),
            (b"\n3", &["2: expected an array but found 3"]),
            (b"\x01", &["1: expected an array but found byte 0x01"]),
            (
                b"{\"a\":1}\n{}",
                &[
                    "1: expected an array but found an object; for a file with one JSON value a line use --input-format jsonl",
                ],
            ),
            (b"[1]\n\nx", &["1 1", "3: expected nothing after the array but found x"]),
            (
                b"[1,\n2",
                &[
                    "1 1",
                    "2: expected the end of the element that begins here, and ], but found the end of the file",
                ],
            ),
            (b"[1,\n\n", &["1 1", "3: expected an element or ] but found the end of the file"]),
            (b"[", &["1: expected an element or ] but found the end of the file"]),
            (
                b"[1,\n\n{\"a\":[1,\n2}\n",
                &[
                    "1 1",
                    "3: expected the end of the element that begins here, and ], but found the end of the file",
                ],
            ),
        ];
        for (bytes, expected) in cases {
            let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
            let error = expected.pop().unwrap();
            expected.push(format!("error: a.json:{error}"));
            assert_eq!(read("a.json", bytes), expected);
        }
    }

    #[test]
    fn an_element_over_the_limit_is_bad_and_the_next_one_is_read() {
        let bytes = format!("[1234, [1,\n2], \"{}\", 12345 ,4]", "\\\"\n".repeat(300_000));
        let bad = "bad: row is longer than 4 bytes; raise --max-row-bytes";
        let expected =
            ["1 1234", &format!("1 {bad}"), &format!("2 {bad}"), &format!("300002 {bad}"), "300002 4"];
        assert_eq!(read_with_limit("a.json", bytes.as_bytes(), 4), expected.map(str::to_owned));
        assert_eq!(bad_rows("a.json", b"[12345]", 4)[0].text, "1234…");
    }

    #[test]
    fn invalid_utf8_is_a_bad_row() {
        let bad = "1 bad: invalid UTF-8; convert the file to UTF-8, for example with iconv";
        assert_eq!(read("a.json", b"[\"\xff\", \"\xc3\xa9\"]"), [bad, "1 \"é\""]);
    }

    #[test]
    fn elements_are_whole_across_the_borders_of_the_buffer() {
        let elements: Vec<_> =
            (0..30_000).map(|n| format!("{{\"n\":{n},\"t\":\"{}\\\\\"}}", " é\\\"".repeat(n % 11))).collect();
        let expected: Vec<_> =
            (1..).zip(&elements).map(|(line, element)| format!("{line} {element}")).collect();
        assert_eq!(read("a.json", format!("[{}]", elements.join(" ,\n")).as_bytes()), expected);
    }
}
