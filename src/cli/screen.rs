//! Standard error, shared by the progress bar and the lines beside it. Nothing goes to the terminal with control
//! characters in it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, OnceLock};

use indicatif::ProgressBar;

use super::errors::CliError;

/// Where lines for people go.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen {
    bar: Arc<OnceLock<ProgressBar>>,
    quiet: bool,
}

impl Screen {
    pub(super) fn new(quiet: bool) -> Self {
        Self { bar: Arc::default(), quiet }
    }

    /// Lines stand above this bar from now on.
    pub(super) fn set_bar(&self, bar: ProgressBar) {
        let _ = self.bar.set(bar);
    }

    /// A line, unless the run is to be quiet.
    pub(super) fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        let line = clean(line);
        match self.bar.get().filter(|bar| !bar.is_finished()) {
            Some(bar) => bar.println(line),
            None => {
                // Whoever closed standard error does not want to read it.
                let _ = writeln!(io::stderr().lock(), "{line}");
            }
        }
    }
}

/// An error, in the form `error: …`, `caused by: …`, `hint: …`.
pub(super) fn print_error(error: &CliError) {
    let mut lines = vec![format!("error: {}", clean(&error.message))];
    lines.extend(error.causes.iter().map(|cause| format!("  caused by: {}", clean(cause))));
    lines.extend(error.hint.iter().map(|hint| format!("  hint: {}", clean(hint))));
    lines.push(String::new());
    let _ = io::stderr().lock().write_all(lines.join("\n").as_bytes());
}

/// Text for standard output, whatever that is. Whoever closed the pipe has read enough.
pub(super) fn print_out(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::failed(format!("cannot write standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// The text without characters that would move the cursor, change colours or turn the direction of what follows; line
/// breaks stay.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// The same for JSON, which has a way of its own to write such characters and means the same as before.
pub(super) fn clean_json(json: &str) -> String {
    let mut clean = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) && c != '\t' {
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        } else {
            clean.push(c);
        }
    }
    clean
}

fn is_unsafe(c: char) -> bool {
    let turns_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && c != '\n') || turns_direction || breaks_lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_replaced_and_json_stays_what_it_was() {
        let text = "a\u{1b}]0;x\u{7}\r\u{9b}31m\u{202e}b\u{2066}\u{7f}\n\u{2028}é\u{200f}";
        assert!(!clean(text).chars().any(is_unsafe));
        assert_eq!(clean("é\tx\n"), "é\u{fffd}x\n");
        let json = serde_json::to_string(text).unwrap();
        assert!(!clean_json(&json).chars().any(is_unsafe));
        assert_eq!(serde_json::from_str::<String>(&clean_json(&json)).unwrap(), text);
    }
}
