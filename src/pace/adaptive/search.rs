//! Finds the smallest limit with nearly the most throughput, and follows it.
//!
//! It doubles once in a round trip while throughput rises with it (*climb*). Then it rests, and from time to time tries
//! a step up or down, each compared with a measure taken just before. Only answers to requests that were sent after the
//! limit was last changed count, and both sides of a comparison are taken in the same way: of the requests sent after a
//! moment the fast ones are answered first.

use tokio::time::Instant;

use super::Sample;
use super::ceiling::Ceiling;
use super::measure::{Change, Measure};

/// Where every search starts.
const START: usize = 8;

/// A larger limit is worth it if the throughput's growth, both as logarithms, is at least this share of the limit's.
const WORTH: f64 = 0.08;

/// How much of the limit's growth has to come out as throughput for the next step to double again.
const STEEP: f64 = 0.5;

/// The steps up and down once the plateau is found, and how many times the usual number of answers they are measured
/// by. The later ones are for endpoints whose latency varies so much that the first say nothing.
const STEPS: [(f64, usize); 5] = [(1.25, 1), (1.5, 1), (2.0, 1), (2.0, 2), (2.0, 4)];

/// How many times the usual number a climb is measured by, likewise.
const CLIMBS: [usize; 4] = [1, 2, 4, 8];

/// The fewest answers that a climb and a careful measure go by.
const QUICK: usize = 12;
const CAREFUL: usize = 100;

/// Standard errors between what was measured and what decides.
const SURE: f64 = 1.5;

/// How much answers vary at least, in shares of the mean, when it is to be shown that a larger limit is worth it. In a
/// long line every request waits for the same ones before it, so that their latencies are alike and look sure.
const VARIES: f64 = 0.25;

/// How many round trips it rests between two tries, at first and when trying has brought nothing.
const REST: u32 = 4;
const LONGEST_REST: u32 = 32;

/// Round trips after a change of the limit that are not compared with others: the fast answers come first.
const SETTLING: usize = 2;

/// Latency that changes by more than this (as a logarithm: by 40 %) at the same limit means another state of affairs.
const OTHERWISE: f64 = 0.34;

/// Seconds. A latency below this is no reason to have fewer requests in flight: nobody waits in line for long.
const SHORT: f64 = 0.005;

/// What the answers now coming in are measured for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// For a comparison with a limit that is tried next.
    Compare(Next),
    /// To decide whether this limit is better than the one before.
    Try { back: usize, kind: Kind },
    /// To see whether anything changes, for so many more round trips.
    Rest(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Climb,
    More,
    Less,
    /// The endpoint became slower.
    Halve,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    kind: Kind,
    to: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The larger limit of the two is worth it.
    Larger,
    Smaller,
    Unclear,
}

#[derive(Debug)]
pub(super) struct Search {
    limit: usize,
    most: usize,
    phase: Phase,
    /// Requests sent before do not count.
    since: Option<Instant>,
    window: Measure,
    /// So many answers more are not measured: the fast ones come first.
    settling: usize,
    /// Answers to requests sent while the pool was not full.
    not_full: usize,
    /// What the window is compared with: the limit before, or this one in an earlier round trip.
    base: Measure,
    /// The last round trip in which it rested, and at which limit.
    rested: Option<(usize, Measure)>,
    rest: u32,
    /// Which of the steps is taken: the further, the more a comparison needs to show anything.
    effort: usize,
    /// The direction of the next try.
    upwards: bool,
    ceiling: Ceiling,
    /// The limit before the endpoint had too much to do, until half of it is reached again.
    fell_from: usize,
}

