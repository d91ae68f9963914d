//! One gate before each endpoint. It closes when the endpoint says that everybody has to wait, and when it cannot be
//! reached: then one row at a time knocks. It keeps no time of its own and never waits; [`super::Admission`] does.

use std::time::Duration;

use tokio::time::Instant;
use tokio_retry::strategy::jitter;

/// Refusals in a row, without an answer in between, that mean the pool and not one row is too fast.
const REPEATED: u32 = 3;

/// After a wait the rows leave one by one over this share of the time waited.
const SPREAD: u32 = 4;

/// The least time over which they leave.
const LEAST_SPREAD: Duration = Duration::from_millis(20);

/// How long the gate may stay closed, and how often it is tried.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// The longest that one refusal closes the gate: a row's own absurd wait is not everybody's.
    pub longest_close: Duration,
    /// The first pause between two probes of an endpoint that is down; it doubles.
    pub probe_base: Duration,
    /// The longest pause between two probes.
    pub probe_max: Duration,
    /// How long an endpoint that is down is waited for.
    pub max_wait: Duration,
}

#[derive(Debug)]
enum State {
    Open,
    /// Nobody leaves before `next`, and until `ends` one after the other.
    Closed {
        next: Instant,
        gap: Duration,
        ends: Instant,
    },
    Down(Down),
}

#[derive(Debug)]
struct Down {
    since: Instant,
    next_probe: Instant,
    pause: Duration,
    probing: bool,
    why: String,
}

/// The gate.
#[derive(Debug)]
pub(super) struct Gate {
    settings: GateSettings,
    state: State,
    refused_in_a_row: u32,
}

/// What somebody finds who wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Go.
    Open,
    /// Go, and say what you found.
    Knock,
    /// Wait until then.
    ShutUntil(Instant),
    /// Somebody knocks: wait for word.
    Shut,
}

impl Gate {
    pub(super) fn new(settings: GateSettings) -> Self {
        Self { settings, state: State::Open, refused_in_a_row: 0 }
    }

    /// Whether somebody may send now.
    pub(super) fn look(&mut self, now: Instant) -> Door {
        match &self.state {
            State::Closed { ends, .. } if now >= *ends => {
                self.state = State::Open;
                Door::Open
            }
            State::Closed { next, .. } if now < *next => Door::ShutUntil(*next),
            State::Open | State::Closed { .. } => Door::Open,
            State::Down(Down { probing: true, .. }) => Door::Shut,
            State::Down(down) if now < down.next_probe => Door::ShutUntil(down.next_probe),
            State::Down(_) => Door::Knock,
        }
    }

    /// Somebody goes through. Returns whether as a probe.
    pub(super) fn pass(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Open => false,
            State::Closed { next, gap, .. } => {
                // Full jitter around the gap, so that several programs that were refused together part.
                *next = now + jitter(*gap * 2);
                false
            }
            State::Down(down) => {
                down.probing = true;
                true
            }
        }
    }

    /// Until when an endpoint that is down is waited for.
    pub(super) fn given_up_at(&self) -> Option<Instant> {
        match &self.state {
            State::Down(down) => Some(down.since + self.settings.max_wait),
            _ => None,
        }
    }

    /// The endpoint refused for pace while so many requests were under way. Returns how long the gate is closed for
    /// everybody, if this closes it.
    pub(super) fn refused(
        &mut self,
        after: Option<Duration>,
        exhausted: Option<Duration>,
        crowd: usize,
        now: Instant,
    ) -> Option<Duration> {
        self.refused_in_a_row += 1;
        let wait = match (exhausted, after) {
            // A reset says when all of a limit is there again, which is long after the next request may go.
            (Some(exhausted), after) => after.unwrap_or(exhausted),
            (None, Some(after)) if self.refused_in_a_row >= REPEATED => after,
            _ => return None,
        };
        let wait = wait.min(self.settings.longest_close);
        let until = now + wait;
        match &self.state {
            State::Closed { next, .. } if *next >= until => None,
            State::Down(_) => None,
            _ => {
                let spread = (wait / SPREAD).max(LEAST_SPREAD);
                let gap = spread / u32::try_from(crowd.max(1)).unwrap_or(u32::MAX);
                self.state = State::Closed { next: until + jitter(gap * 2), gap, ends: until + spread };
                Some(wait)
            }
        }
    }

    /// The endpoint answered a row: pace is fine.
    pub(super) fn answered(&mut self) {
        self.refused_in_a_row = 0;
    }

    /// What was said when the endpoint went down, while it is down.
    pub(super) fn why_down(&self) -> Option<&str> {
        match &self.state {
            State::Down(down) => Some(&down.why),
            _ => None,
        }
    }

    /// The endpoint said something, be it a refusal. Returns whether it had been down. What was sent before it went
    /// down says nothing about it.
    pub(super) fn reached(&mut self, probe: bool) -> bool {
        let was_down = probe && matches!(self.state, State::Down(_));
        if was_down {
            self.state = State::Open;
        }
        was_down
    }

    /// Somebody took the request and did not answer, as a proxy does whose server is down: no sign that it is up.
    pub(super) fn unanswered(&mut self, probe: bool, now: Instant) {
        if let State::Down(down) = &mut self.state
            && probe
        {
            down.knock_later(&self.settings, now);
        }
    }

    /// The endpoint could not be reached. Returns whether this is news.
    pub(super) fn down(&mut self, probe: bool, why: &str, now: Instant) -> bool {
        if matches!(self.state, State::Down(_)) {
            // Rows that were already on their way when it went down say nothing new.
            self.unanswered(probe, now);
            return false;
        }
        let pause = self.settings.probe_base;
        self.state = State::Down(Down {
            since: now,
            next_probe: now + pause,
            pause,
            probing: false,
            why: why.to_owned(),
        });
        true
    }

    /// Whoever knocked has gone: another one may.
    pub(super) fn left(&mut self, probe: bool) {
        if let State::Down(down) = &mut self.state
            && probe
        {
            down.probing = false;
        }
    }
}

