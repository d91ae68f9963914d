//! One endpoint as the pool sees it: whether it takes another request now, and what its answers say about it.

use tokio::time::Instant;

use super::adaptive::{Concurrency, Sample};
use super::gate::{Door, Gate, GateSettings};
use super::limits::{Charge, GivenLimits, LimitInForce, LimitSource, Limiter, Size};
use crate::domain::{Advice, Attempt, EndpointFigures, FailureKind, PaceLimit};

/// An endpoint among others that fails this often in a row is left alone and probed, as if it were down.
const FAILING: u32 = 5;

/// The status of a refusal for pace.
const TOO_MANY_REQUESTS: u16 = 429;

/// What is decided about an endpoint before the run.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// What the endpoint is called; without what may be secret in a URL.
    pub base_url: String,
    /// The most requests in flight at it.
    pub concurrency: InFlight,
    /// Its share of the rows in comparison with the others.
    pub weight: u32,
    /// What it lets through, as far as that is known beforehand.
    pub limits: GivenLimits,
}

/// How many requests may be in flight at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// So many.
    Fixed(usize),
    /// As many as are found to be worth while, and no more than this.
    Found {
        /// The most.
        most: usize,
    },
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

/// Which copy of a request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    First,
    /// It is sent because the first one takes too long.
    Second,
}

impl Copy {
    /// How many may be in flight where `limit` rows may. Requests that hang keep their places; if they kept those of
    /// their second copies as well, nothing would move once all places hang.
    pub(super) fn most(self, limit: usize) -> usize {
        match self {
            Self::First => limit,
            Self::Second => limit.saturating_add(limit / 8 + 1),
        }
    }
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
    concurrency: Concurrency,
    limiter: Limiter,
    in_flight: usize,
    most_in_flight: usize,
    /// Those among them that the endpoint has not answered yet.
    unanswered: usize,
    failed_in_a_row: u32,
    reached: u64,
    refused: u64,
}

/// A request that went to an endpoint, as long as nobody has said what came of it.
#[derive(Debug)]
pub(super) struct Entered {
    /// Whether it is a probe.
    probe: bool,
    sent: Instant,
    /// How many the endpoint had to answer with it.
    unanswered: usize,
    /// What it was charged to the limits; `None` once that is settled.
    charge: Option<Charge>,
}

