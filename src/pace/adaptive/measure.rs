//! What a number of answers at one limit says, and how two such compare.

use super::Sample;

/// Sums over answers: latency in seconds, length in completion tokens (0 where there are none), requests in flight.
///
/// How much they vary is told by batches of answers that came one after the other, not by single ones. Where requests
/// wait in line, an answer's latency depends on the length of those before it, and neighbours wait for the same ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    pub count: usize,
    latency: f64,
    tokens: f64,
    in_flight: f64,
    /// Answers in a batch.
    size: usize,
    batch: Batch,
    batches: Batches,
}

#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    count: usize,
    latency: f64,
    tokens: f64,
}

/// Sums over the means of whole batches.
#[derive(Clone, Copy, Debug, Default)]
struct Batches {
    count: f64,
    latency: f64,
    latency_squared: f64,
    tokens: f64,
    tokens_squared: f64,
    latency_tokens: f64,
}

impl Batches {
    /// The sums of squares and products around the means: tokens, both, latency.
    fn spread(&self) -> [f64; 3] {
        let n = self.count.max(1.0);
        [
            (self.tokens_squared - self.tokens * self.tokens / n).max(0.0),
            self.latency_tokens - self.latency * self.tokens / n,
            (self.latency_squared - self.latency * self.latency / n).max(0.0),
        ]
    }

    /// The variance of the mean latency that is left when the length of answers explains `slope` seconds a token.
    fn variance(&self, slope: f64) -> f64 {
        let [tokens, both, latency] = self.spread();
        let left = (latency - 2.0 * slope * both + slope * slope * tokens).max(0.0);
        left / ((self.count - 1.5).max(0.5) * self.count.max(1.0))
    }
}

/// How one measure differs from another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// The logarithm of how much the throughput grew.
    pub throughput: f64,
    /// The logarithm of how much longer an answer of the same length takes.
    pub latency: f64,
    /// The standard error of both.
    pub error: f64,
}

impl Measure {
    /// Of batches of so many answers.
    pub(super) fn of(size: usize) -> Self {
        Self {
            count: 0,
            latency: 0.0,
            tokens: 0.0,
            in_flight: 0.0,
            size,
            batch: Batch::default(),
            batches: Batches::default(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "token counts and requests are far below 2^52")]
    pub(super) fn add(&mut self, sample: &Sample) {
        let latency = sample.latency.as_secs_f64();
        let tokens = sample.completion_tokens.unwrap_or(0) as f64;
        self.count += 1;
        self.latency += latency;
        self.tokens += tokens;
        self.in_flight += sample.in_flight as f64;
        let batch = &mut self.batch;
        batch.count += 1;
        batch.latency += latency;
        batch.tokens += tokens;
        if batch.count >= self.size {
            let n = batch.count as f64;
            let (latency, tokens) = (batch.latency / n, batch.tokens / n);
            let all = &mut self.batches;
            all.count += 1.0;
            all.latency += latency;
            all.latency_squared += latency * latency;
            all.tokens += tokens;
            all.tokens_squared += tokens * tokens;
            all.latency_tokens += latency * tokens;
            self.batch = Batch::default();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of answers")]
    fn n(&self) -> f64 {
        self.count as f64
    }

    /// The share that one answer has in the mean.
    pub(super) fn share(&self) -> f64 {
        1.0 / self.n().max(1.0)
    }

    /// In seconds.
    pub(super) fn mean_latency(&self) -> f64 {
        self.latency / self.n().max(1.0)
    }

    fn mean_tokens(&self) -> f64 {
        self.tokens / self.n().max(1.0)
    }

    /// How this differs from an `earlier` one. Latencies are those that answers of the same mean length would have,
    /// by the seconds a token that both show: short and long answers do not come evenly.
    pub(super) fn since(&self, earlier: &Self) -> Change {
        let ([tokens, both, _], [earlier_tokens, earlier_both, _]) =
            (self.batches.spread(), earlier.batches.spread());
        let slope = if tokens + earlier_tokens > 0.0 {
            ((both + earlier_both) / (tokens + earlier_tokens)).max(0.0)
        } else {
            0.0
        };
        let length = (self.tokens + earlier.tokens) / (self.n() + earlier.n()).max(1.0);
        let adjusted = |measure: &Self| {
            let mean = measure.mean_latency();
            // Never below a part of what was seen: the line need not hold far away from the measured lengths.
            (mean + slope * (length - measure.mean_tokens())).max(mean / 10.0).max(1e-9)
        };
        let (before, after) = (adjusted(earlier), adjusted(self));
        let error = self.batches.variance(slope) / (after * after)
            + earlier.batches.variance(slope) / (before * before);
        let latency = (after / before).ln();
        let in_flight = (self.in_flight / self.n().max(1.0)) / (earlier.in_flight / earlier.n().max(1.0));
        Change { throughput: in_flight.max(1e-9).ln() - latency, latency, error: error.sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn measure(in_flight: usize, answers: &[(u64, f64)]) -> Measure {
        let mut measure = Measure::of(1);
        for &(tokens, seconds) in answers {
            let latency = Duration::from_secs_f64(seconds);
            let completion_tokens = (tokens > 0).then_some(tokens);
            measure.add(&Sample { sent: Instant::now(), latency, completion_tokens, in_flight });
        }
        measure
    }

    #[test]
    fn long_answers_are_not_taken_for_a_slow_endpoint() {
        let time = |tokens: u64| (tokens, 0.2 + 0.01 * f64::from(u32::try_from(tokens).unwrap()));
        let short = measure(8, &[5, 10, 20, 40].map(time));
        let long = measure(16, &[300, 500, 400, 350].map(time));
        let change = long.since(&short);
        assert!(change.latency.abs() < 0.01, "{change:?}");
        assert!((change.throughput - 2.0_f64.ln()).abs() < 0.01 && change.error < 0.01, "{change:?}");
    }

    #[test]
    fn without_tokens_the_plain_latency_counts() {
        let (before, after) = (measure(8, &[(0, 1.0), (0, 1.2)]), measure(16, &[(0, 2.0), (0, 2.4)]));
        let change = after.since(&before);
        assert!((change.latency - 2.0_f64.ln()).abs() < 1e-6 && change.throughput.abs() < 1e-6, "{change:?}");
    }
}
