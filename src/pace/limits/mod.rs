//! How fast one endpoint may be sent to: by the limits that the user gave, that the server tells of, or that its refusals
//! show. It keeps no time of its own, waits for nothing and knows no line: it says when the first in line may go.

mod day;
mod flow;
mod probing;
mod recent;
mod search;
mod tokens;
mod trim;

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::day::Day;
use self::flow::Flow;
use self::search::Search;
use self::tokens::Estimate;
use self::trim::Trim;
use crate::domain::{RateLimit, RateLimits, Request, Usage};

const MINUTE: f64 = 60.0;

/// A limit that takes longer than this to come back is none of a minute; some providers tell of the day's.
const LONGEST_RESET: Duration = Duration::from_secs(90);

/// Waits shorter than this are none: no timer is that exact.
const NO_WAIT: f64 = 1e-6;

/// The limits that the user gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GivenLimits {
    /// Requests in any minute.
    pub requests_per_minute: Option<u64>,
    /// Tokens in any minute, prompt and completion together.
    pub tokens_per_minute: Option<u64>,
    /// Requests in any 24 hours of this run.
    pub requests_per_day: Option<u64>,
}

/// What is known of a request's size before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The bytes of what the model is to read, or of the whole body if always that.
    pub prompt_bytes: usize,
    /// The most tokens that may come back.
    pub max_completion_tokens: Option<u64>,
}

impl Size {
    /// What is known of a request.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        Self { prompt_bytes: request.body.len(), max_completion_tokens: request.max_completion_tokens }
    }
}

/// What a request was charged when it went; to be given back to the limiter with what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Charge {
    size: Size,
    tokens: f64,
    sent: f64,
    epoch: u32,
    requests_limited: bool,
    tokens_limited: bool,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// The user gave it.
    Given,
    /// The server's headers tell of it.
    Told,
    /// The server's refusals show it.
    Found,
}

/// A limit in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitInForce {
    /// What may go in a minute.
    pub per_minute: u64,
    /// Where it comes from.
    pub source: LimitSource,
}

/// The limits in force; `None` where none is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Of requests.
    pub requests: Option<LimitInForce>,
    /// Of tokens.
    pub tokens: Option<LimitInForce>,
}

/// One limit a minute: the user's and the server's; the lower one counts.
#[derive(Debug, Default)]
struct Cap {
    given: Option<f64>,
    told: Option<f64>,
    /// The server's is for longer than a minute.
    long: bool,
}

/// The limiter of one endpoint.
#[derive(Debug)]
pub struct Limiter {
    start: Instant,
    requests: Flow,
    tokens: Flow,
    requests_cap: Cap,
    tokens_cap: Cap,
    day: Option<Day>,
    search: Search,
    trim: Trim,
    estimate: Estimate,
}

impl Limiter {
    /// Nothing has gone yet. A given limit of 0 lets one request a minute through.
    #[must_use]
    pub fn new(given: GivenLimits, now: Instant) -> Self {
        let cap =
            |given: Option<u64>| Cap { given: given.map(|given| amount(given.max(1))), ..Cap::default() };
        Self {
            start: now,
            requests: Flow::default(),
            tokens: Flow::default(),
            requests_cap: cap(given.requests_per_minute),
            tokens_cap: cap(given.tokens_per_minute),
            day: given.requests_per_day.map(Day::new),
            search: Search::default(),
            trim: Trim::default(),
            estimate: Estimate::default(),
        }
    }

    /// Whether a request may go now.
    ///
    /// # Errors
    /// When to ask again; sooner where something has come back in between.
    pub fn ready(&mut self, size: Size, now: Instant) -> Result<(), Instant> {
        let at = self.seconds(now);
        let day = self.day.as_mut().and_then(|day| day.used_up_until(at));
        if let Some(until) = day.or_else(|| self.search.silent_until(at)) {
            return Err(self.instant(until, now));
        }
        let mut wait = 0.0_f64;
        if let Some(rate) = self.requests_rate() {
            wait = self.requests.wait(1.0, rate, at);
            if wait > NO_WAIT {
                self.search.pressed(at);
            }
        }
        if let Some(rate) = self.tokens_rate() {
            wait = wait.max(self.tokens.wait(self.estimate.of(size), rate, at));
        }
        if wait > NO_WAIT { Err(self.instant(at + wait, now)) } else { Ok(()) }
    }

    /// A request goes.
    pub fn sent(&mut self, size: Size, now: Instant) -> Charge {
        let at = self.seconds(now);
        let (requests_rate, tokens_rate) = (self.requests_rate(), self.tokens_rate());
        let tokens = self.estimate.of(size);
        self.requests.send(1.0, requests_rate, at);
        self.tokens.send(tokens, tokens_rate, at);
        self.search.sent(at);
        if let Some(day) = &mut self.day {
            day.send(at);
        }
        Charge {
            size,
            tokens,
            sent: at,
            epoch: self.search.epoch(),
            requests_limited: requests_rate.is_some(),
            tokens_limited: tokens_rate.is_some(),
        }
    }

