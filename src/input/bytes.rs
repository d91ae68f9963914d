//! From a file or standard input to plain bytes: decompressed, without a byte order mark. It knows nothing of rows.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};

use super::InputError;
use super::inputs::{InputFile, Place};

/// Bytes without end.
pub(super) type ByteStream = BufReader<Box<dyn Read + Send>>;

/// One read from the system; large enough that its cost does not show.
const BUFFER_BYTES: usize = 256 << 10;
/// As many bytes as the longest mark at the beginning of a file has.
const MARK_BYTES: u64 = 4;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// What the first four bytes tell of encodings that are not read, the longer marks first. Two characters of ASCII in
/// UTF-16 without a mark tell it too: in UTF-8 every second byte would be NUL.
fn other_encoding(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [1..=0x7f, 0, 1..=0x7f, 0] => Some("UTF-16LE"),
        [0, 1..=0x7f, 0, 1..=0x7f] => Some("UTF-16BE"),
        _ => None,
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What the first bytes tell. A zstd file may begin with a skippable frame, as those of pzstd do.
    fn of_head(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn of_file_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "gz" => Some(Self::Gzip),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    fn decoder(self, compressed: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        let compressed = BufReader::with_capacity(BUFFER_BYTES, compressed);
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(compressed)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(compressed)?),
        })
    }
}

/// A file's bytes and how they were compressed.
pub(super) struct Opened {
    pub(super) bytes: ByteStream,
    pub(super) compression: Option<Compression>,
}

/// Opens an input.
pub(super) fn open(file: &InputFile) -> Result<Opened, InputError> {
    let cannot_open = |source| InputError::Open { file: file.name.to_string(), source };
    let (raw, named): (Box<dyn Read + Send>, _) = match &file.place {
        Place::Stdin => (Box::new(io::stdin()), None),
        Place::File(path) => {
            (Box::new(File::open(path).map_err(cannot_open)?), Compression::of_file_name(&file.name))
        }
    };
    let (head, raw) = peek(raw).map_err(|error| file.read_error(None, 0, 1, error))?;
    let compression = Compression::of_head(&head);
    if let Some(named) = named.filter(|_| compression.is_none()) {
        return Err(InputError::NotCompressed { file: file.name.to_string(), compression: named.name() });
    }
    let plain = match compression {
        None => without_mark(raw),
        Some(compression) => compression.decoder(raw).and_then(without_mark),
    };
    let plain = plain.map_err(|error| file.read_error(compression, 0, 1, error))?;
    let bytes =
        plain.map_err(|encoding| InputError::OtherEncoding { file: file.name.to_string(), encoding })?;
    Ok(Opened { bytes: BufReader::with_capacity(BUFFER_BYTES, bytes), compression })
}

/// The bytes behind a UTF-8 byte order mark, if there is one; the encoding if it is another one.
fn without_mark(bytes: Box<dyn Read + Send>) -> io::Result<Result<Box<dyn Read + Send>, &'static str>> {
    let (mut head, rest) = peek_only(bytes)?;
    if let Some(encoding) = other_encoding(&head) {
        return Ok(Err(encoding));
    }
    if head.starts_with(UTF8_MARK) {
        head.drain(..UTF8_MARK.len());
    }
    Ok(Ok(joined(head, rest)))
}

/// The first bytes, and all of them once more.
fn peek(bytes: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let (head, rest) = peek_only(bytes)?;
    Ok((head.clone(), joined(head, rest)))
}

/// The first bytes and the rest. A pipe may give them one by one.
fn peek_only(mut bytes: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut head = Vec::new();
    bytes.by_ref().take(MARK_BYTES).read_to_end(&mut head)?;
    Ok((head, bytes))
}

fn joined(head: Vec<u8>, rest: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
    if head.is_empty() { rest } else { Box::new(Cursor::new(head).chain(rest)) }
}

#[cfg(test)]
mod tests {
    use crate::input::testing::{Files, gzip, read, shown, with_stdin_from, zstd};

    const LINES: &[u8] = b"\xef\xbb\xbf{\"a\":1}\n{\"a\":2}\n";
    const ROWS: [&str; 2] = ["1 {\"a\":1}", "2 {\"a\":2}"];

