//! A pool, a network and servers of every kind, event by event, for the limiter's tests.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::too_many_lines,
    reason = "a simulation in floats"
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::{Charge, GivenLimits, Limiter, Size};
use crate::domain::{RateLimit, RateLimits, Tokens, Usage};
use crate::pace::gate::{Door, Gate, GateSettings};

/// How a server counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A bucket with so many seconds' worth of burst.
    Bucket(f64),
    /// A window of so many seconds, from one multiple to the next.
    Fixed(f64),
    /// Any 60 s.
    Sliding,
    /// It takes everything.
    Unlimited,
}

/// What a server tells of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    /// `Retry-After` in whole seconds.
    RetryAfter,
    /// The limit headers, and when the next one may go in milliseconds.
    Headers,
}

#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub kind: Kind,
    pub told: Told,
    /// The limit a minute from a second on.
    pub limits: Vec<(f64, f64)>,
    pub tokens: bool,
    pub given: GivenLimits,
    pub in_flight: usize,
    pub latency: f64,
    pub seconds: f64,
    /// Refusals whatever the pace, as a share.
    pub stray: f64,
    /// Prompt tokens, from and to.
    pub sizes: (u64, u64),
    pub seed: u64,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of what could have been let through.
    pub used: f64,
    /// Of all that was sent.
    pub refused: f64,
    pub accepted: f64,
    pub sent: u64,
    /// What was let through in each second.
    pub by_second: Vec<f64>,
    /// How often the first in line asked.
    pub asked: u64,
}

struct Server {
    kind: Kind,
    filled: f64,
    at: f64,
    window: u64,
    let_through: VecDeque<(f64, f64)>,
}

impl Server {
    /// Lets an amount through, or says when it may.
    fn admit(&mut self, amount: f64, limit: f64, at: f64) -> Result<(), f64> {
        let rate = limit / 60.0;
        match self.kind {
            Kind::Unlimited => Ok(()),
            Kind::Bucket(burst) => {
                self.filled = (self.filled - (at - self.at) * rate).max(0.0);
                self.at = at;
                let room = (burst * rate).max(amount) - amount;
                if self.filled > room + 1e-9 {
                    return Err((self.filled - room) / rate);
                }
                self.filled += amount;
                Ok(())
            }
            Kind::Fixed(seconds) => {
                let window = (at / seconds) as u64;
                if window != self.window {
                    (self.window, self.filled) = (window, 0.0);
                }
                if self.filled > 0.0 && self.filled + amount > rate * seconds + 1e-9 {
                    return Err((window + 1) as f64 * seconds - at);
                }
                self.filled += amount;
                Ok(())
            }
            Kind::Sliding => {
                while self.let_through.front().is_some_and(|(then, _)| *then <= at - 60.0) {
                    self.filled -= self.let_through.pop_front().unwrap().1;
                }
                if !self.let_through.is_empty() && self.filled + amount > limit + 1e-6 {
                    return Err(self.let_through[0].0 + 60.0 - at);
                }
                self.filled += amount;
                self.let_through.push_back((at, amount));
                Ok(())
            }
        }
    }

    fn remaining(&self, limit: f64) -> f64 {
        let rate = limit / 60.0;
        match self.kind {
            Kind::Unlimited => 0.0,
            Kind::Bucket(burst) => burst * rate - self.filled,
            Kind::Fixed(seconds) => seconds * rate - self.filled,
            Kind::Sliding => limit - self.filled,
        }
        .max(0.0)
    }
}

enum Event {
    Wake,
    Arrives(Charge, u64),
    Answer(Charge, u64, Option<RateLimits>),
    Refusal(Option<RateLimits>, Option<Duration>, Charge),
}

struct Random(u64);

impl Random {
    /// From 0 to 1 (splitmix64).
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.next()
    }
}

#[derive(Default)]
struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    pushed: u64,
}

impl Queue {
    fn push(&mut self, at: f64, event: Event) {
        self.pushed += 1;
        self.events.insert(((at * 1e9) as u64, self.pushed), event);
    }

    fn pop(&mut self) -> Option<(f64, Event)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at as f64 / 1e9, event))
    }
}

impl Scene {
    pub(super) fn new(kind: Kind, told: Told, limit: f64) -> Self {
        Self {
            kind,
            told,
            limits: vec![(0.0, limit)],
            tokens: false,
            given: GivenLimits::default(),
            in_flight: 64,
            latency: 0.2,
            seconds: 120.0,
            stray: 0.0,
            sizes: (10, 10),
            seed: 7,
        }
    }

    fn limit(&self, at: f64) -> f64 {
        self.limits.iter().rev().find(|(from, _)| *from <= at).map_or(0.0, |(_, limit)| *limit)
    }