impl Search {
    pub(super) fn new(most: usize) -> Self {
        let limit = START.min(most);
        Self {
            limit,
            most,
            phase: Phase::Compare(Next { kind: Kind::Climb, to: limit * 2 }),
            since: None,
            window: Measure::of(1),
            settling: 0,
            not_full: 0,
            base: Measure::of(1),
            rested: None,
            rest: REST,
            effort: 0,
            upwards: true,
            ceiling: Ceiling::default(),
            fell_from: 0,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn answered(&mut self, sample: &Sample, now: Instant) {
        self.ceiling.heard(self.limit);
        if self.since.is_some_and(|since| sample.sent < since) {
            return;
        }
        // One short of nine tenths: a pool is seldom full to the last place.
        if (sample.in_flight + 1) * 10 < self.limit * 9 {
            self.not_full += 1;
            if self.not_full > 4 * self.limit + QUICK && self.not_full > 2 * self.window.count {
                self.held_back(now);
            }
            return;
        }
        if self.settling > 0 {
            self.settling -= 1;
            return;
        }
        self.window.add(sample);
        if self.window.count >= self.needed() {
            self.decide(now);
        }
    }

    pub(super) fn overloaded(&mut self, sent: Instant, now: Instant) {
        if !self.ceiling.turned_away(self.limit, sent, now) {
            return;
        }
        let limit = match self.phase {
            // What was tried is too much; what was before was not.
            Phase::Try { back, kind: Kind::Climb | Kind::More } => back,
            _ => self.limit * 3 / 4,
        };
        self.fell_from = self.fell_from.max(self.limit);
        self.rest = 1;
        self.upwards = true;
        self.measure(limit.max(1), self.resting(), now);
    }

    /// How many answers the window needs.
    fn needed(&self) -> usize {
        match self.phase {
            Phase::Compare(Next { kind: Kind::Climb, .. }) | Phase::Try { kind: Kind::Climb, .. } => {
                QUICK.max(self.limit / 4) * CLIMBS[self.effort.min(CLIMBS.len() - 1)]
            }
            Phase::Compare(Next { kind: Kind::Halve, .. }) | Phase::Try { kind: Kind::Halve, .. } => {
                (CAREFUL / 4).max(self.limit)
            }
            Phase::Compare(_) | Phase::Try { .. } => CAREFUL.max(self.limit * 3) * STEPS[self.effort].1,
            Phase::Rest(_) => QUICK.max(self.limit),
        }
    }

    /// A measure of about ten batches, each of a round trip if that leaves enough of them.
    fn empty(&self) -> Measure {
        let needed = self.needed();
        Measure::of((needed / 12).max(self.limit.min(needed / 6)).max(1))
    }

    fn decide(&mut self, now: Instant) {
        match self.phase {
            Phase::Compare(next) => {
                self.base = self.window;
                // A climb's few answers are the fast ones, and always look better than those before.
                let otherwise = self.otherwise(&self.base).filter(|_| next.kind != Kind::Climb);
                let next = otherwise.unwrap_or(next);
                self.begin(next, now);
            }
            Phase::Try { back, kind } => self.tried(back, kind, now),
            Phase::Rest(left) => self.rested(left, now),
        }
    }

    /// Measures anew, at this limit and for this.
    fn measure(&mut self, limit: usize, phase: Phase, now: Instant) {
        (self.limit, self.phase) = (limit, phase);
        self.since = Some(now);
        self.window = self.empty();
        self.settling = match phase {
            Phase::Compare(Next { kind: Kind::Climb, .. }) | Phase::Try { kind: Kind::Climb, .. } => 0,
            Phase::Rest(_) => SETTLING * limit,
            _ => limit,
        };
        self.not_full = 0;
    }

    fn begin(&mut self, next: Next, now: Instant) {
        let to = next.to.min(self.most).min(self.ceiling.most(now).max(self.limit)).max(1);
        let shrinks_for_nothing = to < self.limit && self.base.mean_latency() < SHORT;
        if to == self.limit || shrinks_for_nothing {
            self.upwards = matches!(next.kind, Kind::Less | Kind::Halve);
            return self.measure(self.limit, self.resting(), now);
        }
        self.measure(to, Phase::Try { back: self.limit, kind: next.kind }, now);
    }

    fn resting(&self) -> Phase {
        Phase::Rest(self.rest)
    }

    /// Which of the two limits is worth it, and how much of the limit's growth came out as throughput.
    fn verdict(&self, back: usize) -> (Verdict, f64) {
        let Change { throughput, error, .. } = self.window.since(&self.base);
        let grown = ratio(self.limit, back).ln();
        let (elasticity, error) = (throughput / grown, error / grown.abs());
        let doubt = if self.limit > back && elasticity > WORTH {
            error.hypot(VARIES * (self.window.share() + self.base.share()).sqrt() / grown)
        } else {
            error
        };
        let verdict = if (elasticity - WORTH).abs() < SURE * doubt {
            Verdict::Unclear
        } else if elasticity > WORTH {
            Verdict::Larger
        } else {
            Verdict::Smaller
        };
        (verdict, elasticity)
    }

    fn tried(&mut self, back: usize, kind: Kind, now: Instant) {
        let (verdict, elasticity) = self.verdict(back);
        let steep = elasticity > STEEP;
        let better = match (verdict, kind) {
            (Verdict::Unclear, Kind::More) if elasticity <= WORTH => false,
            (Verdict::Unclear, _) => return self.unclear(back, kind, now),
            (Verdict::Larger, _) => self.limit > back,
            (Verdict::Smaller, _) => self.limit < back,
        };
        self.effort = self.effort.saturating_sub(1);
        if !better {
            return self.go_back(back, kind, now);
        }
        self.base = self.window;
        self.rest = REST;
        match kind {
            Kind::Less => self.begin(Next { kind, to: self.less() }, now),
            Kind::Halve => self.begin(Next { kind, to: self.limit / 2 }, now),
            Kind::Climb if steep => self.begin(Next { kind, to: self.limit * 2 }, now),
            Kind::Climb => self.begin(Next { kind, to: self.limit * 3 / 2 }, now),
            Kind::More if steep => {
                let next = Next { kind: Kind::Climb, to: self.limit * 2 };
                self.measure(self.limit, Phase::Compare(next), now);
            }
            Kind::More => self.begin(Next { kind, to: self.more() }, now),
        }
    }

    /// Nothing can be said: back, and measure more next time. A climb goes on at once.
    fn unclear(&mut self, back: usize, kind: Kind, now: Instant) {
        if kind == Kind::Climb && self.effort + 1 < CLIMBS.len() {
            self.effort += 1;
            let next = Next { kind, to: self.limit };
            return self.measure(back, Phase::Compare(next), now);
        }
        self.effort = (self.effort + 1).min(STEPS.len() - 1);
        self.go_back(back, kind, now);
    }

    fn go_back(&mut self, back: usize, kind: Kind, now: Instant) {
        if kind == Kind::Climb {
            self.limit = back;
            let next = Next { kind: Kind::Less, to: self.less() };
            return self.measure(back, Phase::Compare(next), now);
        }
        self.upwards = kind != Kind::More;
        self.measure(back, self.resting(), now);
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }

    fn rested(&mut self, left: u32, now: Instant) {
        let window = self.window;
        self.window = self.empty();
        let otherwise = self.otherwise(&window);
        self.rested = Some((self.limit, window));
        if otherwise.is_none() && left > 1 {
            self.phase = Phase::Rest(left - 1);
            return;
        }
        let next = if let Some(next) = otherwise {
            self.rest = REST;
            next
        } else if self.climbs_again(now) {
            Next { kind: Kind::Climb, to: self.limit * 2 }
        } else if self.upwards || window.mean_latency() < SHORT {
            Next { kind: Kind::More, to: self.more() }
        } else {
            Next { kind: Kind::Less, to: self.less() }
        };
        self.measure(self.limit, Phase::Compare(next), now);
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "limits are small and positive"
    )]
    fn more(&self) -> usize {
        (self.limit as f64 * STEPS[self.effort].0).ceil() as usize
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "limits are small and positive"
    )]
    fn less(&self) -> usize {
        (self.limit as f64 / STEPS[self.effort].0).floor() as usize
    }

