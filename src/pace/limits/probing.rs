//! The second mode of the search: a few requests after ever longer silences. All times are seconds since the limiter
//! began, all rates are a second.

/// Requests that go together as a probe, and after a silence of how long it is one alone.
pub(super) const PROBES: u32 = 2;
pub(super) const LONG_SILENCE: f64 = 1.0;

/// Windows of a second are over by then.
pub(super) const WINDOW_SILENCE: f64 = 1.5;

/// The first silence before a probe and the longest one.
pub(super) const FIRST_SILENCE: f64 = 0.05;
pub(super) const LONGEST_SILENCE: f64 = 5.0;

/// How long the answer to a probe is waited for.
pub(super) const PROBE_LOST: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Probing {
    /// Since when nothing has been answered.
    pub(super) since: f64,
    pub(super) silence: f64,
    pub(super) next: f64,
    pub(super) sent: u32,
    pub(super) back: u32,
    pub(super) answered: u32,
    /// How many of those together are a probe.
    pub(super) together: u32,
    /// What was taken in the minute before.
    pub(super) taken: f64,
    /// Within how many seconds at the most that was.
    pub(super) elapsed: f64,
    /// The rate that was held before.
    pub(super) held: Option<f64>,
    /// A bucket of any size would have had a request's worth in it by now: the server counts in windows.
    pub(super) windows: bool,
}

/// What was let through is the rate times the time and a burst, of which we know only that it is worth a second to a
/// minute. So the rate is between these two.
impl Probing {
    /// `taken` went in the last minute, within `elapsed` seconds of it.
    pub(super) fn new(held: Option<f64>, taken: f64, elapsed: f64, after: Option<f64>, now: f64) -> Self {
        let mut probing = Self {
            since: now,
            silence: FIRST_SILENCE,
            next: now,
            sent: 0,
            back: 0,
            answered: 0,
            together: PROBES,
            taken: taken.max(1.0),
            elapsed,
            held,
            windows: false,
        };
        let after = after.unwrap_or(0.0).min(60.0);
        probing.silence = FIRST_SILENCE.max(2.0 / probing.fastest()).min(LONGEST_SILENCE).max(after);
        probing.next = now + probing.silence;
        probing.windows = after >= LONGEST_SILENCE && after * probing.slowest() >= 3.0;
        probing
    }

    pub(super) fn slowest(&self) -> f64 {
        (self.taken / 60.0).min(self.held.unwrap_or(f64::INFINITY)).max(1.0 / 60.0)
    }

    pub(super) fn fastest(&self) -> f64 {
        self.held.unwrap_or(self.taken / (1.0 + self.elapsed)).max(self.slowest())
    }
}
