//! The pool: rows to answers, never more requests at once than allowed. No leave is held while a row waits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::handover::{Receiver, Sender};
use super::hedging::Other;
use super::reading::Work;
use super::recording::Message;
use super::{Controls, FATAL_GRACE, Halt, Job, Stop};
use crate::domain::{
    Advice, Answer, Attempt, Completion, Event, Failure, FailureKind, Notice, Outcome, Spent, StatusCounts,
    Usage,
};
use crate::ledger::Unfinished;
use crate::pace::{Admission, Decision, Leave, News, NoWay, Patience, Size, Stragglers};
use crate::provider::Provider;

/// All that the calls of a run share.
pub(super) struct Pool<P> {
    pub(super) job: Arc<Job>,
    /// One for each endpoint.
    pub(super) providers: Vec<P>,
    pub(super) admission: Arc<Admission>,
    pub(super) stragglers: Stragglers,
    pub(super) controls: Controls,
    pub(super) stop: Stop,
    pub(super) to_recorder: Sender<Message>,
}

impl<P: Provider> Pool<P> {
    /// Answers rows until there are no more or the run has to end.
    pub(super) async fn work(self, mut inbox: Receiver<Work>) {
        let pool = Arc::new(self);
        let mut calls = JoinSet::new();
        let mut drained = pin!(pool.controls.drain.cancelled());
        loop {
            tokio::select! {
                biased;
                () = &mut drained => break,
                more = pool.next(&mut inbox, &mut calls) => if !more { break },
            }
        }
        drop(inbox);
        pool.finish(calls).await;
    }

    /// Starts the next row, as soon as it may be sent: rows are read no sooner than they can go. `false` when there
    /// are no more.
    async fn next(self: &Arc<Self>, inbox: &mut Receiver<Work>, calls: &mut JoinSet<()>) -> bool {
        while let Some(ended) = calls.try_join_next() {
            self.check(ended);
        }
        while calls.len() >= self.admission.rows_at_once() {
            if let Some(ended) = calls.join_next().await {
                self.check(ended);
            }
        }
        let Some(work) = inbox.recv().await else { return false };
        let call = Box::new(Call::new(self.clone(), work));
        let leave = self.admission.enter(call.size(), None).await.map_err(|why| self.ended(why));
        // In a box, because the runtime moves a call several times.
        calls.spawn(Box::pin(call.answer(leave)));
        true
    }

    /// Waits for the calls that are under way.
    async fn finish(&self, mut calls: JoinSet<()>) {
        let fatal = async {
            self.controls.drain.cancelled().await;
            while !self.stop.is_fatal() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            tokio::time::sleep(FATAL_GRACE).await;
        };
        let all = async {
            while let Some(ended) = calls.join_next().await {
                self.check(ended);
            }
        };
        tokio::select! {
            () = all => {}
            () = self.controls.abort.cancelled() => {}
            () = fatal => {}
        }
        // Waits until they are gone: they hold the way to the recorder open.
        calls.shutdown().await;
    }

    fn check(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            self.stop.halt(Halt::Bug("a call failed in a way that it must not".into()));
        }
    }

    /// Leave to send; a row that failed at an endpoint would rather go elsewhere.
    async fn leave(&self, size: Size, rather_not: Option<usize>) -> Result<Leave, Ended> {
        tokio::select! {
            biased;
            () = self.controls.drain.cancelled() => Err(match self.stop.endpoint_down() {
                Some(_) => Ended::EndpointDown,
                None => Ended::Abandoned,
            }),
            granted = self.admission.enter(size, rather_not) => granted.map_err(|why| self.ended(why)),
        }
    }

    fn ended(&self, why: NoWay) -> Ended {
        match why {
            NoWay::Down => Ended::EndpointDown,
            NoWay::DayUsedUp(wait) => {
                self.stop.halt(Halt::DayUsedUp(wait));
                Ended::Abandoned
            }
        }
    }

    /// The name of an endpoint, where there are several.
    fn one_of_several(&self, lane: usize) -> Option<String> {
        let lanes = &self.job.lanes;
        lanes.get(lane).filter(|_| lanes.len() > 1).map(|lane| lane.base_url.clone())
    }

    async fn tell(&self, message: Message) {
        // The recorder outlives every sender; if it is gone, the run is over anyway.
        let _ = self.to_recorder.send(message).await;
    }
}