    /// Whether it has fallen so far, and for so long, that small steps would take for ever.
    fn climbs_again(&mut self, now: Instant) -> bool {
        if self.limit * 2 >= self.fell_from {
            self.fell_from = 0;
        }
        self.fell_from > 0 && self.limit * 2 <= self.ceiling.most(now)
    }

    /// What to try if this measure shows another state of affairs than when it last rested at the same limit.
    fn otherwise(&self, window: &Measure) -> Option<Next> {
        let (limit, before) = self.rested.as_ref()?;
        let Change { latency, error, .. } = window.since(before);
        if *limit != self.limit || latency.abs() < OTHERWISE + 2.0 * error {
            None
        } else if latency > 0.0 {
            Some(Next { kind: Kind::Halve, to: self.limit / 2 })
        } else {
            Some(Next { kind: Kind::More, to: self.more() })
        }
    }

    /// The pool is not full: rows come slowly, or something else limits them. What is being tried is not proven.
    fn held_back(&mut self, now: Instant) {
        let limit = match self.phase {
            Phase::Try { back, .. } => back,
            _ => self.limit,
        };
        let phase = match self.phase {
            Phase::Compare(Next { kind: Kind::Climb, .. }) | Phase::Try { kind: Kind::Climb, .. } => {
                Phase::Compare(Next { kind: Kind::Climb, to: limit * 2 })
            }
            _ => self.resting(),
        };
        self.measure(limit, phase, now);
    }
}

#[expect(clippy::cast_precision_loss, reason = "limits are small")]
fn ratio(a: usize, b: usize) -> f64 {
    a as f64 / b as f64
}
