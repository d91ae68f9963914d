//! Leave to send. Rows wait in one line for all endpoints, first come, first served, so that a large request is not
//! starved by small ones; the first in line goes to the emptiest endpoint that takes it. It never sends anything.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::gate::GateSettings;
use super::gauge::Gauge;
use super::lane::{Copy, Entered, Lane, LaneSettings, News, Room};
use super::limits::Size;
use crate::domain::{Attempt, EndpointFigures};

/// How many rows beyond those in flight may at least wait for their next attempt.
const LEAST_WAITING_ROWS: usize = 64;

/// Everything about pace that is decided before the run.
#[derive(Clone, Debug)]
pub struct AdmissionSettings {
    /// The endpoints.
    pub lanes: Vec<LaneSettings>,
    /// The most requests in flight over all of them.
    pub most: usize,
    /// The gate before each of them.
    pub gate: GateSettings,
}

/// The line and the endpoints.
#[derive(Debug)]
pub struct Admission {
    state: Mutex<State>,
    /// Held by the first in line. It is fair: whoever waits longer comes first.
    line: tokio::sync::Mutex<()>,
    /// Wakes the first in line.
    changed: Notify,
    gauge: Arc<Gauge>,
}

#[derive(Debug)]
struct State {
    lanes: Vec<Lane>,
    in_flight: usize,
    most: usize,
    max_wait: Duration,
}

/// Why a row cannot be sent, however patient it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// Every endpoint has been down for longer than it may be waited for.
    Down,
    /// The requests of the day are used up, and the next may go after this long, which is longer than may be waited.
    DayUsedUp(Duration),
}

/// Leave to send one request to one endpoint. It counts as in flight until this is dropped.
#[derive(Debug)]
pub struct Leave {
    admission: Arc<Admission>,
    lane: usize,
    entered: Entered,
    ended: bool,
}

enum Found {
    Lane(usize),
    Wait(Option<Instant>),
    NoWay(NoWay),
}

