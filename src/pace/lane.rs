//! One endpoint as the pool sees it: whether it takes another request now, and what its answers say about it.

use tokio::time::Instant;

use super::gate::{Door, Gate, GateSettings};
use crate::domain::{Advice, Attempt, EndpointFigures, FailureKind};

/// An endpoint among others that fails this often in a row is left alone and probed, as if it were down.
const FAILING: u32 = 5;

/// What is decided about an endpoint before the run.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// What the endpoint is called; without what may be secret in a URL.
    pub base_url: String,
    /// The most requests in flight at it.
    pub concurrency: usize,
    /// Its share of the rows in comparison with the others.
    pub weight: u32,
}

/// What an attempt said that is worth telling whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The endpoint answers again.
    pub up: bool,
    /// It cannot be reached any more.
    pub down: bool,
    /// Everybody waits for so long.
    pub paused: Option<std::time::Duration>,
}

/// Whether an endpoint takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Now,
    /// Ask again then.
    At(Instant),
    /// Ask again when something has changed.
    Later,
}

/// One endpoint.
#[derive(Debug)]
pub(super) struct Lane {
    settings: LaneSettings,
    gate: Gate,
    in_flight: usize,
    most_in_flight: usize,
    failed_in_a_row: u32,
    reached: u64,
    refused: u64,
}

impl Lane {
    pub(super) fn new(settings: LaneSettings, gate: GateSettings) -> Self {
        Self {
            settings,
            gate: Gate::new(gate),
            in_flight: 0,
            most_in_flight: 0,
            failed_in_a_row: 0,
            reached: 0,
            refused: 0,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.settings.concurrency
    }

    pub(super) fn room(&mut self, now: Instant) -> Room {
        match self.gate.look(now) {
            Door::Open if self.in_flight < self.limit() => Room::Now,
            Door::Open | Door::Shut => Room::Later,
            Door::Knock => Room::Now,
            Door::ShutUntil(at) => Room::At(at),
        }
    }

    /// How full it is, for its weight: the next row goes to the emptiest.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are compared")]
    pub(super) fn load(&self) -> f64 {
        (self.in_flight + 1) as f64 / (self.limit() as f64 * f64::from(self.settings.weight))
    }

    /// A request goes to it. Returns whether it is a probe.
    pub(super) fn enter(&mut self, now: Instant) -> bool {
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        self.gate.pass(now)
    }

    /// The request's row is written, or will go again.
    pub(super) fn leave(&mut self, probe: bool) {
        self.in_flight -= 1;
        self.gate.left(probe);
    }

    /// How it was used.
    pub(super) fn figures(&self) -> EndpointFigures {
        EndpointFigures {
            base_url: self.settings.base_url.clone(),
            requests: self.reached,
            refused: self.refused,
            most_in_flight: self.most_in_flight as u64,
            concurrency: self.limit() as u64,
            adaptive: false,
            requests_per_minute: None,
            tokens_per_minute: None,
        }
    }

    pub(super) fn given_up_at(&self) -> Option<Instant> {
        self.gate.given_up_at()
    }

    pub(super) fn why_down(&self) -> Option<&str> {
        self.gate.why_down()
    }

    /// Takes in what came of an attempt. `alone`: there is no other endpoint to go to.
    pub(super) fn heard(&mut self, attempt: &Attempt, probe: bool, alone: bool, now: Instant) -> News {
        let mut news = News::default();
        self.reached += u64::from(attempt.reached);
        match attempt.status {
            Some(_) => news.up = self.gate.reached(probe),
            None if attempt.reached => self.gate.unanswered(probe, now),
            None => {}
        }
        let Err(failed) = &attempt.result else {
            self.failed_in_a_row = 0;
            self.gate.answered();
            return news;
        };
        match failed.advice {
            Advice::Refused { after, exhausted } => {
                self.refused += 1;
                news.paused = self.gate.refused(after, exhausted, self.in_flight, now);
            }
            Advice::Down => news.down = self.gate.down(probe, &failed.failure.message, now),
            Advice::Retry { .. } if !alone && failed.failure.kind != FailureKind::RateLimited => {
                self.failed_in_a_row += 1;
                if self.failed_in_a_row >= FAILING {
                    news.down = self.gate.down(probe, &failed.failure.message, now);
                }
            }
            _ => {}
        }
        news
    }
}
