//! One gate for the whole pool. It closes when the endpoint says that everybody has to wait, and when it cannot be
//! reached: then one row at a time knocks, and the others wait for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_retry::strategy::jitter;

/// Refusals in a row, without an answer in between, that mean the pool and not one row is too fast.
const REPEATED: u32 = 3;

/// After a wait the rows leave one by one over this share of the time waited.
const SPREAD: u32 = 4;

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
    Closed { until: Instant, spread: Duration },
    Down { since: Instant, next_probe: Instant, pause: Duration, probing: bool, why: String },
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    state: Mutex<State>,
    refused_in_a_row: Mutex<u32>,
    changed: Notify,
}

/// Leave to send. The one who knocks gives word of what it found; dropped without a word, another one knocks.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    probe: bool,
}

/// The endpoint has been down for longer than it may be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new(settings: GateSettings) -> Self {
        Self {
            settings,
            state: Mutex::new(State::Open),
            refused_in_a_row: Mutex::new(0),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to send right now, if there is nothing to wait for.
    #[must_use]
    pub fn try_pass(&self) -> Option<Pass<'_>> {
        matches!(*self.state(), State::Open).then_some(Pass { gate: self, probe: false })
    }

    /// Waits until the row may send.
    ///
    /// # Errors
    /// The endpoint has been down for too long.
    pub async fn pass(&self) -> Result<Pass<'_>, TooLong> {
        let lot = rand_share();
        loop {
            let changed = self.changed.notified();
            let wake = {
                let mut state = self.state();
                let now = Instant::now();
                match &mut *state {
                    State::Open => return Ok(Pass { gate: self, probe: false }),
                    State::Closed { until, spread } => {
                        if now >= *until + *spread {
                            *state = State::Open;
                            continue;
                        }
                        let mine = *until + spread.mul_f64(lot);
                        if now >= mine {
                            return Ok(Pass { gate: self, probe: false });
                        }
                        mine
                    }
                    State::Down { since, .. } if now >= *since + self.settings.max_wait => {
                        return Err(TooLong);
                    }
                    State::Down { since, next_probe, probing, .. } => {
                        if !*probing && now >= *next_probe {
                            *probing = true;
                            return Ok(Pass { gate: self, probe: true });
                        }
                        let end = *since + self.settings.max_wait;
                        if *probing { end } else { (*next_probe).min(end) }
                    }
                }
            };
            // Whichever comes first: the time, or word that the state has changed.
            let _ = timeout_at(wake, changed).await;
        }
    }

    /// The endpoint refused for pace. Returns how long the gate is closed for everybody, if this closes it.
    pub fn refused(&self, after: Option<Duration>, exhausted: Option<Duration>) -> Option<Duration> {
        let repeated = {
            let mut count = self.refused_in_a_row.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            *count >= REPEATED
        };
        let wait = match (exhausted, after) {
            (Some(exhausted), after) => exhausted.max(after.unwrap_or_default()),
            (None, Some(after)) if repeated => after,
            _ => return None,
        };
        let wait = wait.min(self.settings.longest_close);
        let until = Instant::now() + wait;
        let mut state = self.state();
        match &*state {
            State::Closed { until: known, .. } if *known >= until => None,
            State::Down { .. } => None,
            _ => {
                *state = State::Closed { until, spread: (wait / SPREAD).max(Duration::from_millis(20)) };
                Some(wait)
            }
        }
    }

    /// The endpoint answered a row: pace is fine.
    pub fn answered(&self) {
        *self.refused_in_a_row.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    /// What was said when the endpoint went down, while it is down.
    #[must_use]
    pub fn why_down(&self) -> Option<String> {
        match &*self.state() {
            State::Down { why, .. } => Some(why.clone()),
            _ => None,
        }
    }
}

impl State {
    /// The one who knocked found nobody: the next one waits longer.
    fn knock_later(&mut self, probe: bool, settings: &GateSettings, now: Instant) {
        if let Self::Down { next_probe, pause, .. } = self
            && probe
        {
            *pause = (*pause * 2).min(settings.probe_max);
            *next_probe = now + *pause;
        }
    }
}