    #[test]
    fn compressed_files_are_read_and_known_by_their_first_bytes() {
        assert_eq!(read("a.jsonl.gz", &gzip(LINES)), ROWS);
        assert_eq!(read("a.ndjson.zst", &zstd(LINES)), ROWS);
        assert_eq!(read("a.jsonl", &gzip(LINES)), ROWS);
        assert_eq!(read("a.jsonl.gz", &zstd(LINES)), ROWS);
    }

    #[test]
    fn several_members_or_frames_are_one_file() {
        assert_eq!(read("a.txt.gz", &[gzip(b"a\nb"), gzip(b"c\n")].concat()), ["1 a", "2 bc"]);
        assert_eq!(read("a.txt.zst", &[zstd(b"a\nb"), zstd(b"c\n")].concat()), ["1 a", "2 bc"]);
        let skippable = b"\x50\x2a\x4d\x18\x02\0\0\0xx";
        assert_eq!(read("a.txt", &[skippable.as_slice(), &zstd(b"a")].concat()), ["1 a"]);
    }

    #[test]
    fn what_is_in_place_of_standard_input_is_known_by_its_first_bytes_too() {
        let files = Files::new(&[("spool", &zstd(LINES))]);
        let inputs = with_stdin_from(files.path("spool").as_ref(), None);
        assert_eq!(shown(&files, inputs.rows()), ROWS);
    }

    #[test]
    fn a_compressed_file_cut_short_gives_its_whole_rows_and_then_says_so() {
        // Digits without a pattern, so that the compressed data is long enough to be cut.
        let numbers = (0..100_000_u64).map(|n| n.wrapping_mul(6_364_136_223_846_793_005).to_string());
        let lines = numbers.collect::<Vec<_>>().join("\n");
        for (name, kind, whole) in
            [("a.txt.gz", "gzip", gzip(lines.as_bytes())), ("a.txt.zst", "zstd", zstd(lines.as_bytes()))]
        {
            let rows = read(name, &whole[..whole.len() / 2]);
            let count = rows.len() - 1;
            assert!(count > 10_000, "{count}");
            let expected = (1..).zip(lines.lines()).map(|(line, text)| format!("{line} {text}"));
            assert!(rows[..count].iter().cloned().eq(expected.take(count)));
            assert_eq!(rows[count], format!("error: {name}: {kind} data is cut short after {count} rows"));
        }
        assert_eq!(
            read("a.txt.gz", &gzip(b"a\n")[..12]),
            ["error: a.txt.gz: gzip data is cut short after 0 rows"]
        );
    }

    #[test]
    fn corrupt_data_is_told_from_data_cut_short() {
        let mut bytes = gzip(b"a\nb\nc");
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        assert_eq!(
            read("a.txt.gz", &bytes),
            ["1 a", "2 b", "error: a.txt.gz: gzip data is corrupt after 2 rows"]
        );
    }

    #[test]
    fn a_name_that_promises_compression_must_keep_it() {
        for bytes in [b"plain\n".as_slice(), b""] {
            let error = "error: a.txt.GZ: is named like gzip data but does not begin like it; \
                         it is cut short, or rename it";
            assert_eq!(read("a.txt.GZ", bytes), [error]);
        }
    }

    #[test]
    fn other_encodings_are_named_with_and_without_a_mark() {
        let error = |name, encoding| {
            format!("error: {name}: is {encoding}; convert it to UTF-8: iconv -f {encoding} -t UTF-8")
        };
        assert_eq!(read("a.csv", b"\xff\xfea\0"), [error("a.csv", "UTF-16")]);
        assert_eq!(read("a.csv.gz", &gzip(b"\xfe\xff\0a")), [error("a.csv.gz", "UTF-16")]);
        assert_eq!(read("a.csv", b"a\0,\0b\0"), [error("a.csv", "UTF-16LE")]);
        assert_eq!(read("a.csv", b"\0a\0,\0b"), [error("a.csv", "UTF-16BE")]);
        assert_eq!(read("a.csv", b"\xff\xfe\0\0a\0\0\0"), [error("a.csv", "UTF-32")]);
        assert_eq!(read("a.txt", b"a\0\0b"), ["1 a\0\0b"]);
    }
}
