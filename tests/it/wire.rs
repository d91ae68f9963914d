//! As much of HTTP/1.1 as a test server and a test proxy need: one message with its head and its body.

use std::fmt::Write;
use std::io::BufRead;

/// A request or a response as it came.
#[derive(Debug)]
pub struct Message {
    /// The request line or the status line.
    pub first_line: String,
    /// The headers in the order in which they came, names as sent.
    pub headers: Vec<(String, String)>,
    /// The body, as long as `Content-Length` says.
    pub body: Vec<u8>,
}

impl Message {
    /// Reads the next message, or `None` where the connection ended or broke before it was complete.
    pub fn read(from: &mut impl BufRead) -> Option<Self> {
        let first_line = line(from)?;
        let mut headers = Vec::new();
        loop {
            let header = line(from)?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let length = find(&headers, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        from.read_exact(&mut body).ok()?;
        Some(Self { first_line, headers, body })
    }
}

/// The bytes of a head: the first line, the headers, the empty line.
pub fn head(first_line: &str, headers: &[(String, String)]) -> Vec<u8> {
    let mut head = format!("{first_line}\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    (head + "\r\n").into_bytes()
}

/// The value of a header, whatever the case of its name.
pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn line(from: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    Some(line.strip_suffix("\r\n")?.to_owned())
}