impl Down {
    /// The one who knocked found nobody: the next one waits longer.
    fn knock_later(&mut self, settings: &GateSettings, now: Instant) {
        self.pause = (self.pause * 2).min(settings.probe_max);
        self.next_probe = now + self.pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(GateSettings {
            longest_close: Duration::from_secs(60),
            probe_base: Duration::from_secs(1),
            probe_max: Duration::from_secs(5),
            max_wait: Duration::from_secs(120),
        })
    }

    /// When rows that press on leave, one after the other, in seconds.
    fn leaving(gate: &mut Gate, rows: usize, start: Instant) -> Vec<f64> {
        let mut now = start;
        let mut left = Vec::new();
        while left.len() < rows {
            match gate.look(now) {
                Door::Open => {
                    assert!(!gate.pass(now));
                    left.push((now - start).as_secs_f64());
                }
                Door::ShutUntil(at) => now = at,
                door => panic!("{door:?}"),
            }
        }
        left
    }

    #[test]
    fn an_explained_refusal_closes_the_gate_and_the_rows_leave_one_by_one() {
        let (mut gate, now) = (gate(), Instant::now());
        let wait = Duration::from_secs(8);
        assert_eq!(gate.refused(None, Some(wait), 100, now), Some(wait));
        assert!(matches!(gate.look(now), Door::ShutUntil(_)));
        let left = leaving(&mut gate, 100, now);
        assert!(left[0] >= 8.0 && left[0] < 8.1, "{}", left[0]);
        assert!(left[99] > 9.0 && left[99] <= 10.05, "{}", left[99]);
        assert!(left[50] > 8.5, "{}", left[50]);
    }

    #[test]
    fn what_the_server_asks_for_counts_more_than_when_all_of_its_limit_is_back() {
        let (mut gate, now) = (gate(), Instant::now());
        let (after, reset) = (Duration::from_millis(100), Duration::from_secs(30));
        assert_eq!(gate.refused(Some(after), Some(reset), 1, now), Some(after));
    }

    #[test]
    fn one_unexplained_refusal_closes_nothing_but_repeated_ones_do() {
        let (mut gate, now) = (gate(), Instant::now());
        let after = Some(Duration::from_secs(7200));
        assert_eq!(gate.refused(after, None, 1, now), None);
        gate.answered();
        assert_eq!(gate.refused(after, None, 1, now), None);
        assert_eq!(gate.refused(after, None, 1, now), None);
        assert_eq!(gate.refused(after, None, 1, now), Some(Duration::from_secs(60)));
    }

    #[test]
    fn an_endpoint_that_is_down_is_probed_by_one_row_at_a_time() {
        let (mut gate, start) = (gate(), Instant::now());
        assert!(gate.down(false, "refused", start) && !gate.down(false, "refused", start));
        assert!(!gate.reached(false), "it was sent before");
        let mut now = start;
        let mut knocks = Vec::new();
        while knocks.len() < 7 {
            match gate.look(now) {
                Door::Knock => {
                    assert!(gate.pass(now));
                    assert_eq!(gate.look(now), Door::Shut, "one at a time");
                    knocks.push((now - start).as_secs());
                    if knocks.len() < 4 {
                        assert!(!gate.down(true, "refused", now));
                    } else {
                        gate.unanswered(true, now);
                    }
                    gate.left(true);
                }
                Door::ShutUntil(at) => now = at,
                door => panic!("{door:?}"),
            }
        }
        assert_eq!(knocks, [1, 3, 7, 12, 17, 22, 27]);
        assert_eq!(gate.given_up_at(), Some(start + Duration::from_secs(120)));
        assert!(gate.reached(true));
        assert_eq!(gate.look(now), Door::Open);
    }
}
