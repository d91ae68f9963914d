//! Finds the end of one element of a JSON array and keeps its text without whitespace. It does not check the
//! element: what is wrong with it is found where it is parsed.

/// Gathers one element, piece by piece.
#[derive(Default)]
pub(super) struct ElementScanner {
    /// The element so far, without the whitespace outside of its strings; its beginning if it is too long.
    text: Vec<u8>,
    limit: usize,
    /// Open brackets and braces.
    depth: u64,
    at: At,
    /// Whitespace came and may have kept two words apart.
    space: bool,
    too_long: bool,
    line_break_in_string: bool,
    line_breaks: u64,
}

/// Where in the element scanning stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Outside,
    String,
    /// Behind a backslash in a string.
    Escape,
}

impl ElementScanner {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Begins the next element.
    pub(super) fn clear(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        *self = Self { text, ..Self::new(self.limit) };
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Whether a string in the element goes over several lines, which no JSON string may.
    pub(super) fn has_line_break_in_string(&self) -> bool {
        self.line_break_in_string
    }

    /// How many line breaks were passed in this element.
    pub(super) fn line_breaks(&self) -> u64 {
        self.line_breaks
    }

    /// Takes in bytes up to the comma or bracket behind the element: how many, and whether that was reached.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if self.at != At::Outside {
                at += self.scan_string(&bytes[at..]);
                continue;
            }
            if self.depth == 0 && matches!(bytes[at], b',' | b']') {
                return (at, true);
            }
            self.scan_outside(bytes[at]);
            at += 1;
        }
        (at, false)
    }

    /// Takes in a part of a string; never nothing.
    fn scan_string(&mut self, bytes: &[u8]) -> usize {
        if self.at == At::Escape {
            self.at = At::String;
            self.note_line_break(bytes[0]);
            self.push(&bytes[..1]);
            return 1;
        }
        let plain =
            bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'\r')).unwrap_or(bytes.len());
        let taken = bytes.len().min(plain + 1);
        match bytes.get(plain) {
            Some(b'"') => self.at = At::Outside,
            Some(b'\\') => self.at = At::Escape,
            Some(byte) => self.note_line_break(*byte),
            None => {}
        }
        self.push(&bytes[..taken]);
        taken
    }

    fn scan_outside(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.space = true;
                self.line_breaks += u64::from(byte == b'\n');
                return;
            }
            b'"' => self.at = At::String,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        // `1 2` is broken and must not become 12.
        if self.space && is_word(byte) && self.text.last().copied().is_some_and(is_word) {
            self.push(b" ");
        }
        self.space = false;
        self.push(&[byte]);
    }

    fn note_line_break(&mut self, byte: u8) {
        self.line_breaks += u64::from(byte == b'\n');
        self.line_break_in_string |= matches!(byte, b'\n' | b'\r');
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = self.limit - self.text.len();
        self.too_long |= bytes.len() > room;
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Whether the byte is of a number or a word such as `true`.
fn is_word(byte: u8) -> bool {
    !matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"')
}
