//! What is wrong with one row, in words, with an excerpt of the row that is safe to show.

/// What is wrong with a row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// Where in the line on which the row begins, in characters from 1, where that can be said.
    pub column: Option<u64>,
    /// What is wrong and what to do about it.
    pub message: String,
    /// The row as far as it can be shown: broken characters replaced, at most 1,000 characters and `…`.
    pub text: String,
}

/// How much of a bad row is kept, in characters.
const EXCERPT_CHARACTERS: usize = 1_000;
/// The longest character of UTF-8, in bytes.
const LONGEST_CHARACTER: usize = 4;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl RowFault {
    /// A fault whose place within the row is not known.
    pub(super) fn new(message: impl Into<String>, row: &[u8]) -> Self {
        Self { column: None, message: message.into(), text: excerpt(row, true) }
    }

    /// The row is over the limit; `held` is its beginning.
    pub(super) fn too_long(limit: u64, held: &[u8]) -> Self {
        let message = format!("row is longer than {}; raise --max-row-bytes", size(limit));
        Self { column: None, message, text: excerpt(held, false) }
    }

    /// The row is not UTF-8. The column is known where the fault is in the row's first line.
    pub(super) fn not_utf8(what: &str, row: &[u8]) -> Self {
        let valid = row.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let column =
            (valid.len() < row.len() && !valid.contains('\n')).then(|| valid.chars().count() as u64 + 1);
        let message = format!("{what}; convert the file to UTF-8, for example with iconv");
        Self { column, message, text: excerpt(row, true) }
    }
}

/// The beginning of a row; `…` says that there is more.
fn excerpt(row: &[u8], whole: bool) -> String {
    let shown = &row[..row.len().min((EXCERPT_CHARACTERS + 1) * LONGEST_CHARACTER)];
    let shown = String::from_utf8_lossy(shown);
    let cut = shown.char_indices().nth(EXCERPT_CHARACTERS).map(|(end, _)| end);
    let mut text = shown[..cut.unwrap_or(shown.len())].to_owned();
    if cut.is_some() || !whole {
        text.push('…');
    }
    text
}

/// A size in the largest unit that divides it.
fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= MIB && bytes % MIB == 0 => format!("{} MiB", bytes / MIB),
        bytes if bytes >= KIB && bytes % KIB == 0 => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_cut_to_a_thousand_characters_not_bytes() {
        assert_eq!(excerpt("😀".repeat(1_000).as_bytes(), true), "😀".repeat(1_000));
        assert_eq!(excerpt("😀".repeat(1_001).as_bytes(), true), format!("{}…", "😀".repeat(1_000)));
        assert_eq!(excerpt(b"\xff".repeat(5_000).as_slice(), true), format!("{}…", "\u{fffd}".repeat(1_000)));
        assert_eq!(excerpt(b"ab", false), "ab…");
    }

    #[test]
    fn a_limit_is_named_in_the_unit_it_was_given_in() {
        assert_eq!(size(16 * MIB), "16 MiB");
        assert_eq!(size(3 * KIB), "3 KiB");
        assert_eq!(size(1_000), "1000 bytes");
        assert_eq!(size(0), "0 bytes");
    }

    #[test]
    fn the_column_of_broken_utf8_counts_characters_in_the_first_line_only() {
        assert_eq!(RowFault::not_utf8("x", b"\xff").column, Some(1));
        assert_eq!(RowFault::not_utf8("x", "é中\u{1F600}".as_bytes()).column, None);
        assert_eq!(RowFault::not_utf8("x", b"\xc3\xa9\xe4\xb8\xad\xff!").column, Some(3));
        assert_eq!(RowFault::not_utf8("x", b"a\nb\xff").column, None);
    }
}
