//! Sends a request, and a second copy of one that takes too long. The first answer counts; what the other one
//! consumed is counted as well. It decides nothing about what comes after.

use std::future::pending;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::calling::Pool;
use crate::domain::{Attempt, Request};
use crate::pace::{Leave, Size};
use crate::provider::Provider;

/// How soon it is looked again whether a second copy may go.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What came of a request.
pub(super) struct Sent {
    pub(super) attempt: Attempt,
    /// The leave that it went with.
    pub(super) leave: Leave,
    /// What came of its other copy, if there was one.
    pub(super) other: Option<Other>,
}

/// What came of the copy that lost.
pub(super) enum Other {
    /// It ended, too.
    Ended(Box<Attempt>),
    /// It was given up: whether the server has worked on it nobody knows.
    GivenUp,
}

impl<P: Provider> Pool<P> {
    /// Sends a request.
    pub(super) async fn send(&self, request: &Request, leave: Leave) -> Sent {
        if self.stragglers.is_on() {
            // On the heap, so that calls that are never sent twice need no room for two.
            return Box::pin(self.send_twice(request, leave)).await;
        }
        let attempt = self.providers[leave.lane()].attempt(request).await;
        Sent { attempt, leave, other: None }
    }

    /// Sends a request, and again if it takes too long.
    async fn send_twice(&self, request: &Request, leave: Leave) -> Sent {
        let lane = leave.lane();
        let mut first = pin!(self.providers[lane].attempt(request));
        let second_leave = tokio::select! {
            biased;
            attempt = &mut first => {
                self.learn(&attempt);
                return Sent { attempt, leave, other: None };
            }
            second = self.second_leave(Size::of(request), lane) => second,
        };
        let mut second = pin!(self.providers[second_leave.lane()].attempt(request));
        let sent = tokio::select! {
            biased;
            attempt = &mut first => self.settle(attempt, leave, second, second_leave).await,
            attempt = &mut second => self.settle(attempt, second_leave, first, leave).await,
        };
        self.learn(&sent.attempt);
        sent
    }

    fn learn(&self, attempt: &Attempt) {
        if attempt.result.is_ok() {
            self.stragglers.answered(attempt.latency);
        }
    }

    /// Leave for a second copy, once the first has taken too long; rather at another endpoint.
    async fn second_leave(&self, size: Size, lane: usize) -> Leave {
        let sent = Instant::now();
        loop {
            let left = self.stragglers.too_long().map(|time| time.saturating_sub(sent.elapsed()));
            match left {
                Some(left) if left.is_zero() => {
                    if self.controls.drain.is_cancelled() {
                        return pending().await;
                    }
                    if let Some(leave) = self.admission.try_enter(size, Some(lane)) {
                        return leave;
                    }
                    sleep(LOOK_AGAIN).await;
                }
                Some(left) => sleep(left).await,
                None => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// One copy has ended. If it brought an answer, the other one may end as well for as long as an answer usually
    /// takes, so that what it consumed is known; else the other one is what the row waits for.
    async fn settle<F: Future<Output = Attempt>>(
        &self,
        ended: Attempt,
        mut leave: Leave,
        running: Pin<&mut F>,
        mut running_leave: Leave,
    ) -> Sent {
        if ended.result.is_err() {
            let _ = leave.heard(&ended);
            drop(leave);
            let attempt = running.await;
            return Sent { attempt, leave: running_leave, other: Some(Other::Ended(Box::new(ended))) };
        }
        let grace = self.stragglers.too_long().unwrap_or_default();
        let other = match timeout(grace, running).await {
            Ok(attempt) => {
                let _ = running_leave.heard(&attempt);
                Other::Ended(Box::new(attempt))
            }
            Err(_) => Other::GivenUp,
        };
        Sent { attempt: ended, leave, other: Some(other) }
    }
}
