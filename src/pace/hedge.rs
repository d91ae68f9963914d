//! When an answer takes so long that a second copy of its request is worth its price (Dean and Barroso, "The Tail at
//! Scale", 2013). It only says how long is too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Fewer answers than this say nothing about the slowest.
const LEAST_ANSWERS: u64 = 100;

/// The share is looked up anew after so many answers.
const LOOK_EVERY: u64 = 64;

/// The longest latency told apart, in microseconds: an hour.
const LONGEST: u64 = 3600 * 1_000_000;

/// Which requests are sent a second time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Hedge {
    /// None.
    #[default]
    Off,
    /// Those that take longer than this share (0 to 1) of the answers so far.
    Share(f64),
    /// Those that take longer than this.
    After(Duration),
}

/// The latencies so far, and what they say.
#[derive(Debug)]
pub struct Stragglers {
    hedge: Hedge,
    latencies: Mutex<Option<Histogram<u64>>>,
    /// In microseconds; 0 while it is not known.
    too_long: AtomicU64,
}

impl Stragglers {
    /// Nothing has been answered yet.
    #[must_use]
    pub fn new(hedge: Hedge) -> Self {
        let latencies = match hedge {
            Hedge::Share(_) => Histogram::new_with_bounds(1, LONGEST, 2).ok(),
            Hedge::Off | Hedge::After(_) => None,
        };
        Self { hedge, latencies: Mutex::new(latencies), too_long: 0.into() }
    }

    /// Whether requests are sent a second time at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.hedge != Hedge::Off
    }

    /// How long a request may take before it is sent a second time; `None` while that is not known.
    #[must_use]
    pub fn too_long(&self) -> Option<Duration> {
        match (self.hedge, self.too_long.load(Ordering::Relaxed)) {
            (Hedge::After(time), _) => Some(time),
            (_, 0) => None,
            (_, micros) => Some(Duration::from_micros(micros)),
        }
    }

    /// An answer took so long.
    pub fn answered(&self, latency: Duration) {
        let Hedge::Share(share) = self.hedge else { return };
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(latencies) = latencies.as_mut() else { return };
        latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST).max(1));
        if latencies.len() >= LEAST_ANSWERS && latencies.len() % LOOK_EVERY == 0 {
            self.too_long.store(latencies.value_at_quantile(share), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straggler_takes_longer_than_a_share_of_enough_answers() {
        let stragglers = Stragglers::new(Hedge::Share(0.9));
        for millis in 1..=64 {
            stragglers.answered(Duration::from_millis(millis));
        }
        assert_eq!(stragglers.too_long(), None, "too few");
        for millis in 1..=1000 {
            stragglers.answered(Duration::from_millis(millis));
        }
        let too_long = stragglers.too_long().unwrap();
        assert!(
            too_long > Duration::from_millis(860) && too_long < Duration::from_millis(910),
            "{too_long:?}"
        );
    }

    #[test]
    fn a_given_time_holds_from_the_first_request_on() {
        let time = Duration::from_secs(5);
        assert_eq!(Stragglers::new(Hedge::After(time)).too_long(), Some(time));
        assert!(!Stragglers::new(Hedge::Off).is_on());
    }
}
