//! The rate that a server really allows, found from its refusals alone: for servers that say nothing about their limits,
//! or not the truth. It never guesses above what was refused for long, and forgets what turns out to be no limit.
//!
//! Three modes. Free: no limit is known. Probing: (nearly) all was refused, so a few requests go after ever longer
//! silences, until some are answered. Holding: a rate is in force, a little under the one that was refused, and creeps
//! up. All times are seconds since the limiter began, all rates are a second.

use std::collections::VecDeque;

use super::probing::{
    FIRST_SILENCE, LONG_SILENCE, LONGEST_SILENCE, PROBE_LOST, PROBES, Probing, WINDOW_SILENCE,
};
use super::recent::Recent;

/// So many refusals are the least that mean something, and this share of the answers. Up to twice the share that comes
/// whatever the pace is not counted.
const FEWEST: u32 = 3;
const SHARE: f64 = 0.012;

/// The answers that the share is taken of, roughly.
const WINDOW: u32 = 200;

/// Above this share of refusals the rate is so far off that it is found anew.
const HOPELESS: f64 = 0.5;

/// Above this share nothing goes through any more.
const ALL: f64 = 0.9;

/// The share of refusals is not taken of less than so many requests, or so many seconds' worth.
const BUNCH: f64 = 8.0;
const BUNCH_SECONDS: f64 = 0.2;

/// The rate held, of one that was refused.
const UNDER: f64 = 0.97;

/// Growth a second right after a refusal, and at the most; it doubles in so many seconds without one.
const GROWTH: f64 = 0.001;
const MOST_GROWTH: f64 = 0.05;
const DOUBLES_IN: f64 = 15.0;

/// Growth a second up to a little under the rate that was refused last: a cut may have been too deep.
const RETURN: f64 = 0.02;

/// How much more than what was let through lately is tried first, where that was in a hurry.
const MARGIN: f64 = 1.1;

/// A rate that nothing gets through at before it was held for so many seconds, and what of it is tried next.
const LASTED: f64 = 10.0;
const BAD_GUESS: f64 = 0.6;

/// Growth at each step from a probe's rate up to the ceiling.
const LEAP: f64 = 1.5;

/// Refusals that go on over so many cuts of the rate, with no calm of so many seconds, and down to this share of the
/// rate, have nothing to do with it.
const STUBBORN: u32 = 8;
const CALM: f64 = 10.0;
const IN_VAIN: f64 = 0.35;

/// How much longer than the first refusal the others are waited for before anything is made of them.
const GRACE: f64 = 0.01;

/// So many refusals are not waited out.
const FLOOD: u32 = 16;

/// The search for one limit of requests.
#[derive(Debug, Default)]
pub(super) struct Search {
    mode: Mode,
    /// Counts changes of the rate: what was sent before one says nothing about the rate after it.
    epoch: u32,
    sent: u32,
    answered: u32,
    refused: u32,
    /// What was sent and not refused, as far as is known.
    taken: Recent,
    began: Option<f64>,
    /// The share of refusals that comes whatever the pace.
    noise: f64,
    latency: f64,
    /// How long a refusal takes; many servers refuse at once and answer late.
    refusal_latency: f64,
    pressed: f64,
    /// When those went that may still be refused.
    young: VecDeque<f64>,
    first_refusal: Option<f64>,
}

#[derive(Debug, Default)]
enum Mode {
    #[default]
    Free,
    Probing(Probing),
    Holding(Holding),
}

#[derive(Debug)]
struct Holding {
    rate: f64,
    /// When the first rate was in force.
    began: f64,
    /// Up to here the rate grows in leaps.
    leaps_to: Option<f64>,
    /// Up to here it grows faster.
    returns_to: f64,
    calm_since: f64,
    grown: f64,
    /// Cuts without a calm time in between, and what was refused of what since the first.
    cuts: u32,
    cut_from: f64,
    all_refused: f64,
    all_settled: f64,
}

