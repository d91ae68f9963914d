//! Standard error, shared by the progress bar and the lines beside it. Nothing goes to the terminal with control
//! characters in it.

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

/// The text without characters that would move the cursor or change colours; line breaks stay.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
