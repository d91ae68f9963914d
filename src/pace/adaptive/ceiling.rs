//! A limit at which the endpoint had too much to do. For a while it is not tried again; the while grows if it was right.

use std::time::Duration;

use tokio::time::Instant;

/// How long a ceiling holds at first.
const HOLDS: Duration = Duration::from_secs(10);

/// How long it holds when it has been met again and again.
const HOLDS_AT_MOST: Duration = Duration::from_secs(160);

/// One in so many of a round trip's requests has to be turned away before it counts: single ones have other causes.
const ONE_IN: usize = 20;

/// The fewest that count.
const LEAST: usize = 2;

/// What has been turned away, and at which limit.
#[derive(Debug, Default)]
pub(super) struct Ceiling {
    /// The limit, until when it holds, and for how long that was.
    at: Option<(usize, Instant, Duration)>,
    heard: usize,
    turned_away: usize,
    lowered: Option<Instant>,
}

impl Ceiling {
    /// The largest limit that may be tried.
    pub(super) fn most(&self, now: Instant) -> usize {
        match self.at {
            Some((limit, until, _)) if now < until => limit.saturating_sub(1).max(1),
            _ => usize::MAX,
        }
    }

    /// An answer or a refusal came back; `limit` of them make a round trip.
    pub(super) fn heard(&mut self, limit: usize) {
        self.heard += 1;
        if self.heard >= limit.max(ONE_IN) {
            (self.heard, self.turned_away) = (0, 0);
        }
    }

    /// A request was turned away. Returns whether the limit is too high, which 1 never is. It is lowered once in a round trip: what was
    /// sent before it was lowered says nothing new.
    pub(super) fn turned_away(&mut self, limit: usize, sent: Instant, now: Instant) -> bool {
        if limit == 1 || self.lowered.is_some_and(|lowered| sent < lowered) {
            return false;
        }
        self.turned_away += 1;
        if self.turned_away < LEAST.max(limit / ONE_IN) {
            self.heard(limit);
            return false;
        }
        let holds = match self.at {
            // The same limit again, or one near it: it was right.
            Some((before, _, holds)) if limit * 5 >= before * 4 && limit * 4 <= before * 5 => {
                (holds * 2).min(HOLDS_AT_MOST)
            }
            _ => HOLDS,
        };
        self.at = Some((limit, now + holds, holds));
        (self.heard, self.turned_away, self.lowered) = (0, 0, Some(now));
        true
    }
}
