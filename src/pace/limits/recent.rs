//! What happened in the last minute, second by second.

const SECONDS: usize = 60;

/// Amounts by second.
#[derive(Debug)]
pub(super) struct Recent {
    amounts: [f64; SECONDS],
    newest: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self { amounts: [0.0; SECONDS], newest: 0 }
    }
}

impl Recent {
    pub(super) fn add(&mut self, amount: f64, now: f64) {
        let second = self.advance(now);
        self.amounts[slot(second)] += amount;
    }

    /// Takes back what was added at a time, if that is less than a minute ago.
    pub(super) fn take_back(&mut self, amount: f64, then: f64) {
        let second = whole(then);
        if second + SECONDS as u64 > self.newest {
            let slot = &mut self.amounts[slot(second)];
            *slot = (*slot - amount).max(0.0);
        }
    }

    /// The last minute, its oldest second first.
    pub(super) fn seconds(&mut self, now: f64) -> impl Iterator<Item = f64> {
        let newest = self.advance(now);
        (newest + 1..=newest + SECONDS as u64).map(|second| self.amounts[slot(second)])
    }

    /// The sum over the last seconds, the one that is under way among them.
    pub(super) fn sum(&mut self, seconds: usize, now: f64) -> f64 {
        self.seconds(now).skip(SECONDS.saturating_sub(seconds)).sum()
    }

    fn advance(&mut self, now: f64) -> u64 {
        let second = whole(now).max(self.newest);
        for past in (self.newest + 1..=second).rev().take(SECONDS) {
            self.amounts[slot(past)] = 0.0;
        }
        self.newest = second;
        second
    }
}

#[expect(clippy::cast_possible_truncation, reason = "less than SECONDS")]
fn slot(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a run, never below 0"
)]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}
