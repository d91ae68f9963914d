//! How long answers took: a histogram with three significant digits, the same size for ten rows and ten million.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency told apart, in microseconds: a day.
const LONGEST: u64 = 24 * 3600 * 1_000_000;
const DIGITS: u8 = 3;

/// The latencies of a run.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    histogram: Option<Histogram<u64>>,
    sum: u128,
}

impl Latencies {
    /// Counts a latency, rounded to microseconds as outputs have it: a report read back from one is the same.
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from((latency.as_nanos() + 500) / 1000).unwrap_or(LONGEST).clamp(1, LONGEST);
        if self.histogram.is_none() {
            self.histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(micros);
            self.sum += u128::from(micros);
        }
    }

    /// The mean, in milliseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean is printed with a few digits")]
    pub fn mean_ms(&self) -> f64 {
        match &self.histogram {
            Some(histogram) if !histogram.is_empty() => self.sum as f64 / histogram.len() as f64 / 1e3,
            _ => 0.0,
        }
    }

    /// The latency that this share (0 to 1) of the answers did not exceed, in milliseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a day fit")]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.histogram.as_ref().map_or(0.0, |histogram| histogram.value_at_quantile(share) as f64 / 1e3)
    }
}
