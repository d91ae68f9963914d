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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_holds_for_longer_when_it_was_right() {
        let (mut ceiling, mut now) = (Ceiling::default(), Instant::now());
        let mut meet = |limit: usize, now: Instant| {
            let lowered = (0..LEAST).map(|_| ceiling.turned_away(limit, now, now)).last().unwrap();
            let still = |after: u64| ceiling.most(now + Duration::from_secs(after)) < usize::MAX;
            (lowered, ceiling.most(now), (1..1000).take_while(|after| still(*after)).count())
        };
        let second = Duration::from_secs(1);
        assert_eq!(meet(40, now), (true, 39, 9));
        now += second * 20;
        assert_eq!(meet(36, now), (true, 35, 19));
        for _ in 0..9 {
            now += second * 200;
            meet(36, now);
        }
        now += second * 200;
        assert_eq!(meet(36, now), (true, 35, 159));
        now += second * 200;
        assert_eq!(meet(10, now), (true, 9, 9), "another one");
        assert!(!meet(1, now).0, "there is nothing lower");
    }

    #[test]
    fn single_refusals_among_many_answers_do_not_count() {
        let (mut ceiling, now) = (Ceiling::default(), Instant::now());
        for answer in 0..10_000 {
            ceiling.heard(100);
            assert!(answer % 25 > 0 || !ceiling.turned_away(100, now, now), "one in twenty-five");
        }
        assert!((0..5).any(|_| ceiling.turned_away(100, now, now)));
    }
}
