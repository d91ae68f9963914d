//! What it means that a connection failed: whether the request arrived, and whether waiting helps.

use std::error::Error as StdError;

use super::connections::causes;
use super::errors::{no_answer, unanswered};
use super::http::describe;
use super::openai::{OpenAi, Seen};
use crate::domain::{Advice, AttemptFailure, FailureKind, Usage};

impl OpenAi {
    /// A request that no answer came to.
    pub(super) fn broken_before_answer(&self, error: &reqwest::Error, seen: &mut Seen) -> AttemptFailure {
        if error.is_connect() {
            seen.reached = false;
            return self.not_connected(error);
        }
        if error.is_timeout() {
            return self.timed_out("no answer");
        }
        let what = self.redactor.redact(&describe(error)).into_owned();
        if hyper_error(error).is_some_and(hyper::Error::is_parse) {
            let message = format!("what the server sent is no HTTP answer: {what}");
            return unanswered(FailureKind::BadResponse, message, Advice::Retry { after: None });
        }
        let was_used = self.used.was_used(error);
        let death = death(error);
        if matches!(death, Some(Death::Unsent)) || (was_used && matches!(death, Some(Death::Closed))) {
            // The server had closed it and never read the request: there was no attempt.
            seen.reached = false;
        }
        let advice = match death {
            Some(Death::Closed | Death::Unsent) if was_used => Advice::Resend { was_read: false },
            Some(Death::Reset) if was_used => Advice::Resend { was_read: true },
            _ => Advice::Retry { after: None },
        };
        let message = format!("the connection broke before an answer came: {what}");
        unanswered(FailureKind::Connection, message, advice)
    }

    fn not_connected(&self, error: &reqwest::Error) -> AttemptFailure {
        let what = self.redactor.redact(&describe(error)).into_owned();
        let (what, advice) = match tls_error(error) {
            // What is wrong with TLS does not become right by waiting.
            Some(rustls::Error::InvalidMessage(_)) => {
                ("the server does not speak TLS; is it http:// instead of https://?".to_owned(), Advice::Stop)
            }
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::PeerIncompatible(_)) => {
                (what, Advice::Stop)
            }
            _ if error.is_timeout() => ("no connection within --connect-timeout".to_owned(), Advice::Down),
            None if what.ends_with("tls handshake eof") => {
                ("the server hung up in the TLS handshake; does it speak TLS?".to_owned(), Advice::Down)
            }
            _ if what.contains("dns error") => {
                let why = what.rsplit(": ").next().unwrap_or_default();
                (format!("the host's name cannot be looked up: {why}"), Advice::Down)
            }
            _ => (what, Advice::Down),
        };
        unanswered(FailureKind::Connection, format!("cannot connect to {}: {what}", self.base), advice)
    }

    /// An answer that broke off.
    pub(super) fn broken_in_body(&self, error: &reqwest::Error, status: u16) -> AttemptFailure {
        let mut failure = if error.is_timeout() {
            self.timed_out("the answer was not complete")
        } else {
            let what = self.redactor.redact(&describe(error)).into_owned();
            let mut failure = no_answer(
                status,
                format!("the connection broke in the middle of the answer: {what}"),
                Usage::default(),
            );
            failure.failure.kind = FailureKind::Connection;
            failure
        };
        failure.failure.status = Some(status);
        failure
    }

    /// An answer that stopped coming in the middle.
    pub(super) fn stalled(&self, status: u16) -> AttemptFailure {
        let limit = humantime::format_duration(self.idle_timeout);
        let message = format!("nothing more of the answer came for {limit} (--idle-timeout)");
        let mut failure = unanswered(FailureKind::Timeout, message, Advice::Retry { after: None });
        failure.failure.status = Some(status);
        failure
    }

    fn timed_out(&self, what: &str) -> AttemptFailure {
        let limit = humantime::format_duration(self.timeout);
        let message = format!("{what} within {limit} (--timeout)");
        unanswered(FailureKind::Timeout, message, Advice::Retry { after: None })
    }
}

/// How a connection ended before a byte came back.
enum Death {
    /// The request was never written.
    Unsent,
    /// Its end was read, or nothing could be written any more, as with one that the server closed while it was idle.
    Closed,
    /// It was reset. The server may have read the request first.
    Reset,
}

fn death(error: &reqwest::Error) -> Option<Death> {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    if hyper_error(error).is_some_and(hyper::Error::is_canceled) {
        return Some(Death::Unsent);
    }
    let io = causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    match io {
        Some(ConnectionReset) => Some(Death::Reset),
        Some(BrokenPipe | NotConnected) => Some(Death::Closed),
        _ => hyper_error(error)
            .is_some_and(|error| error.is_incomplete_message() || error.is_closed())
            .then_some(Death::Closed),
    }
}

fn hyper_error(error: &reqwest::Error) -> Option<&hyper::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// What TLS objected to, if it was TLS.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    causes(error).find_map(|cause| unwrapped(cause).downcast_ref())
}

/// An error without the input and output errors around it, which do not name it as their source.
fn unwrapped<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => unwrapped(inner),
        None => error,
    }
}
