//! Requests and tokens a minute: let through evenly, at most one second's worth at once, as large limits are in practice.

use std::time::{Duration, Instant};

use super::refusal::Refusal;

const MINUTE: Duration = Duration::from_mins(1);

/// What may come at once: this much time's worth of the limit.
const BURST: Duration = Duration::from_secs(1);

/// Both limits.
#[derive(Debug)]
pub(super) struct Limits {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

/// Where a limit stands, for the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// What is let through in a minute.
    pub limit: u64,
    /// What would be let through now.
    pub remaining: u64,
    /// When all of it is there again.
    pub reset: Duration,
}

impl Limits {
    pub(super) fn new(rpm: Option<u64>, tpm: Option<u64>) -> Self {
        let now = Instant::now();
        let bucket = |limit| Bucket::new(limit, now);
        Self { requests: rpm.map(bucket), tokens: tpm.map(bucket) }
    }

    /// Lets a request of so many tokens through, or says how long it has to wait. What is refused takes nothing.
    pub(super) fn admit(&mut self, tokens: u64, now: Instant) -> Result<(), Refusal> {
        if let Some(bucket) = &self.tokens
            && tokens > bucket.limit
        {
            return Err(Refusal::too_many_tokens(bucket.limit, tokens));
        }
        let asked = [("requests", &mut self.requests, 1), ("tokens", &mut self.tokens, tokens)];
        for (what, bucket, amount) in &asked {
            if let Some(bucket) = bucket {
                let wait = bucket.wait(*amount, now);
                if !wait.is_zero() {
                    return Err(Refusal::rate_limited(what, bucket.limit, wait));
                }
            }
        }
        for (_, bucket, amount) in asked {
            if let Some(bucket) = bucket {
                bucket.take(amount, now);
            }
        }
        Ok(())
    }

    /// Where the limits stand: of requests, of tokens.
    pub(super) fn standing(&self, now: Instant) -> [Option<Standing>; 2] {
        [&self.requests, &self.tokens].map(|bucket| bucket.as_ref().map(|bucket| bucket.standing(now)))
    }
}

/// A leaky bucket, kept as the time at which it will be empty again.
#[derive(Debug)]
struct Bucket {
    limit: u64,
    empty_at: Instant,
}

impl Bucket {
    fn new(limit: u64, now: Instant) -> Self {
        Self { limit, empty_at: now }
    }

    /// The time in which an amount is let through. A limit of 0 lets nothing through.
    fn time_of(&self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * MINUTE.as_nanos() / u128::from(self.limit.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How long an amount has to wait. More than a burst goes through when the bucket is empty.
    fn wait(&self, amount: u64, now: Instant) -> Duration {
        if self.limit == 0 {
            return MINUTE;
        }
        let time = self.time_of(amount);
        let filled = self.empty_at.saturating_duration_since(now);
        (filled + time).saturating_sub(BURST.max(time))
    }

    fn take(&mut self, amount: u64, now: Instant) {
        self.empty_at = self.empty_at.max(now) + self.time_of(amount);
    }

    fn standing(&self, now: Instant) -> Standing {
        let reset = self.empty_at.saturating_duration_since(now);
        let free = BURST.max(self.time_of(1)).saturating_sub(reset);
        let remaining = free.as_nanos() * u128::from(self.limit) / MINUTE.as_nanos();
        Standing { limit: self.limit, remaining: u64::try_from(remaining).unwrap_or(u64::MAX), reset }
    }
}

/// A duration as Go writes it and the limit headers show it: `12ms`, `1.5s`, `6m0s`. Rounded up to milliseconds.
pub(super) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let mut seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::refusal::RetryAfter;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_second_of_requests_comes_at_once_and_then_evenly() {
        let mut limits = Limits::new(Some(600), None);
        let start = Instant::now();
        assert!((0..10).all(|_| limits.admit(1, start).is_ok()));
        let refusal = limits.admit(1, start).unwrap_err();
        assert_eq!(refusal.retry_after, Some(RetryAfter { seconds: 1, millis: 100 }));
        assert_eq!(refusal.code, Some("rate_limit_exceeded"));
        assert!(limits.admit(1, at(start, 100)).is_ok());
        assert!(limits.admit(1, at(start, 100)).is_err());
        let admitted = (100..60_000).filter(|millis| limits.admit(1, at(start, *millis)).is_ok()).count();
        assert_eq!(10 + 1 + admitted, 609);
    }

    #[test]
    fn a_request_larger_than_a_burst_waits_for_an_empty_bucket() {
        let mut limits = Limits::new(None, Some(6000));
        let start = Instant::now();
        assert!(limits.admit(3000, start).is_ok());
        assert_eq!(limits.admit(3000, start).unwrap_err().retry_after, Some(Duration::from_secs(30).into()));
        assert_eq!(limits.admit(6001, at(start, 90_000)).unwrap_err().retry_after, None);
        assert!(limits.admit(3000, at(start, 30_000)).is_ok());
    }

    #[test]
    fn a_refusal_by_one_limit_takes_nothing_of_the_other() {
        let mut limits = Limits::new(Some(60), Some(6000));
        let start = Instant::now();
        assert!(limits.admit(6000, start).is_ok());
        assert!(limits.admit(1, at(start, 1000)).is_err());
        let [requests, tokens] = limits.standing(at(start, 1000));
        assert_eq!(requests, Some(Standing { limit: 60, remaining: 1, reset: Duration::ZERO }));
        assert_eq!(tokens, Some(Standing { limit: 6000, remaining: 0, reset: Duration::from_secs(59) }));
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (millis, text) in [
            (0, "0ms"),
            (12, "12ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (977_764, "16m17.764s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms");
    }
}