impl Admission {
    /// Nothing is in flight yet.
    #[must_use]
    pub fn new(settings: AdmissionSettings, gauge: Arc<Gauge>) -> Arc<Self> {
        let now = Instant::now();
        let lanes =
            settings.lanes.into_iter().map(|lane| Lane::new(lane, settings.gate.clone(), now)).collect();
        let state = State { lanes, in_flight: 0, most: settings.most, max_wait: settings.gate.max_wait };
        gauge.set(0, state.limit());
        Arc::new(Self {
            state: Mutex::new(state),
            line: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            gauge,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in line until a request of this size may go. A row that failed at an endpoint would rather go elsewhere.
    ///
    /// # Errors
    /// Every endpoint has been down for too long, or has had all its requests of the day.
    pub async fn enter(self: &Arc<Self>, size: Size, rather_not: Option<usize>) -> Result<Leave, NoWay> {
        let _first = self.line.lock().await;
        loop {
            let wake = {
                let mut state = self.state();
                let now = Instant::now();
                match state.find(size, Copy::First, rather_not, now) {
                    Found::Lane(lane) => return Ok(self.leave(&mut state, lane, size, now)),
                    Found::NoWay(why) => return Err(why),
                    Found::Wait(wake) => wake,
                }
            };
            // A change in between is not lost: it is kept for the next who waits.
            let changed = self.changed.notified();
            match wake {
                Some(wake) => drop(timeout_at(wake, changed).await),
                None => changed.await,
            }
        }
    }

    /// Leave to send at once, past the line, for a second copy of a request. There is some room for these beside that
    /// for rows.
    #[must_use]
    pub fn try_enter(self: &Arc<Self>, size: Size, rather_not: Option<usize>) -> Option<Leave> {
        let mut state = self.state();
        let now = Instant::now();
        match state.find(size, Copy::Second, rather_not, now) {
            Found::Lane(lane) => Some(self.leave(&mut state, lane, size, now)),
            Found::Wait(_) | Found::NoWay(_) => None,
        }
    }

    fn leave(self: &Arc<Self>, state: &mut State, lane: usize, size: Size, now: Instant) -> Leave {
        let entered = state.lanes[lane].enter(size, now);
        state.in_flight += 1;
        self.gauge.set(state.in_flight, state.limit());
        Leave { admission: self.clone(), lane, entered, ended: false }
    }

    /// There is room for others.
    fn ended(&self, state: MutexGuard<'_, State>) {
        self.gauge.set(state.in_flight, state.limit());
        drop(state);
        self.changed.notify_one();
    }

    /// How many rows may be under way: in flight, or waiting for their next attempt, so that rows that wait do not
    /// idle the endpoint.
    #[must_use]
    pub fn rows_at_once(&self) -> usize {
        let limit = self.gauge.limit();
        limit + limit.max(LEAST_WAITING_ROWS)
    }

    /// How the endpoints were used so far.
    #[must_use]
    pub fn figures(&self) -> Vec<EndpointFigures> {
        self.state().lanes.iter().map(Lane::figures).collect()
    }

    /// What was said when an endpoint went down that still is.
    #[must_use]
    pub fn why_down(&self) -> Option<String> {
        self.state().lanes.iter().find_map(Lane::why_down).map(str::to_owned)
    }
}

impl State {
    fn limit(&self) -> usize {
        self.lanes.iter().map(Lane::limit).sum::<usize>().min(self.most)
    }

    fn find(&mut self, size: Size, copy: Copy, rather_not: Option<usize>, now: Instant) -> Found {
        let given_up = |lane: &Lane| lane.given_up_at().is_some_and(|at| at <= now);
        if self.lanes.iter().all(given_up) {
            return Found::NoWay(NoWay::Down);
        }
        if let Some(wait) = self.day_used_up(now) {
            return Found::NoWay(NoWay::DayUsedUp(wait));
        }
        if self.in_flight >= copy.most(self.most) {
            return Found::Wait(None);
        }
        let mut best: Option<(bool, f64, usize)> = None;
        let mut wake: Option<Instant> = None;
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            match lane.room(size, copy, now) {
                Room::Now => {
                    let candidate = (rather_not == Some(at), lane.load(), at);
                    if best.is_none_or(|best| candidate < best) {
                        best = Some(candidate);
                    }
                }
                Room::At(at) => wake = Some(wake.map_or(at, |wake| wake.min(at))),
                Room::Later => {}
            }
        }
        match best {
            Some((_, _, lane)) => Found::Lane(lane),
            None => Found::Wait(wake.into_iter().chain(self.all_given_up_at()).min()),
        }
    }

    /// How long until an endpoint's day begins anew, if all have had their requests of the day and this is too long.
    fn day_used_up(&mut self, now: Instant) -> Option<Duration> {
        let used_up = self.lanes.iter_mut().map(|lane| lane.used_up_until(now));
        let wait = used_up.collect::<Option<Vec<_>>>()?.into_iter().min()? - now;
        (wait > self.max_wait).then_some(wait)
    }

    /// When the last endpoint is given up, if all are down.
    fn all_given_up_at(&self) -> Option<Instant> {
        self.lanes.iter().map(Lane::given_up_at).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

impl Leave {
    /// Which endpoint it is for, counted from 0.
    #[must_use]
    pub fn lane(&self) -> usize {
        self.lane
    }

    /// Takes in what came of the attempt. What is to be told to others is returned.
    #[must_use]
    pub fn heard(&mut self, attempt: &Attempt) -> News {
        let mut state = self.admission.state();
        let alone = state.lanes.len() == 1;
        let news = state.lanes[self.lane].heard(attempt, &mut self.entered, alone, Instant::now());
        drop(state);
        if news != News::default() {
            self.admission.changed.notify_one();
        }
        news
    }
}

impl Leave {
    /// Ends several that were given by one admission, with one wake-up.
    pub fn end_all(leaves: impl IntoIterator<Item = Self>) {
        let mut leaves = leaves.into_iter();
        let Some(mut first) = leaves.next() else { return };
        let admission = first.admission.clone();
        let mut state = admission.state();
        first.end(&mut state);
        leaves.for_each(|mut leave| leave.end(&mut state));
        admission.ended(state);
    }

    fn end(&mut self, state: &mut State) {
        state.lanes[self.lane].leave(&mut self.entered, Instant::now());
        state.in_flight -= 1;
        self.ended = true;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if !self.ended {
            let admission = self.admission.clone();
            let mut state = admission.state();
            self.end(&mut state);
            admission.ended(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::lane::InFlight;
    use super::super::limits::GivenLimits;
    use crate::domain::{Advice, AttemptFailure, Failure, FailureKind, Usage};

    fn admission(lanes: &[(usize, u32)], most: usize) -> Arc<Admission> {
        let lane = |&(concurrency, weight): &(usize, u32)| LaneSettings {
            base_url: "a".into(),
            concurrency: InFlight::Fixed(concurrency),
            weight,
            limits: GivenLimits::default(),
        };
        let lanes = lanes.iter().map(lane).collect();
        let gate = GateSettings {
            longest_close: Duration::from_secs(60),
            probe_base: Duration::from_secs(1),
            probe_max: Duration::from_secs(5),
            max_wait: Duration::from_secs(120),
        };
        Admission::new(AdmissionSettings { lanes, most, gate }, Arc::default())
    }

    fn failed(kind: FailureKind, advice: Advice) -> Attempt {
        let failure = Failure::new(kind, "no".to_owned());
        Attempt {
            result: Err(AttemptFailure { failure, usage: Usage::default(), advice }),
            status: None,
            reached: false,
            latency: Duration::ZERO,
            limits: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rows_go_to_the_emptiest_endpoint_by_weight_and_no_more_than_may() {
        let admission = admission(&[(100, 1), (100, 3)], 8);
        let mut leaves = Vec::new();
        for _ in 0..8 {
            leaves.push(admission.enter(Size::default(), None).await.unwrap());
        }
        let second = leaves.iter().filter(|leave| leave.lane() == 1).count();
        assert_eq!(second, 6);
        let next = tokio::time::timeout(Duration::from_secs(1), admission.enter(Size::default(), None)).await;
        assert!(next.is_err(), "eight are in flight");
        leaves.pop();
        assert!(admission.enter(Size::default(), None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_failed_goes_elsewhere_if_it_can() {
        let admission = admission(&[(2, 1), (2, 1)], 4);
        let elsewhere = [
            admission.enter(Size::default(), Some(0)).await.unwrap(),
            admission.enter(Size::default(), Some(0)).await.unwrap(),
        ];
        assert!(elsewhere.iter().all(|leave| leave.lane() == 1));
        assert_eq!(
            admission.enter(Size::default(), Some(0)).await.unwrap().lane(),
            0,
            "nothing else is free"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_endpoint_of_two_that_is_down_gets_a_probe_at_a_time() {
        let admission = admission(&[(4, 1), (4, 1)], 8);
        let mut dead = admission.enter(Size::default(), Some(1)).await.unwrap();
        assert!(dead.heard(&failed(FailureKind::Connection, Advice::Down)).down);
        drop(dead);
        for _ in 0..3 {
            let others = [
                admission.enter(Size::default(), None).await.unwrap(),
                admission.enter(Size::default(), None).await.unwrap(),
            ];
            assert!(others.iter().all(|leave| leave.lane() == 1));
        }
        tokio::time::advance(Duration::from_millis(1001)).await;
        let probe = admission.enter(Size::default(), None).await.unwrap();
        assert_eq!((probe.lane(), admission.enter(Size::default(), None).await.unwrap().lane()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_among_others_that_only_fails_is_left_alone() {
        let admission = admission(&[(4, 1), (4, 1)], 8);
        let mut leave = admission.enter(Size::default(), Some(1)).await.unwrap();
        let broken = failed(FailureKind::Server, Advice::Retry { after: None });
        let news: Vec<bool> = (0..5).map(|_| leave.heard(&broken).down).collect();
        assert_eq!(news, [false, false, false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_stays_down_is_given_up() {
        let admission = admission(&[(4, 1)], 4);
        let start = Instant::now();
        assert!(
            admission
                .enter(Size::default(), None)
                .await
                .unwrap()
                .heard(&failed(FailureKind::Connection, Advice::Down))
                .down
        );
        while let Ok(mut probe) = admission.enter(Size::default(), None).await {
            assert!(!probe.heard(&failed(FailureKind::Connection, Advice::Down)).down);
        }
        assert_eq!(start.elapsed().as_secs(), 120);
        assert_eq!(admission.why_down().as_deref(), Some("no"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_came_first_goes_first() {
        let admission = admission(&[(1, 1)], 1);
        let held = admission.enter(Size::default(), None).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut rows = tokio::task::JoinSet::new();
        for row in 0..20 {
            let (admission, order) = (admission.clone(), order.clone());
            rows.spawn(async move {
                let _leave = admission.enter(Size::default(), None).await.unwrap();
                order.lock().unwrap().push(row);
            });
            tokio::task::yield_now().await;
        }
        drop(held);
        rows.join_all().await;
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }
}