impl Search {
    /// The rate in force.
    pub(super) fn rate(&self) -> Option<f64> {
        match &self.mode {
            Mode::Holding(holding) => Some(holding.rate),
            _ => None,
        }
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// When the next probe may go, while nothing else may.
    pub(super) fn silent_until(&mut self, now: f64) -> Option<f64> {
        let Mode::Probing(probing) = &mut self.mode else { return None };
        if probing.sent >= probing.together && now >= probing.next + PROBE_LOST {
            (probing.sent, probing.back, probing.answered) = (0, 0, 0);
            probing.next = now;
        }
        let until = if probing.sent >= probing.together { probing.next + PROBE_LOST } else { probing.next };
        (now < until).then_some(until)
    }

    pub(super) fn sent(&mut self, now: f64) {
        self.began.get_or_insert(now);
        self.taken.add(1.0, now);
        self.sent += 1;
        self.young.push_back(now);
        self.grow_old(now);
        if let Mode::Probing(probing) = &mut self.mode {
            if probing.sent == 0 {
                probing.next = now;
                probing.together = if now - probing.since > LONG_SILENCE { 1 } else { PROBES };
                // What went before the silence and comes back only now is no probe.
                self.epoch += 1;
            }
            probing.sent += 1;
        }
    }

    /// Somebody waits because of the rate in force.
    pub(super) fn pressed(&mut self, now: f64) {
        self.pressed = now;
    }

    /// Another limit is known now: what was refused before says no more than that.
    pub(super) fn start_again(&mut self) {
        self.mode = Mode::Free;
        self.next_epoch();
    }

    pub(super) fn answered(&mut self, epoch: u32, sent: f64, now: f64) {
        self.latency += (now - sent - self.latency) * if self.latency == 0.0 { 1.0 } else { 0.1 };
        if epoch != self.epoch {
            return;
        }
        self.answered += 1;
        match &mut self.mode {
            Mode::Free => self.forget_old(),
            Mode::Probing(probing) => {
                probing.back += 1;
                probing.answered += 1;
                self.after_probe(now);
            }
            Mode::Holding(_) => self.grow(now),
        }
    }

    pub(super) fn refused(&mut self, epoch: u32, sent: f64, after: Option<f64>, now: f64) {
        self.taken.take_back(1.0, sent);
        if epoch != self.epoch {
            if let Mode::Probing(probing) = &mut self.mode
                && sent < probing.since
            {
                probing.taken = (probing.taken - 1.0).max(1.0);
            }
            return;
        }
        self.refused += 1;
        let took = now - sent;
        self.refusal_latency +=
            (took - self.refusal_latency) * if self.refusal_latency == 0.0 { 1.0 } else { 0.1 };
        self.grow_old(now);
        let share = f64::from(self.refused) / self.settled();
        match &mut self.mode {
            Mode::Free => {
                let first = *self.first_refusal.get_or_insert(now);
                let flood = self.refused >= FLOOD && share >= HOPELESS;
                let complete = flood || now >= first + GRACE + self.refusal_latency;
                if complete && self.refused >= FEWEST && share > SHARE + 2.0 * self.noise {
                    self.slow_down(share, after, now);
                }
                self.forget_old();
            }
            Mode::Probing(probing) => {
                probing.back += 1;
                if let Some(after) = after {
                    probing.silence = probing.silence.max(after.min(60.0));
                    probing.windows |= after >= LONGEST_SILENCE && after * probing.slowest() >= 3.0;
                }
                let silent = probing.next - probing.since;
                probing.windows |= silent >= WINDOW_SILENCE && silent * probing.slowest() >= 3.0;
                self.after_probe(now);
            }
            Mode::Holding(_) => self.cut(share, after, now),
        }
    }

    /// What came of a request is not known.
    pub(super) fn lost(&mut self, epoch: u32, now: f64) {
        if epoch == self.epoch
            && let Mode::Probing(probing) = &mut self.mode
        {
            probing.back += 1;
            self.after_probe(now);
        }
    }

    /// How many of those sent at this rate are answered or refused, or on their way for so long that they will not be
    /// refused any more: many servers refuse at once and answer late.
    fn settled(&self) -> f64 {
        let under_way = self.sent.saturating_sub(self.answered + self.refused);
        let young = u32::try_from(self.young.len()).unwrap_or(u32::MAX);
        f64::from(self.answered + self.refused + under_way.saturating_sub(young))
    }

    /// Forgets those that will not be refused any more.
    fn grow_old(&mut self, now: f64) {
        while self.young.front().is_some_and(|sent| now - sent > 1.5 * self.refusal_latency) {
            self.young.pop_front();
        }
    }

    fn forget_old(&mut self) {
        if self.answered + self.refused > WINDOW {
            let heard = self.answered + self.refused;
            self.sent = self.sent.saturating_sub(heard / 2);
            self.answered /= 2;
            self.refused /= 2;
            if self.refused == 0 {
                self.first_refusal = None;
            }
        }
    }

    fn next_epoch(&mut self) {
        self.epoch += 1;
        (self.sent, self.answered, self.refused, self.first_refusal) = (0, 0, 0, None);
    }

    /// The first refusals that count.
    fn slow_down(&mut self, share: f64, after: Option<f64>, now: f64) {
        let elapsed = (now - self.began.unwrap_or(now)).clamp(0.0, 60.0);
        if share >= HOPELESS {
            self.probe(None, elapsed, after, now);
            return;
        }
        // The last seconds and the part of one that is under way.
        let seconds = (3.0 + now % 1.0).min(elapsed).max(0.25);
        let rate = UNDER * self.taken.sum(4, now).max(1.0) / seconds;
        self.hold(rate, rate * MARGIN, None, now);
    }

    fn hold(&mut self, rate: f64, returns_to: f64, leaps_to: Option<f64>, now: f64) {
        self.mode = Mode::Holding(Holding {
            rate: rate.max(1.0 / 60.0),
            began: now,
            leaps_to,
            returns_to,
            calm_since: now,
            grown: now,
            cuts: 0,
            cut_from: rate,
            all_refused: 0.0,
            all_settled: 0.0,
        });
        self.next_epoch();
    }

    fn probe(&mut self, held: Option<f64>, elapsed: f64, after: Option<f64>, now: f64) {
        let probing = Probing::new(held, self.taken.sum(60, now), elapsed, after, now);
        self.mode = Mode::Probing(probing);
        self.next_epoch();
    }

    /// The answer to a probe has come.
    fn after_probe(&mut self, now: f64) {
        let Mode::Probing(probing) = &mut self.mode else { return };
        if probing.back < probing.together {
            return;
        }
        if probing.answered == 0 {
            (probing.sent, probing.back) = (0, 0);
            probing.next = now + probing.silence;
            probing.silence = (probing.silence * 2.0).min(LONGEST_SILENCE);
            self.next_epoch();
            return;
        }
        let (floor, ceiling) = (probing.slowest(), probing.fastest());
        if probing.windows {
            self.hold(UNDER * floor, 0.0, None, now);
            return;
        }
        let silent = (probing.next - probing.since).max(FIRST_SILENCE);
        let seen = f64::from(probing.answered) / silent;
        if probing.answered < probing.together {
            self.hold(seen.clamp(floor, ceiling), (2.0 * seen).min(ceiling), None, now);
        } else {
            self.hold((2.0 * seen).clamp(floor, ceiling), 0.0, Some(ceiling), now);
        }
    }

    fn grow(&mut self, now: f64) {
        let (pressed, latency, answered, refused) = (self.pressed, self.latency, self.answered, self.refused);
        let Mode::Holding(holding) = &mut self.mode else { return };
        let passed = now - holding.grown;
        // A rate that nobody waits for was not tried.
        if now - pressed > 1.0 {
            holding.grown = now;
        } else if let Some(ceiling) = holding.leaps_to {
            if answered >= 4 && refused == 0 && passed >= (2.0 * latency).max(0.1) {
                holding.rate *= LEAP;
                holding.grown = now;
                if holding.rate >= ceiling {
                    (holding.rate, holding.leaps_to) = (ceiling, None);
                }
                self.next_epoch();
            }
        } else if passed >= 0.1 {
            let growth = (GROWTH * ((now - holding.calm_since) / DOUBLES_IN).exp2()).min(MOST_GROWTH);
            let growth = if holding.rate < holding.returns_to { growth.max(RETURN) } else { growth };
            holding.rate *= 1.0 + growth * passed.min(1.0);
            holding.grown = now;
        }
    }

    fn cut(&mut self, share: f64, after: Option<f64>, now: f64) {
        let refused = self.refused;
        let settled = self.settled();
        let Mode::Holding(holding) = &mut self.mode else { return };
        let rate = holding.rate;
        // Arrivals come in bunches, and so do refusals.
        let enough = BUNCH.max(rate * BUNCH_SECONDS);
        if share > ALL && refused >= FEWEST && settled >= enough / 2.0 {
            // A rate that was good for a while meets the end of a window; another one was a bad guess.
            let lasted = holding.leaps_to.is_none() && now - holding.began >= LASTED;
            self.probe(Some(rate * if lasted { UNDER } else { BAD_GUESS }), 60.0, after, now);
            return;
        }
        if settled < enough {
            return;
        }
        if now - holding.calm_since >= CALM {
            (holding.cuts, holding.all_refused, holding.all_settled) = (0, 0.0, 0.0);
        }
        if holding.cuts == 0 {
            holding.cut_from = rate;
        }
        holding.cuts += 1;
        holding.all_refused += f64::from(refused);
        holding.all_settled += settled;
        let all = holding.all_refused / holding.all_settled;
        let in_vain = rate < IN_VAIN * holding.cut_from && all < HOPELESS;
        if holding.cuts >= STUBBORN && in_vain {
            self.noise = all;
            self.start_again();
            return;
        }
        // Few refusals may be a bunch: what is sure is taken.
        let refused = f64::from(refused);
        let sure = (refused - refused.sqrt()).max(0.0) / settled;
        let least = if holding.leaps_to.is_some() { 1.0 / LEAP } else { UNDER };
        let cut = least.min((1.0 - sure) * 0.98).max(0.3);
        holding.returns_to = UNDER * rate;
        holding.rate = (rate * cut).max(1.0 / 60.0);
        (holding.leaps_to, holding.calm_since, holding.grown) = (None, now, now);
        self.next_epoch();
    }
}
