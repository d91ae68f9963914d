//! A row's patience: how often it goes again and how long it waits in between.

use std::time::Duration;

use tokio::time::Instant;
use tokio_retry::strategy::{ExponentialBackoff, jitter};

use crate::domain::Advice;

/// A reused connection may be dead this often in a row before it counts as a failed attempt: after a server was
/// restarted, many idle connections are dead at once.
const MOST_RESENDS: u32 = 3;

/// A row that was refused for pace waits in line as well, where the pace is kept: more than this need not be added.
const LONGEST_REFUSAL_BACKOFF: Duration = Duration::from_secs(10);

/// How patient a row is.
#[derive(Clone, Debug)]
pub struct RetrySettings {
    /// The most attempts, the first one included; refusals for pace and time without an endpoint are none.
    pub max_attempts: u32,
    /// The first back-off, before jitter.
    pub backoff_base: Duration,
    /// The longest back-off.
    pub backoff_max: Duration,
    /// The longest a row waits in all for an endpoint that refuses for pace.
    pub max_wait: Duration,
}

/// What a row does after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go again after this long.
    Again(Duration),
    /// Go again at once, as the same attempt.
    Resend,
    /// Go again as soon as the endpoint can be reached.
    AwaitEndpoint,
    /// It is over. `true`: because the wait would be longer than the row may wait.
    GiveUp(bool),
}

/// One row's state between its attempts.
#[derive(Debug)]
pub struct Patience {
    settings: RetrySettings,
    failed: u32,
    resends: u32,
    resent_after_reset: bool,
    strikes: Delays,
    refusals: Delays,
    refused_since: Option<Instant>,
}

impl Patience {
    /// A fresh row's patience.
    #[must_use]
    pub fn new(settings: &RetrySettings) -> Self {
        Self {
            settings: settings.clone(),
            failed: 0,
            resends: 0,
            resent_after_reset: false,
            strikes: Delays::new(settings.backoff_base, settings.backoff_max),
            refusals: Delays::new(settings.backoff_base, settings.backoff_max.min(LONGEST_REFUSAL_BACKOFF)),
            refused_since: None,
        }
    }

    /// What to do after an attempt that ended with this advice.
    pub fn decide(&mut self, advice: Advice) -> Decision {
        if !matches!(advice, Advice::Resend { .. }) {
            self.resends = 0;
        }
        match advice {
            Advice::Resend { was_read: false } if self.resends < MOST_RESENDS => {
                self.resends += 1;
                Decision::Resend
            }
            // Once a row, so that a row that kills its server is sent once more than it may at the most.
            Advice::Resend { was_read: true } if !self.resent_after_reset => {
                self.resent_after_reset = true;
                Decision::Resend
            }
            Advice::Resend { .. } => self.strike(None),
            Advice::Retry { after } => self.strike(after),
            Advice::Refused { after, .. } => self.refused(after),
            Advice::Down => Decision::AwaitEndpoint,
            Advice::GiveUp | Advice::NotFound | Advice::Stop => Decision::GiveUp(false),
        }
    }

    fn strike(&mut self, after: Option<Duration>) -> Decision {
        self.failed += 1;
        if self.failed >= self.settings.max_attempts {
            return Decision::GiveUp(false);
        }
        let wait = at_least(after, self.strikes.next());
        if wait > self.settings.max_wait { Decision::GiveUp(true) } else { Decision::Again(wait) }
    }

    fn refused(&mut self, after: Option<Duration>) -> Decision {
        let now = Instant::now();
        let waited = now - *self.refused_since.get_or_insert(now);
        let wait = at_least(after, self.refusals.next());
        if waited + wait > self.settings.max_wait { Decision::GiveUp(true) } else { Decision::Again(wait) }
    }
}

/// What the server asked for is the least; a little more keeps the rows from coming back together.
fn at_least(after: Option<Duration>, backoff: Duration) -> Duration {
    after.map_or(backoff, |after| after + jitter(after / 10 + Duration::from_millis(20)))
}

/// Doubling delays with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").
#[derive(Debug)]
struct Delays {
    doubling: ExponentialBackoff,
    half_base: f64,
    max: Duration,
}

impl Delays {
    fn new(base: Duration, max: Duration) -> Self {
        // The strategy raises its base to a power, so it is fed 2 and scaled to 1, 2, 4 … times our base.
        let doubling = ExponentialBackoff::from_millis(2).max_delay(Duration::from_hours(1));
        let half_base = base.as_secs_f64() / 0.002;
        Self { doubling, half_base, max }
    }

    fn next(&mut self) -> Duration {
        let scaled = self.doubling.next().unwrap_or(self.max).as_secs_f64() * self.half_base;
        let capped = Duration::try_from_secs_f64(scaled).unwrap_or(self.max).min(self.max);
        jitter(capped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience::new(&RetrySettings {
            max_attempts: 4,
            backoff_base: Duration::from_millis(500),
            backoff_max: Duration::from_secs(3),
            max_wait: Duration::from_secs(60),
        })
    }

    #[test]
    fn backoff_doubles_up_to_its_limit_with_full_jitter() {
        let limits = [0.5, 1.0, 2.0, 3.0, 3.0, 3.0];
        let mut longest = [0.0_f64; 6];
        for _ in 0..2000 {
            let mut delays = patience().strikes;
            for (limit, longest) in limits.iter().zip(&mut longest) {
                let delay = delays.next().as_secs_f64();
                assert!(delay <= *limit, "{delay} > {limit}");
                *longest = longest.max(delay);
            }
        }
        assert!(longest.iter().zip(limits).all(|(longest, limit)| *longest > limit * 0.9), "{longest:?}");
    }

    #[test]
    fn attempts_are_used_up_by_failures_and_not_by_refusals() {
        let mut row = patience();
        for _ in 0..50 {
            let refused = Advice::Refused { after: Some(Duration::from_millis(1)), exhausted: None };
            assert!(matches!(row.decide(refused), Decision::Again(_)));
        }
        let retry = Advice::Retry { after: None };
        for _ in 0..3 {
            assert!(matches!(row.decide(retry), Decision::Again(_)));
        }
        assert_eq!(row.decide(retry), Decision::GiveUp(false));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_pace_ends_when_the_row_has_waited_long_enough() {
        let mut row = patience();
        let refused =
            |seconds| Advice::Refused { after: Some(Duration::from_secs(seconds)), exhausted: None };
        let Decision::Again(wait) = row.decide(refused(40)) else {
            panic!("the first wait is within the limit")
        };
        assert!(wait >= Duration::from_secs(40));
        tokio::time::advance(wait).await;
        assert_eq!(row.decide(refused(40)), Decision::GiveUp(true));
        assert_eq!(patience().decide(refused(7200)), Decision::GiveUp(true));
    }

    #[test]
    fn dead_reused_connections_become_a_strike_after_a_while() {
        let mut row = patience();
        let closed = Advice::Resend { was_read: false };
        for _ in 0..3 {
            assert_eq!(row.decide(closed), Decision::Resend);
        }
        assert!(matches!(row.decide(closed), Decision::Again(_)));
        let reset = Advice::Resend { was_read: true };
        assert_eq!(row.decide(reset), Decision::Resend);
        for _ in 0..2 {
            assert!(matches!(row.decide(reset), Decision::Again(_)));
        }
        assert_eq!(row.decide(reset), Decision::GiveUp(false));
    }
}