impl Lane {
    pub(super) fn new(settings: LaneSettings, gate: GateSettings, now: Instant) -> Self {
        let concurrency = match settings.concurrency {
            InFlight::Fixed(limit) => Concurrency::fixed(limit),
            InFlight::Found { most } => Concurrency::adaptive(most),
        };
        Self {
            gate: Gate::new(gate),
            concurrency,
            limiter: Limiter::new(settings.limits, now),
            settings,
            in_flight: 0,
            most_in_flight: 0,
            unanswered: 0,
            failed_in_a_row: 0,
            reached: 0,
            refused: 0,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.concurrency.limit()
    }

    /// Whether it takes a request of this size now.
    pub(super) fn room(&mut self, size: Size, copy: Copy, now: Instant) -> Room {
        match self.gate.look(now) {
            Door::Knock => return Room::Now,
            Door::Shut => return Room::Later,
            Door::ShutUntil(at) => return Room::At(at),
            Door::Open => {}
        }
        if self.in_flight >= copy.most(self.limit()) {
            return Room::Later;
        }
        match self.limiter.ready(size, now) {
            Ok(()) => Room::Now,
            Err(at) => Room::At(at),
        }
    }

    /// How full it is, for its weight: the next row goes to the emptiest.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are compared")]
    pub(super) fn load(&self) -> f64 {
        (self.in_flight + 1) as f64 / (self.limit() as f64 * f64::from(self.settings.weight))
    }

    /// A request goes to it.
    pub(super) fn enter(&mut self, size: Size, now: Instant) -> Entered {
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        self.unanswered += 1;
        Entered {
            probe: self.gate.pass(now),
            sent: now,
            unanswered: self.unanswered,
            charge: Some(self.limiter.sent(size, now)),
        }
    }

    /// The request's row is written, or will go again.
    pub(super) fn leave(&mut self, entered: &mut Entered, now: Instant) {
        self.in_flight -= 1;
        self.gate.left(entered.probe);
        if let Some(charge) = self.answered(entered) {
            self.limiter.lost(charge, now);
        }
    }

    /// How it was used.
    pub(super) fn figures(&self) -> EndpointFigures {
        let standing = self.limiter.standing();
        let known = |limit: LimitInForce| PaceLimit {
            per_minute: limit.per_minute,
            learned: limit.source != LimitSource::Given,
        };
        EndpointFigures {
            base_url: self.settings.base_url.clone(),
            requests: self.reached,
            refused: self.refused,
            most_in_flight: self.most_in_flight as u64,
            concurrency: self.limit() as u64,
            adaptive: self.concurrency.is_adaptive(),
            requests_per_minute: standing.requests.map(known),
            tokens_per_minute: standing.tokens.map(known),
        }
    }

    /// Until when nothing goes to it because its requests of the day are used up.
    pub(super) fn used_up_until(&mut self, now: Instant) -> Option<Instant> {
        self.limiter.day_used_up_until(now)
    }

    pub(super) fn given_up_at(&self) -> Option<Instant> {
        self.gate.given_up_at()
    }

    pub(super) fn why_down(&self) -> Option<&str> {
        self.gate.why_down()
    }

    /// Takes in what came of an attempt. `alone`: there is no other endpoint to go to.
    pub(super) fn heard(
        &mut self,
        attempt: &Attempt,
        entered: &mut Entered,
        alone: bool,
        now: Instant,
    ) -> News {
        let mut news = News::default();
        let probe = entered.probe;
        self.reached += u64::from(attempt.reached);
        match attempt.status {
            Some(_) => news.up = self.gate.reached(probe),
            None if attempt.reached => self.gate.unanswered(probe, now),
            None => {}
        }
        self.settle(attempt, entered, now);
        let Err(failed) = &attempt.result else {
            self.failed_in_a_row = 0;
            self.gate.answered();
            return news;
        };
        match failed.advice {
            Advice::Refused { after, exhausted } => {
                self.refused += 1;
                // What a refusal for pace does not explain, the limiter finds out.
                let explained = exhausted.is_some() || attempt.status != Some(TOO_MANY_REQUESTS);
                let after = after.filter(|_| explained);
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

    /// It is known what came of a request, or that nobody will know. Returns what it was charged, once.
    fn answered(&mut self, entered: &mut Entered) -> Option<Charge> {
        let charge = entered.charge.take();
        self.unanswered -= usize::from(charge.is_some());
        charge
    }

    /// What the attempt says about the pace that the endpoint can take.
    fn settle(&mut self, attempt: &Attempt, entered: &mut Entered, now: Instant) {
        let said = attempt.limits.as_deref();
        let advice = attempt.result.as_ref().err().map(|failed| failed.advice);
        if let Some(Advice::Resend { .. }) = advice {
            // The same request goes again at once, on the same charge.
            return;
        }
        if overloaded(attempt) {
            self.concurrency.overloaded(entered.sent, now);
        }
        let Some(charge) = self.answered(entered) else { return };
        match (&attempt.result, advice) {
            (Ok(answer), _) => {
                self.limiter.answered(charge, &answer.usage, said, now);
                let completion_tokens = answer.usage.completion_tokens.map(|tokens| tokens.0);
                let sample = Sample {
                    sent: entered.sent,
                    latency: attempt.latency,
                    completion_tokens,
                    in_flight: entered.unanswered,
                };
                self.concurrency.answered(sample, now);
            }
            (Err(_), Some(Advice::Refused { after, .. })) if attempt.status == Some(TOO_MANY_REQUESTS) => {
                self.limiter.refused(charge, said, after, now);
            }
            (Err(failed), _) if attempt.status.is_some() => {
                self.limiter.answered(charge, &failed.usage, said, now);
            }
            (Err(_), _) => self.limiter.lost(charge, now),
        }
    }
}

/// Whether the endpoint had more to do than it can: it says so, or does not answer in time.
fn overloaded(attempt: &Attempt) -> bool {
    let Err(failed) = &attempt.result else { return false };
    let slow_down = failed.failure.code.as_deref() == Some("slow_down");
    slow_down || matches!(attempt.status, Some(503 | 529)) || failed.failure.kind == FailureKind::Timeout
}
