//! How much of a limit of tokens is used, where the server counts more than we do: it refuses, so less is sent.

/// The least share that is used.
const LEAST: f64 = 0.1;

/// A few refusals at most are the network's doing: this share of the answers is let pass.
const STRAY: f64 = 0.005;

/// How fast the share grows again, a second.
const GROWTH: f64 = 0.0005;

const WINDOW: f64 = 200.0;

#[derive(Debug)]
pub(super) struct Trim {
    share: f64,
    answers: f64,
    refusals: f64,
    changed: f64,
    grown: f64,
}

impl Default for Trim {
    fn default() -> Self {
        Self { share: 1.0, answers: 0.0, refusals: 0.0, changed: 0.0, grown: 0.0 }
    }
}

impl Trim {
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    pub(super) fn answered(&mut self, now: f64) {
        self.count();
        if now - self.grown >= 1.0 {
            self.share = (self.share * (1.0 + GROWTH * (now - self.grown).min(10.0))).min(1.0);
            self.grown = now;
        }
    }

    pub(super) fn refused(&mut self, sent: f64, now: f64) {
        // What was sent at the old share says nothing about the new one.
        if sent < self.changed {
            return;
        }
        self.count();
        self.refusals += 1.0;
        let refused = self.refusals / self.answers;
        if self.refusals < 3.0 || refused <= STRAY {
            return;
        }
        self.share = (self.share * (1.0 - refused).clamp(0.5, 0.99)).max(LEAST);
        (self.answers, self.refusals, self.changed, self.grown) = (0.0, 0.0, now, now);
    }

    fn count(&mut self) {
        self.answers += 1.0;
        if self.answers > WINDOW {
            self.answers /= 2.0;
            self.refusals /= 2.0;
        }
    }
}
