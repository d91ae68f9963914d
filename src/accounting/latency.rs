//! How long answers took: a histogram with three significant digits, the same size for ten rows and ten million.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest latency told apart, in microseconds: a day.
const LONGEST: u64 = 24 * 3600 * 1_000_000;
const DIGITS: u8 = 3;

/// The latencies of a run.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    histogram: Option<Histogram<u64>>,
    sum: u128,
}

/// How often each latency was recorded, in microseconds, and their sum.
#[derive(Deserialize, Serialize)]
struct Recorded {
    counts: Vec<(u64, u64)>,
    sum: u64,
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.histogram.iter().flat_map(Histogram::iter_recorded);
        let counts = recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        Recorded { counts, sum: u64::try_from(self.sum).unwrap_or(u64::MAX) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let recorded = Recorded::deserialize(deserializer)?;
        let mut latencies = Self::default();
        for (micros, count) in recorded.counts {
            latencies.record_times(micros.clamp(1, LONGEST), count);
        }
        latencies.sum = u128::from(recorded.sum);
        Ok(latencies)
    }
}

impl Latencies {
    /// Counts a latency, rounded to microseconds as outputs have it: a report read back from one is the same.
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from((latency.as_nanos() + 500) / 1000).unwrap_or(LONGEST).clamp(1, LONGEST);
        self.record_times(micros, 1);
        self.sum += u128::from(micros);
    }

    fn record_times(&mut self, micros: u64, times: u64) {
        if self.histogram.is_none() {
            self.histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record_n(micros, times);
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
