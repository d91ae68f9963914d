//! Servers for the tests, as discrete events: simulated seconds, no clock, the same in every run.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::{Concurrency, Sample};

/// Xorshift (Marsaglia 2003).
pub struct Random(pub u64);

impl Random {
    /// From 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "32 bits")]
    pub fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as f64 / (1_u64 << 32) as f64
    }
}

/// A time in seconds, ordered.
#[derive(Clone, Copy, Debug)]
pub struct At(pub f64);

impl PartialEq for At {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What is asked of a server: a number and how much work it is.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub id: usize,
    pub work: f64,
}

pub trait Server {
    /// Takes a request, or refuses it (503).
    fn arrive(&mut self, now: f64, job: Job) -> bool;
    /// The next answer, and when.
    fn next(&mut self) -> Option<(f64, usize)>;
    /// Takes that answer out.
    fn pop(&mut self);
}

/// Slots and a line before them. A job takes its work as seconds, times `slow` of the time when it begins.
pub struct Slots<S, W> {
    /// How many slots there are at a time.
    pub slots: S,
    pub slow: W,
    /// More at once are refused.
    pub refuses: fn(f64) -> usize,
    pub busy: BinaryHeap<(Reverse<At>, usize)>,
    pub line: VecDeque<Job>,
}

impl<S: Fn(f64) -> usize, W: Fn(f64) -> f64> Slots<S, W> {
    pub fn new(slots: S, slow: W) -> Self {
        Self { slots, slow, refuses: |_| usize::MAX, busy: BinaryHeap::new(), line: VecDeque::new() }
    }

    fn fill(&mut self, now: f64) {
        while self.busy.len() < (self.slots)(now)
            && let Some(job) = self.line.pop_front()
        {
            self.busy.push((Reverse(At(now + job.work * (self.slow)(now))), job.id));
        }
    }
}

impl<S: Fn(f64) -> usize, W: Fn(f64) -> f64> Server for Slots<S, W> {
    fn arrive(&mut self, now: f64, job: Job) -> bool {
        if self.busy.len() + self.line.len() >= (self.refuses)(now) {
            return false;
        }
        self.line.push_back(job);
        self.fill(now);
        true
    }

    fn next(&mut self) -> Option<(f64, usize)> {
        self.busy.peek().map(|(Reverse(At(at)), id)| (*at, *id))
    }

    fn pop(&mut self) {
        if let Some((Reverse(At(now)), _)) = self.busy.pop() {
            self.fill(now);
        }
    }
}

/// Continuous batching: all in the batch advance together, the slower the more there are beyond the knee; what does not
/// fit waits in line.
pub struct Batch {
    pub knee: f64,
    /// How many beyond the knee double the time of a token.
    pub doubles: f64,
    pub largest: usize,
    pub now: f64,
    /// Seconds of work that everyone in the batch was given so far.
    pub done: f64,
    pub running: BinaryHeap<(Reverse<At>, usize)>,
    pub line: VecDeque<Job>,
}

impl Batch {
    pub fn new(knee: f64, doubles: f64, largest: usize) -> Self {
        let (running, line) = (BinaryHeap::new(), VecDeque::new());
        Self { knee, doubles, largest, now: 0.0, done: 0.0, running, line }
    }

    #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
    fn slowness(&self) -> f64 {
        1.0 + (self.running.len() as f64 - self.knee).max(0.0) / self.doubles
    }

    fn advance(&mut self, now: f64) {
        self.done += (now - self.now) / self.slowness();
        self.now = now;
    }

    fn fill(&mut self) {
        while self.running.len() < self.largest
            && let Some(job) = self.line.pop_front()
        {
            self.running.push((Reverse(At(self.done + job.work)), job.id));
        }
    }
}

impl Server for Batch {
    fn arrive(&mut self, now: f64, job: Job) -> bool {
        self.advance(now);
        self.line.push_back(job);
        self.fill();
        true
    }

    fn next(&mut self) -> Option<(f64, usize)> {
        let (Reverse(At(at)), id) = self.running.peek()?;
        Some((self.now + (at - self.done).max(0.0) * self.slowness(), *id))
    }

    fn pop(&mut self) {
        if let Some((now, _)) = self.next() {
            self.advance(now);
            self.running.pop();
            self.fill();
        }
    }
}

