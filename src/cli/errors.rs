//! Errors as people see them: what happened, what caused it, what to do.

use std::error::Error as StdError;
use std::io;

use crate::domain::{Failure, FailureKind};
use crate::input::InputError;
use crate::ledger::LedgerError;
use crate::pipeline::RunError;
use crate::provider::ConnectionError;
use crate::report::count;

/// Every row ok.
pub(super) const OK: u8 = 0;
/// Could not start or could not go on.
pub(super) const FAILED: u8 = 1;
/// The command line is wrong.
pub(super) const USAGE: u8 = 2;
/// Finished, some rows failed.
pub(super) const SOME_FAILED: u8 = 3;
/// Stopped early by a limit of the user's.
pub(super) const STOPPED: u8 = 4;
/// Interrupted.
pub(super) const INTERRUPTED: u8 = 130;

/// What to do after a run that did not come to its end.
pub(super) const GO_ON: &str = "run the same command again to continue";
const MAKE_ROOM: &str = "make room there (or raise `ulimit -f`) and run the same command again to continue";

/// What ends the program, and its exit code.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) code: u8,
    pub(super) message: String,
    pub(super) causes: Vec<String>,
    pub(super) hint: Option<String>,
}

impl CliError {
    /// The command line is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// Something could not be done.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, ..Self::usage(message) }
    }

    /// An error of the library, with what caused it.
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        let message = error.to_string();
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        // Some errors say in their own words what caused them.
        let causes = causes.map(ToString::to_string).filter(|cause| !message.contains(cause)).collect();
        Self { causes, ..Self::failed(message) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Input(error) => error.into(),
            RunError::Ledger(error) => error.into(),
            RunError::Strict { ref examples, count, .. } => {
                let mut all = Self::of(&error);
                all.causes.clone_from(examples);
                if count > examples.len() as u64 {
                    all.causes.push(format!("and {} more", count - examples.len() as u64));
                }
                all.hint("mend these rows, or leave --strict away to answer the others")
            }
            RunError::Unmatched { ref changed, paid, .. } => {
                let mut all = Self::of(&error);
                all.causes = changed.iter().map(|change| format!("changed since: {change}")).collect();
                let price = paid.cost.map_or_else(String::new, |cost| format!(", ${}", cost.dollars()));
                all.causes.push(format!("these answers cost {} tokens{price}", count(paid.tokens.0)));
                all.hint(if changed.is_empty() {
                    "is this the right input? --drop-unmatched goes on: these answers leave the output but stay in the \
                     ledger"
                } else {
                    "--resend asks all of them again, --keep-answers keeps the answers there are"
                })
            }
            RunError::InputChanged(_) => Self::of(&error).hint("run the same command again when it is whole"),
            RunError::Spool { .. } => Self::of(&error).hint("TMPDIR says where temporary files are made"),
            _ => Self::of(&error),
        }
    }
}

impl From<InputError> for CliError {
    fn from(error: InputError) -> Self {
        if matches!(error, InputError::Stopped) {
            return Self { code: INTERRUPTED, ..Self::failed("interrupted before anything was sent") };
        }
        let hint = error.hint();
        let mut all = Self::of(&error);
        all.hint = hint;
        all
    }
}

impl From<LedgerError> for CliError {
    fn from(error: LedgerError) -> Self {
        let all = Self::of(&error);
        match error {
            LedgerError::Foreign(_) => all.hint("give another file with -o, or --overwrite to replace it"),
            LedgerError::Locked(_) => all.hint("wait for it to end, or give another file with -o"),
            LedgerError::OtherVersion { .. } => all.hint("use that version, or give another file with -o"),
            LedgerError::NoFile(_) => all.hint("-o - writes to standard output"),
            LedgerError::OutputGone { .. } => {
                all.hint("put it back where it was, or --overwrite to ask for all of them again")
            }
            LedgerError::OutputChanged { .. } => all.hint(
                "rename it to keep the change and run again: the answers that it still held are in the ledger now",
            ),
            LedgerError::Io { ref source, .. } if is_full(source) => all.hint(MAKE_ROOM),
            _ => all,
        }
    }
}

/// What to do when the run ended early because of the disk.
pub(super) fn how_to_go_on(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::Io { source, .. } if is_full(source) => MAKE_ROOM,
        _ => GO_ON,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl From<ConnectionError> for CliError {
    fn from(error: ConnectionError) -> Self {
        Self { code: USAGE, ..Self::of(&error) }
    }
}

/// What to do about a server that cannot prove who it is.
const UNTRUSTED: &str = "the server's certificate must be valid for this host and signed by an authority \
                                    that this system trusts; SSL_CERT_FILE names a file with further ones";

/// What the endpoint at this base URL said that ended everything.
pub(super) fn refused(failure: &Failure, base_url: &str) -> CliError {
    let error = CliError::failed(failure.message.clone());
    match failure.kind {
        FailureKind::Auth => error.hint(
            "set OPENAI_API_KEY to a valid key, name another variable with --api-key-env, or give --api-key-file",
        ),
        // A redirect says itself what to do.
        FailureKind::NotFound if failure.status != Some(404) && failure.code.is_none() => error,
        FailureKind::NotFound if ends_in_version(base_url) => {
            error.hint("is -m right? `promptmill models` lists the models there are")
        }
        FailureKind::NotFound => error.hint(
            "is -m right, and should --base-url end in the version, as in /v1? `promptmill models` lists the models \
             there are",
        ),
        FailureKind::Quota => error.hint("the account has no credit left; run the same command again when it has"),
        FailureKind::Connection if failure.message.contains("certificate") => error.hint(UNTRUSTED),
        FailureKind::Connection => error.hint("is --base-url right, and is the server running?"),
        _ => error,
    }
}

/// Whether a URL's path ends in something like `v1` or `v1beta`.
fn ends_in_version(base_url: &str) -> bool {
    let last = base_url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    last.strip_prefix('v').is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_that_ends_in_its_version_is_not_called_wrong() {
        let failure =
            Failure { kind: FailureKind::NotFound, message: "no".into(), status: Some(404), code: None };
        for (url, named) in [
            ("http://a/v1", false),
            ("http://a/v1beta/", false),
            ("http://a", true),
            ("http://a/voice", true),
        ] {
            let hint = refused(&failure, url).hint.unwrap();
            assert_eq!(hint.contains("--base-url"), named, "{url}: {hint}");
        }
    }
}