/// Why a row's call ended without an attempt that decides it.
enum Ended {
    /// The run ends; the row is for the next one.
    Abandoned,
    /// The endpoint stays down.
    EndpointDown,
}

/// What a row does after an attempt.
enum Next {
    /// It is finished.
    Finish(Box<Result<Answer, Failure>>),
    /// It goes again at once and keeps its leave: the attempt never took place.
    Resend,
    /// It goes again after a while.
    Wait(Duration),
}

/// One row on its way to its answer.
struct Call<P> {
    pool: Arc<Pool<P>>,
    work: Work,
    spent: Spent,
    patience: Patience,
    latency: Option<Duration>,
}

impl<P: Provider> Call<P> {
    fn new(pool: Arc<Pool<P>>, work: Work) -> Self {
        let patience = Patience::new(&pool.job.retry);
        Self { pool, work, spent: Spent::default(), patience, latency: None }
    }

    fn size(&self) -> Size {
        Size::of(&self.work.request)
    }

    async fn answer(mut self: Box<Self>, mut leave: Result<Leave, Ended>) {
        let pool = self.pool.clone();
        loop {
            let granted = match leave {
                Ok(granted) => granted,
                Err(Ended::Abandoned) => return,
                Err(Ended::EndpointDown) => return Box::pin(self.endpoint_stays_down()).await,
            };
            let mut sent = pool.send(&self.work.request, granted).await;
            let lane = sent.leave.lane();
            if let Some(other) = sent.other {
                self.count_other(other);
            }
            let next = match self.take_answer(sent.attempt, &mut sent.leave) {
                Ok(answer) => Next::Finish(Box::new(Ok(answer))),
                // In a box: most calls need no room for it.
                Err((attempt, news)) => Box::pin(self.take(*attempt, news, lane)).await,
            };
            let wait = match next {
                Next::Resend => {
                    leave = Ok(sent.leave);
                    continue;
                }
                Next::Finish(result) => return self.finish(*result, Some(sent.leave)).await,
                Next::Wait(wait) => wait,
            };
            drop(sent.leave);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = pool.controls.drain.cancelled() => return,
            }
            leave = pool.leave(self.size(), Some(lane)).await;
        }
    }

    /// Accounts for the copy of a request that lost the race; what it consumed was wasted.
    fn count_other(&mut self, other: Other) {
        let (status, usage) = match other {
            Other::GivenUp => (None, Usage::default()),
            Other::Ended(attempt) if !attempt.reached => return,
            Other::Ended(attempt) => {
                let usage = match attempt.result {
                    Ok(answer) => answer.usage,
                    Err(failed) => failed.usage,
                };
                (attempt.status, usage)
            }
        };
        self.spent.attempts += 1;
        self.spent.by_status.count(status);
        self.spent.usage += usage;
        self.spent.wasted += usage.total();
    }

    /// Accounts for an attempt. Gives its answer, if that is all there is to it, or else what it said about the
    /// endpoint.
    fn take_answer(&mut self, attempt: Attempt, leave: &mut Leave) -> Result<Answer, (Box<Attempt>, News)> {
        if attempt.reached {
            self.spent.attempts += 1;
            self.spent.by_status.count(attempt.status);
            self.latency = Some(attempt.latency);
        }
        let news = leave.heard(&attempt);
        match attempt.result {
            Ok(answer) if news == News::default() => {
                self.spent.usage += answer.usage;
                Ok(answer)
            }
            result => Err((Box::new(Attempt { result, ..attempt }), news)),
        }
    }

    /// Says what comes next after an attempt.
    async fn take(&mut self, attempt: Attempt, news: News, lane: usize) -> Next {
        let failed = match attempt.result {
            Ok(answer) => {
                self.tell_news(news, lane, None).await;
                self.spent.usage += answer.usage;
                return Next::Finish(Box::new(Ok(answer)));
            }
            Err(failed) => failed,
        };
        self.spent.usage += failed.usage;
        self.spent.wasted += failed.usage.total();
        let failure = failed.failure;
        self.tell_news(news, lane, Some(&failure)).await;
        self.stop_if_fatal(&failure, failed.advice, lane);
        match self.patience.decide(failed.advice) {
            Decision::Resend => Next::Resend,
            Decision::AwaitEndpoint => Next::Wait(Duration::ZERO),
            Decision::Again(wait) => {
                self.retrying(&failure, failed.usage, attempt.reached, wait).await;
                Next::Wait(wait)
            }
            Decision::GiveUp(impatient) => Next::Finish(Box::new(Err(self.given_up(failure, impatient)))),
        }
    }

    /// Tells whoever watches what an attempt said about the endpoint as a whole.
    async fn tell_news(&self, news: News, lane: usize, failure: Option<&Failure>) {
        let endpoint = self.pool.one_of_several(lane);
        let up = news.up.then(|| Notice::EndpointUp { endpoint: endpoint.clone() });
        let paused = news.paused.map(|wait| Notice::RateLimited { endpoint, wait });
        let down = failure.filter(|_| news.down).map(|failure| Notice::EndpointDown {
            message: failure.message.clone(),
            at_most: self.pool.job.retry.max_wait,
        });
        for notice in [up, paused, down].into_iter().flatten() {
            self.pool.tell(Message::Event(Event::Notice(notice))).await;
        }
    }

    fn stop_if_fatal(&self, failure: &Failure, advice: Advice, lane: usize) {
        let own_model = || self.pool.job.model.as_ref() == Some(&self.work.request.model);
        if advice == Advice::Stop || (advice == Advice::NotFound && own_model()) {
            let mut failure = failure.clone();
            if let Some(endpoint) = self.pool.one_of_several(lane) {
                failure.message = format!("{endpoint}: {}", failure.message);
            }
            self.pool.stop.halt(Halt::Fatal(failure));
        }
    }

    async fn retrying(&self, failure: &Failure, usage: Usage, reached: bool, wait: Duration) {
        let event = Event::Retrying {
            id: self.work.id.clone(),
            location: self.work.record.location.clone(),
            attempt: self.spent.attempts,
            kind: failure.kind,
            status: failure.status,
            message: failure.message.clone(),
            wait,
        };
        let attempt = reached.then(|| {
            let statuses = StatusCounts([(failure.status.unwrap_or(0), 1)].into());
            (self.work.identity, Unfinished { statuses, usage })
        });
        self.pool.tell(Message::Attempt { attempt, event }).await;
    }

    /// The failure as it stands in the row: with the count of attempts where there were several.
    fn given_up(&self, mut failure: Failure, impatient: bool) -> Failure {
        if impatient {
            failure.kind = FailureKind::RateLimited;
            failure.message.push_str("; the wait would be longer than --max-wait");
        }
        if self.spent.attempts > 1 {
            failure.message = format!("{} (after {} attempts)", failure.message, self.spent.attempts);
        }
        failure
    }

    async fn endpoint_stays_down(self: Box<Self>) {
        let said = self.pool.stop.endpoint_down().or_else(|| self.pool.admission.why_down());
        let message = said.unwrap_or_else(|| "the endpoint cannot be reached".to_owned());
        self.pool.stop.halt(Halt::EndpointDown(message.clone()));
        let message = format!("{message}; given up after --max-wait");
        self.finish(Err(Failure::new(FailureKind::Connection, message)), None).await;
    }

    async fn finish(self: Box<Self>, result: Result<Answer, Failure>, leave: Option<Leave>) {
        let pool = self.pool.clone();
        pool.tell(self.finished(result, leave)).await;
    }

    fn finished(mut self, result: Result<Answer, Failure>, leave: Option<Leave>) -> Message {
        let (result, model) = match result {
            Ok(answer) => (Ok(answer.completion), answer.model),
            Err(failure) => {
                self.spent.wasted = self.spent.usage.total();
                (Err::<Completion, _>(failure), None)
            }
        };
        self.spent.add(&self.work.earlier);
        let request = self.work.request;
        let outcome = Outcome {
            id: self.work.id,
            index: self.work.record.index,
            location: self.work.record.location.clone(),
            identity: Some(self.work.identity),
            input: Some(self.work.record),
            result,
            model: model.or(Some(request.model)),
            spent: self.spent,
            latency: self.latency,
        };
        Message::finished(self.work.slot, self.work.text, outcome, leave)
    }
}