/// The rows of a job: how long each answer is, and what a token takes.
#[derive(Clone, Copy)]
pub struct Rows {
    pub count: usize,
    pub seed: u64,
    /// The shortest and longest answer in tokens, spread evenly by their logarithm.
    pub tokens: (f64, f64),
    /// Seconds before the first token.
    pub first: f64,
    pub per_token: f64,
    /// Whether the server says how many tokens it was.
    pub counted: bool,
    /// The most rows in flight that there are at a time.
    pub offered: fn(f64) -> usize,
}

impl Rows {
    fn jobs(&self) -> Vec<(u64, f64)> {
        let mut random = Random(self.seed | 1);
        let (least, most) = self.tokens;
        let draw = |_| {
            let tokens = (least * (most / least).powf(random.share())).round();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            (tokens as u64, self.first + tokens * self.per_token)
        };
        (0..self.count).map(draw).collect()
    }
}

/// What came of a run.
pub struct Run {
    /// Each answer: when, after how long, its work in seconds, and the limit then.
    pub answers: Vec<(f64, f64, f64, usize)>,
    pub refused: usize,
    /// When the last one was there.
    pub took: f64,
}

impl Run {
    /// Work done a second and mean latency, of answers between two times.
    #[expect(clippy::cast_precision_loss, reason = "a count of answers")]
    pub fn between(&self, from: f64, to: f64) -> (f64, f64) {
        let within: Vec<_> = self.answers.iter().filter(|(at, ..)| *at >= from && *at < to).collect();
        let work: f64 = within.iter().map(|(_, _, work, _)| work).sum();
        let latency: f64 = within.iter().map(|(_, latency, ..)| latency).sum();
        (work / (to - from), latency / (within.len().max(1) as f64))
    }

    /// The limit at a time.
    pub fn limit_at(&self, time: f64) -> usize {
        let at = self.answers.partition_point(|(at, ..)| *at < time).min(self.answers.len() - 1);
        self.answers[at].3
    }

    /// The smallest and the largest limit between two times.
    pub fn limits(&self, from: f64, to: f64) -> (usize, usize) {
        let limits = || self.answers.iter().filter(|(at, ..)| *at >= from && *at < to).map(|answer| answer.3);
        (limits().min().unwrap_or(0), limits().max().unwrap_or(0))
    }
}

/// Sends the rows, as many at once as the limit says.
pub fn run(mut server: impl Server, rows: &Rows, mut concurrency: Concurrency) -> Run {
    let jobs = rows.jobs();
    let start = Instant::now();
    let clock = |now: f64| start + Duration::from_secs_f64(now);
    let mut random = Random(rows.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut sent = vec![(0.0_f64, 0_usize); jobs.len()];
    // Rows that wait for their next attempt.
    let mut again: BinaryHeap<(Reverse<At>, usize)> = BinaryHeap::new();
    let (mut fresh, mut in_flight, mut now) = (0, 0, 0.0_f64);
    let mut run = Run { answers: Vec::with_capacity(jobs.len()), refused: 0, took: 0.0 };
    loop {
        while in_flight < concurrency.limit().min((rows.offered)(now)) {
            let id = match again.peek() {
                Some((Reverse(At(at)), id)) if *at <= now => {
                    let id = *id;
                    again.pop();
                    id
                }
                _ if fresh < jobs.len() => {
                    fresh += 1;
                    fresh - 1
                }
                _ => break,
            };
            sent[id] = (now, in_flight + 1);
            if server.arrive(now, Job { id, work: jobs[id].1 }) {
                in_flight += 1;
            } else {
                run.refused += 1;
                concurrency.overloaded(clock(now), clock(now));
                again.push((Reverse(At(now + 0.1 + random.share())), id));
            }
        }
        let retry = again.peek().map(|(Reverse(At(at)), _)| *at).filter(|at| *at > now);
        let Some((at, id)) = server.next() else {
            match retry {
                Some(at) => now = at,
                None => break,
            }
            continue;
        };
        if let Some(retry) = retry
            && retry < at
            && in_flight < concurrency.limit()
        {
            now = retry;
            continue;
        }
        now = at.max(now);
        server.pop();
        in_flight -= 1;
        let (at_first, crowd) = sent[id];
        let (tokens, work) = jobs[id];
        let sample = Sample {
            sent: clock(at_first),
            latency: Duration::from_secs_f64(now - at_first),
            completion_tokens: rows.counted.then_some(tokens),
            in_flight: crowd,
        };
        concurrency.answered(sample, clock(now));
        run.answers.push((now, now - at_first, work, concurrency.limit()));
    }
    run.took = now;
    run
}