    /// The server took the request, be it that it failed then. Usage that is not known leaves the estimate.
    pub fn answered(&mut self, charge: Charge, usage: &Usage, said: Option<&RateLimits>, now: Instant) {
        let at = self.seconds(now);
        self.heed(said, at);
        self.search.answered(charge.epoch, charge.sent, at);
        self.trim.answered(at);
        self.estimate.learn(charge.size, usage);
        let took = usage.total();
        if took.0 > 0 && self.tokens_rate().is_some() {
            self.tokens.correct(amount(took.0) - charge.tokens);
        }
    }

    /// The server refused the request for pace.
    pub fn refused(
        &mut self,
        charge: Charge,
        said: Option<&RateLimits>,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        let at = self.seconds(now);
        self.heed(said, at);
        let (requests_rate, tokens_rate) = (self.requests_rate(), self.tokens_rate());
        if charge.requests_limited {
            self.requests.forgive(1.0);
        } else {
            self.requests.give_back(1.0, charge.sent, requests_rate.is_some());
        }
        if charge.tokens_limited {
            self.tokens.forgive(charge.tokens);
        } else {
            self.tokens.give_back(charge.tokens, charge.sent, tokens_rate.is_some());
        }
        if charge.tokens_limited && self.was_for_tokens(charge, said) {
            self.trim.refused(charge.sent, at);
        } else {
            let after = retry_after.map(|after| after.as_secs_f64());
            self.search.refused(charge.epoch, charge.sent, after, at);
        }
    }

    /// What came of the request is not known: it stays charged.
    pub fn lost(&mut self, charge: Charge, now: Instant) {
        let at = self.seconds(now);
        self.search.lost(charge.epoch, at);
    }

    /// The limits in force.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let in_force = |cap: &Cap, rate: Option<f64>, found: Option<f64>| {
            let source = match found {
                Some(found) if cap.rate().is_none_or(|cap| found < cap) => LimitSource::Found,
                _ => cap.source()?,
            };
            Some(LimitInForce { per_minute: rounded(rate? * MINUTE), source })
        };
        let trimmed = self.tokens_rate().filter(|_| self.trim.share() < 0.95);
        Standing {
            requests: in_force(&self.requests_cap, self.requests_rate(), self.search.rate()),
            tokens: in_force(&self.tokens_cap, self.tokens_rate(), trimmed),
        }
    }

    /// Until when nothing goes because the day's requests are used up.
    pub fn day_used_up_until(&mut self, now: Instant) -> Option<Instant> {
        let at = self.seconds(now);
        let until = self.day.as_mut()?.used_up_until(at)?;
        Some(self.instant(until, now))
    }

    fn requests_rate(&self) -> Option<f64> {
        self.requests_cap.rate().into_iter().chain(self.search.rate()).reduce(f64::min)
    }

    fn tokens_rate(&self) -> Option<f64> {
        Some(self.tokens_cap.rate()? * self.trim.share())
    }

    /// Takes in what the headers tell.
    fn heed(&mut self, said: Option<&RateLimits>, at: f64) {
        let Some(said) = said else { return };
        for (cap, flow, limit) in [
            (&mut self.requests_cap, &mut self.requests, &said.requests),
            (&mut self.tokens_cap, &mut self.tokens, &said.tokens),
        ] {
            let before = cap.rate();
            cap.heed(limit);
            match (before, cap.rate()) {
                (None, Some(rate)) => flow.begin(rate, at),
                (Some(before), Some(rate)) if rate > before => {}
                _ => continue,
            }
            self.search.start_again();
        }
    }

    fn was_for_tokens(&self, charge: Charge, said: Option<&RateLimits>) -> bool {
        let left = |limit: fn(&RateLimits) -> &RateLimit| said.and_then(|said| limit(said).remaining);
        match (left(|said| &said.requests), left(|said| &said.tokens)) {
            (Some(0), _) => false,
            (_, Some(tokens)) => amount(tokens) < charge.tokens,
            (Some(_), None) => true,
            (None, None) => self.requests_rate().is_none(),
        }
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.start).as_secs_f64()
    }

    fn instant(&self, at: f64, now: Instant) -> Instant {
        let wait = at - self.seconds(now);
        now + Duration::try_from_secs_f64(wait).unwrap_or_default()
    }
}

impl Cap {
    /// A second.
    fn rate(&self) -> Option<f64> {
        self.given.into_iter().chain(self.told).reduce(f64::min).map(|limit| limit / MINUTE)
    }

    fn source(&self) -> Option<LimitSource> {
        match (self.given, self.told) {
            (Some(given), Some(told)) if told < given => Some(LimitSource::Told),
            (Some(_), _) => Some(LimitSource::Given),
            (None, told) => told.map(|_| LimitSource::Told),
        }
    }

    fn heed(&mut self, limit: &RateLimit) {
        self.long |= limit.reset.is_some_and(|reset| reset > LONGEST_RESET);
        if self.long {
            self.told = None;
        } else if let Some(limit) = limit.limit {
            self.told = Some(amount(limit));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests and tokens")]
fn amount(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a limit, for people")]
fn rounded(limit: f64) -> u64 {
    limit.round() as u64
}