    pub(super) fn run(&self) -> Seen {
        let start = Instant::now();
        let instant = |at: f64| start + Duration::from_secs_f64(at);
        let seconds = |at: Instant| (at - start).as_secs_f64();
        let mut gate = Gate::new(GateSettings {
            longest_close: Duration::from_secs(60),
            probe_base: Duration::from_secs(1),
            probe_max: Duration::from_secs(5),
            max_wait: Duration::from_secs(120),
        });
        let mut limiter = Limiter::new(self.given, start);
        let mut server =
            Server { kind: self.kind, filled: 0.0, at: 0.0, window: 0, let_through: VecDeque::new() };
        let mut random = Random(self.seed);
        let mut queue = Queue::default();
        let mut seen = Seen { by_second: vec![0.0; self.seconds as usize + 1], ..Seen::default() };
        let (mut in_flight, mut refusals) = (0_usize, 0_u64);
        let mut next_size = None;
        let mut wake = 0.0;
        queue.push(0.0, Event::Wake);
        while let Some((at, event)) = queue.pop() {
            if at > self.seconds {
                break;
            }
            let now = instant(at);
            match event {
                // Another one was set for earlier since.
                Event::Wake if (at - wake).abs() > 1e-6 => continue,
                Event::Wake => wake = f64::INFINITY,
                Event::Arrives(charge, tokens) => {
                    let limit = self.limit(at);
                    let amount = if self.tokens { tokens as f64 } else { 1.0 };
                    let stray = random.next() < self.stray;
                    let admitted = if stray { Err(1.0) } else { server.admit(amount, limit, at) };
                    let told = (self.told == Told::Headers).then(|| {
                        let limits = RateLimit {
                            limit: Some(limit as u64),
                            remaining: Some(server.remaining(limit) as u64),
                            reset: Some(Duration::from_secs_f64(
                                (1.0 - server.remaining(limit) / limit) * 60.0,
                            )),
                        };
                        let mut told = RateLimits { exhausted: limits.exhausted(), ..RateLimits::default() };
                        *(if self.tokens { &mut told.tokens } else { &mut told.requests }) = limits;
                        told
                    });
                    let network = random.between(0.0005, 0.005);
                    match admitted {
                        Ok(()) => {
                            seen.accepted += amount;
                            seen.by_second[at as usize] += amount;
                            let latency = self.latency * random.between(0.8, 1.2);
                            queue.push(at + latency + network, Event::Answer(charge, tokens, told));
                        }
                        Err(wait) => {
                            refusals += 1;
                            let after = match self.told {
                                Told::Nothing => None,
                                Told::RetryAfter => Some(Duration::from_secs_f64(wait.ceil())),
                                Told::Headers => Some(Duration::from_secs_f64(wait)),
                            };
                            queue.push(at + network, Event::Refusal(told, after, charge));
                        }
                    }
                }
                Event::Answer(charge, tokens, told) => {
                    in_flight -= 1;
                    let usage = Usage {
                        prompt_tokens: Some(Tokens(tokens - 8)),
                        completion_tokens: Some(Tokens(8)),
                        ..Usage::default()
                    };
                    limiter.answered(charge, &usage, told.as_ref(), now);
                    gate.answered();
                }
                Event::Refusal(told, after, charge) => {
                    limiter.refused(charge, told.as_ref(), after, now);
                    // Refusals that nothing explains are the limiter's: a gate closed by them would hide from it
                    // what the server lets through.
                    gate.refused(
                        after.filter(|_| told.is_some()),
                        told.and_then(|told| told.exhausted),
                        in_flight,
                        now,
                    );
                    in_flight -= 1;
                }
            }
            while in_flight < self.in_flight {
                let tokens = *next_size
                    .get_or_insert_with(|| random.between(self.sizes.0 as f64, self.sizes.1 as f64) as u64);
                // Four bytes a token and an envelope; eight tokens come back.
                let size = Size { prompt_bytes: tokens as usize * 4 + 60, max_completion_tokens: None };
                seen.asked += 1;
                let until = match gate.look(now) {
                    Door::Open => limiter.ready(size, now).err(),
                    Door::ShutUntil(at) => Some(at),
                    door => panic!("{door:?}"),
                };
                if let Some(until) = until {
                    assert!(until > now, "it spins");
                    // Timers count milliseconds and wake late.
                    let late = (seconds(until) * 1e3).ceil() / 1e3 + random.between(0.0, 0.002);
                    if late < wake {
                        wake = late;
                        queue.push(late, Event::Wake);
                    }
                    break;
                }
                gate.pass(now);
                let charge = limiter.sent(size, now);
                (in_flight, seen.sent) = (in_flight + 1, seen.sent + 1);
                next_size = None;
                queue.push(at + random.between(0.0005, 0.005), Event::Arrives(charge, tokens + 8));
            }
        }
        let could: f64 =
            (0..(self.seconds * 10.0) as u64).map(|tenth| self.limit(tenth as f64 / 10.0) / 600.0).sum();
        seen.used = seen.accepted / could;
        seen.refused = refusals as f64 / seen.sent.max(1) as f64;
        seen
    }
}
