//! An even flow of requests or tokens at a rate. It keeps amounts and not times, so that a change of the rate neither
//! forgives nor adds to what was sent before. All times are seconds since the limiter began, all rates are a second.

use super::recent::Recent;

/// What is aimed at. The rest is for arrivals that the network moves together: a server that counts whole seconds
/// refuses whatever comes 1 % too early.
const AIM: f64 = 0.99;

/// How fast what was missed is caught up with: under the limit even then.
const CATCHING_UP: f64 = 0.998;

/// How much time's worth of missed sending is caught up with in the end.
const MISSED: f64 = 1.0;

/// How much time's worth may go at once after a late wake-up.
const LATE: f64 = 0.05;

/// The least burst that servers allow: what takes longer than this at the full rate waits until all before it is
/// through.
const BURST: f64 = 1.0;

/// How much later than that it goes, because the network may have delayed what went before it.
const GUARD: f64 = 0.01;

/// What has gone, for one limit.
#[derive(Debug, Default)]
pub(super) struct Flow {
    at: f64,
    /// What is ahead of the aim; below 0 what was missed.
    ahead: f64,
    /// What a server without any burst would still have to let through; below 0 once it is through for a while.
    filled: f64,
    recent: Recent,
}

impl Flow {
    /// How long an amount has to wait from now on.
    pub(super) fn wait(&mut self, amount: f64, rate: f64, now: f64) -> f64 {
        self.drain(rate, now);
        let tolerance = LATE.min(BURST - amount / rate).max(-GUARD);
        let ahead = self.ahead / (rate * AIM);
        let filled = (self.filled - tolerance * rate) / (rate * CATCHING_UP);
        ahead.max(filled).max(0.0)
    }

    /// An amount goes.
    pub(super) fn send(&mut self, amount: f64, rate: Option<f64>, now: f64) {
        self.recent.add(amount, now);
        if let Some(rate) = rate {
            self.drain(rate, now);
            self.ahead += amount;
            self.filled = self.filled.max(0.0) + amount;
        }
    }

    /// What went was more, or less, than was thought.
    pub(super) fn correct(&mut self, by: f64) {
        self.ahead += by;
        self.filled += by;
    }

    /// What was refused is caught up with, but not at once.
    pub(super) fn forgive(&mut self, amount: f64) {
        self.ahead -= amount;
    }

    /// What was refused at `sent`, before any limit was known, took nothing of the limit.
    pub(super) fn give_back(&mut self, amount: f64, sent: f64, limited: bool) {
        self.recent.take_back(amount, sent);
        if limited {
            self.correct(-amount);
        }
    }

    /// A limit is known from now on. What went in the last minute counts towards it.
    pub(super) fn begin(&mut self, rate: f64, now: f64) {
        let mut filled = 0.0_f64;
        for amount in self.recent.seconds(now) {
            filled = (filled - rate).max(0.0) + amount;
        }
        (self.at, self.ahead, self.filled) = (now, filled, filled);
    }

    /// Has the amounts drain at the rate that was in force until now.
    fn drain(&mut self, rate: f64, now: f64) {
        let through = (now - self.at).max(0.0) * rate;
        self.at = self.at.max(now);
        self.ahead = (self.ahead - through * AIM).max(-rate * MISSED);
        self.filled = (self.filled - through * CATCHING_UP).max(-rate * GUARD);
    }
}
