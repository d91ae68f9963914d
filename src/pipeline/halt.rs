//! What ends a run early. The first reason counts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Controls;
use crate::domain::{Failure, FailureKind};
use crate::input::InputError;
use crate::ledger::LedgerError;

/// A run whose first rows all fail with one kind has something wrong that more rows will not mend.
const BRAKE_ROWS: u64 = 50;

/// A share of failures is looked at from this many rows on.
const SHARE_FROM_ROWS: u64 = 50;

/// Why a run ended early.
#[derive(Debug)]
#[non_exhaustive]
pub enum Halt {
    /// It was interrupted.
    Interrupted,
    /// The endpoint refused in a way that concerns every row.
    Fatal(Failure),
    /// The endpoint was down for longer than it may be waited for.
    EndpointDown(String),
    /// The endpoints have had all their requests of the day; the next may go after this long.
    DayUsedUp(Duration),
    /// More rows failed than may fail.
    MaxFailures(u64),
    /// The first rows all failed with one kind.
    Brake(FailureKind, String),
    /// The input cannot be read any further.
    Input(InputError),
    /// The ledger or the output cannot be written.
    Ledger(LedgerError),
    /// Standard output cannot be written.
    Stdout(std::io::Error),
    /// A part of the program failed that must not.
    Bug(String),
}

/// When to stop a run that is failing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxFailures {
    /// When its first rows all fail with one kind.
    Brake,
    /// Never.
    Unlimited,
    /// When more rows than this have failed.
    Count(u64),
    /// When more than this share (0 to 1) of the rows has failed.
    Share(f64),
}

/// Where the parts of a run say that it has to end, and why.
#[derive(Clone, Debug)]
pub struct Stop {
    reason: Arc<Mutex<Option<Halt>>>,
    failures: Arc<Mutex<Failures>>,
    controls: Controls,
    max_failures: MaxFailures,
}

#[derive(Debug, Default)]
struct Failures {
    rows: u64,
    failed: u64,
    first_kind: Option<FailureKind>,
    mixed: bool,
}

impl Stop {
    pub(super) fn new(controls: Controls, max_failures: MaxFailures) -> Self {
        Self { reason: Arc::default(), failures: Arc::default(), controls, max_failures }
    }

    /// Ends the run: nothing more is read, what is in flight is finished.
    pub fn halt(&self, halt: Halt) {
        // Nobody would read the answers to what is in flight.
        let is_unread = matches!(halt, Halt::Stdout(_));
        self.end_with(halt);
        self.controls.drain.cancel();
        if is_unread {
            self.controls.abort.cancel();
        }
    }

    /// Says why the run will have ended when everything that was read is answered.
    pub(super) fn end_with(&self, halt: Halt) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(halt);
    }

    /// Whether the run has to end.
    pub(super) fn is_halted(&self) -> bool {
        self.controls.drain.is_cancelled()
    }

    /// Whether the endpoint refused the run for good.
    pub(super) fn is_fatal(&self) -> bool {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*reason, Some(Halt::Fatal(_)))
    }

    /// What was said when the endpoint was given up, if that is why the run ends.
    pub(super) fn endpoint_down(&self) -> Option<String> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        match &*reason {
            Some(Halt::EndpointDown(message)) => Some(message.clone()),
            _ => None,
        }
    }

    pub(super) fn into_halt(self) -> Option<Halt> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).take();
        reason.or_else(|| self.controls.drain.is_cancelled().then_some(Halt::Interrupted))
    }

    /// Counts a finished row and stops a run that is failing.
    pub(super) fn count(&self, failure: Option<(FailureKind, &str)>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.rows += 1;
        let Some((kind, message)) = failure else {
            failures.mixed = true;
            return;
        };
        failures.failed += 1;
        failures.mixed |= *failures.first_kind.get_or_insert(kind) != kind;
        let (rows, failed) = (failures.rows, failures.failed);
        match self.max_failures {
            MaxFailures::Brake if !failures.mixed && rows >= BRAKE_ROWS => {
                self.halt(Halt::Brake(kind, message.to_owned()));
            }
            MaxFailures::Count(most) if failed > most => self.halt(Halt::MaxFailures(failed)),
            MaxFailures::Share(most) if rows >= SHARE_FROM_ROWS && is_more(failed, rows, most) => {
                self.halt(Halt::MaxFailures(failed));
            }
            _ => {}
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share is compared to a few digits")]
fn is_more(failed: u64, rows: u64, share: f64) -> bool {
    failed as f64 > share * rows as f64
}