impl Pass<'_> {
    /// Somebody took the request and did not answer, as a proxy does whose server is down: no sign that it is up.
    pub fn unanswered(&self) {
        self.gate.state().knock_later(self.probe, &self.gate.settings, Instant::now());
    }

    /// The endpoint said something, be it a refusal. Returns whether it had been down. What was sent before it went
    /// down says nothing about it.
    #[must_use]
    pub fn reached(&self) -> bool {
        let mut state = self.gate.state();
        let was_down = self.probe && matches!(*state, State::Down { .. });
        if was_down {
            *state = State::Open;
            drop(state);
            self.gate.changed.notify_waiters();
        }
        was_down
    }

    /// The endpoint could not be reached. Returns whether this is news.
    #[must_use]
    pub fn down(&self, why: &str) -> bool {
        let now = Instant::now();
        let settings = &self.gate.settings;
        let mut state = self.gate.state();
        let news = match &mut *state {
            // Rows that were already on their way when it went down say nothing new.
            State::Down { .. } => {
                state.knock_later(self.probe, settings, now);
                false
            }
            state => {
                let pause = settings.probe_base;
                *state = State::Down {
                    since: now,
                    next_probe: now + pause,
                    pause,
                    probing: false,
                    why: why.to_owned(),
                };
                true
            }
        };
        drop(state);
        self.gate.changed.notify_waiters();
        news
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.probe {
            return;
        }
        if let State::Down { probing, .. } = &mut *self.gate.state() {
            // Another one may knock.
            *probing = false;
        }
        self.gate.changed.notify_waiters();
    }
}

/// A number from 0 to 1, by lot.
fn rand_share() -> f64 {
    jitter(Duration::from_secs(1)).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn gate() -> Arc<Gate> {
        Arc::new(Gate::new(GateSettings {
            longest_close: Duration::from_secs(60),
            probe_base: Duration::from_secs(1),
            probe_max: Duration::from_secs(5),
            max_wait: Duration::from_secs(120),
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn an_explained_refusal_closes_the_gate_and_the_rows_leave_one_by_one() {
        let gate = gate();
        assert_eq!(gate.refused(None, Some(Duration::from_secs(8))), Some(Duration::from_secs(8)));
        assert!(gate.try_pass().is_none());
        let start = Instant::now();
        let mut rows = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let gate = gate.clone();
            rows.spawn(async move {
                gate.pass().await.unwrap();
                start.elapsed()
            });
        }
        let left = rows.join_all().await;
        let (first, last) = (left.iter().min().unwrap(), left.iter().max().unwrap());
        assert!(*first >= Duration::from_secs(8));
        assert!(
            *last > *first + Duration::from_secs(1) && *last <= Duration::from_millis(10_010),
            "{last:?}"
        );
    }

    #[tokio::test]
    async fn one_unexplained_refusal_closes_nothing_but_repeated_ones_do() {
        let gate = gate();
        let after = Some(Duration::from_secs(7200));
        assert_eq!(gate.refused(after, None), None);
        gate.answered();
        assert_eq!(gate.refused(after, None), None);
        assert_eq!(gate.refused(after, None), None);
        assert_eq!(gate.refused(after, None), Some(Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_down_is_probed_by_one_row_at_a_time() {
        let gate = gate();
        let (first, second) = (gate.try_pass().unwrap(), gate.try_pass().unwrap());
        assert!(first.down("refused") && !second.down("refused"));
        assert!(!second.reached(), "it was sent before");
        let probes = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        let mut rows = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (gate, probes) = (gate.clone(), probes.clone());
            rows.spawn(async move {
                loop {
                    let pass = gate.pass().await.unwrap();
                    if start.elapsed() >= Duration::from_secs(30) {
                        let _ = pass.reached();
                        return;
                    }
                    probes.lock().unwrap().push(start.elapsed().as_secs());
                    if start.elapsed() < Duration::from_secs(10) {
                        assert!(!pass.down("refused"));
                    } else {
                        pass.unanswered();
                    }
                }
            });
        }
        rows.join_all().await;
        assert_eq!(*probes.lock().unwrap(), [1, 3, 7, 12, 17, 22, 27]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_stays_down_is_given_up() {
        let gate = gate();
        assert!(gate.try_pass().unwrap().down("refused"));
        let start = Instant::now();
        let knock = async {
            while let Ok(pass) = gate.pass().await {
                assert!(!pass.down("refused"));
            }
        };
        knock.await;
        assert_eq!(start.elapsed().as_secs(), 120);
    }
}
