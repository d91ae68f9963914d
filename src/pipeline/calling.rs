//! The pool: rows to answers, never more requests at once than allowed. No permit is held while a row waits.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::reading::Work;
use super::recording::Message;
use super::{Controls, FATAL_GRACE, Halt, Job, Stop};
use crate::domain::{
    Advice, Answer, Attempt, Completion, Event, Failure, FailureKind, Notice, Outcome, Spent, StatusCounts,
    Usage,
};
use crate::ledger::Unfinished;
use crate::pace::{Decision, Gate, Pass, Patience};
use crate::provider::Provider;

/// All that the calls of a run share.
pub(super) struct Pool<P> {
    pub(super) job: Arc<Job>,
    pub(super) provider: P,
    pub(super) gate: Gate,
    pub(super) controls: Controls,
    pub(super) stop: Stop,
    pub(super) to_recorder: Sender<Message>,
}

impl<P: Provider> Pool<P> {
    /// Answers rows until there are no more or the run has to end.
    pub(super) async fn work(self, mut inbox: Receiver<Work>, rows_at_once: usize) {
        let pool = Arc::new(self);
        let slots = Arc::new(Semaphore::new(rows_at_once));
        let mut calls = JoinSet::new();
        loop {
            let next = async {
                let slot = slots.clone().acquire_owned().await.ok()?;
                Some((inbox.recv().await?, slot))
            };
            tokio::select! {
                biased;
                () = pool.controls.drain.cancelled() => break,
                next = next => match next {
                    Some((work, slot)) => {
                        calls.spawn(Call::new(pool.clone(), work).answer(slot));
                    }
                    None => break,
                },
            }
            while let Some(ended) = calls.try_join_next() {
                pool.check(ended);
            }
        }
        drop(inbox);
        pool.finish(calls).await;
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

    fn check(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            self.stop.halt(Halt::Bug("a call failed in a way that it must not".into()));
        }
    }

    /// Leave to send: the gate is open and fewer requests are in flight than may be.
    async fn permit(&self) -> ControlFlow<Ended, (OwnedSemaphorePermit, Pass<'_>)> {
        let wait = async {
            let acquire = || self.controls.permits.clone().acquire_owned();
            let Ok(permit) = acquire().await else { return ControlFlow::Break(Ended::Abandoned) };
            if let Some(pass) = self.gate.try_pass() {
                return ControlFlow::Continue((permit, pass));
            }
            drop(permit);
            let Ok(pass) = self.gate.pass().await else { return ControlFlow::Break(Ended::EndpointDown) };
            match acquire().await {
                Ok(permit) => ControlFlow::Continue((permit, pass)),
                Err(_) => ControlFlow::Break(Ended::Abandoned),
            }
        };
        tokio::select! {
            biased;
            () = self.controls.drain.cancelled() => ControlFlow::Break(match self.stop.endpoint_down() {
                Some(_) => Ended::EndpointDown,
                None => Ended::Abandoned,
            }),
            granted = wait => granted,
        }
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
    /// It goes again at once and keeps its permit: the attempt never took place.
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

    async fn answer(mut self, slot: OwnedSemaphorePermit) {
        let pool = self.pool.clone();
        loop {
            let (permit, pass) = match pool.permit().await {
                ControlFlow::Continue(granted) => granted,
                ControlFlow::Break(Ended::Abandoned) => return,
                ControlFlow::Break(Ended::EndpointDown) => return self.endpoint_stays_down().await,
            };
            let next = loop {
                let attempt = pool.provider.attempt(&self.work.request).await;
                match self.take(attempt, &pass).await {
                    Next::Resend => {}
                    next => break next,
                }
            };
            let wait = match next {
                Next::Finish(result) => return self.finish(*result, Some([permit, slot])).await,
                Next::Wait(wait) => wait,
                Next::Resend => Duration::ZERO,
            };
            drop(pass);
            drop(permit);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = pool.controls.drain.cancelled() => return,
            }
        }
    }

    /// Accounts for an attempt and says what comes next.
    async fn take(&mut self, attempt: Attempt, pass: &Pass<'_>) -> Next {
        let pool = self.pool.clone();
        if attempt.reached {
            self.spent.attempts += 1;
            self.spent.by_status.count(attempt.status);
            self.latency = Some(attempt.latency);
        }
        match attempt.status {
            Some(_) if pass.reached() => pool.tell(Message::Event(Event::Notice(Notice::EndpointUp))).await,
            None if attempt.reached => pass.unanswered(),
            _ => {}
        }
        let failed = match attempt.result {
            Ok(answer) => {
                self.spent.usage += answer.usage;
                pool.gate.answered();
                return Next::Finish(Box::new(Ok(answer)));
            }
            Err(failed) => failed,
        };
        self.spent.usage += failed.usage;
        self.spent.wasted += failed.usage.total();
        self.tell_the_pool(&failed.failure, failed.advice, pass).await;
        let failure = failed.failure;
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

    /// Tells the pool what an attempt says about the endpoint as a whole.
    async fn tell_the_pool(&self, failure: &Failure, advice: Advice, pass: &Pass<'_>) {
        let pool = &self.pool;
        match advice {
            Advice::Stop => pool.stop.halt(Halt::Fatal(failure.clone())),
            Advice::NotFound if pool.job.model.as_ref() == Some(&self.work.request.model) => {
                pool.stop.halt(Halt::Fatal(failure.clone()));
            }
            Advice::Refused { after, exhausted } => {
                if let Some(wait) = pool.gate.refused(after, exhausted) {
                    pool.tell(Message::Event(Event::Notice(Notice::RateLimited { wait }))).await;
                }
            }
            Advice::Down if pass.down(&failure.message) => {
                let at_most = pool.job.retry.max_wait;
                let notice = Notice::EndpointDown { message: failure.message.clone(), at_most };
                pool.tell(Message::Event(Event::Notice(notice))).await;
            }
            _ => {}
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

    async fn endpoint_stays_down(self) {
        let said = self.pool.stop.endpoint_down().or_else(|| self.pool.gate.why_down());
        let message = said.unwrap_or_else(|| "the endpoint cannot be reached".to_owned());
        self.pool.stop.halt(Halt::EndpointDown(message.clone()));
        let message = format!("{message}; given up after --max-wait");
        self.finish(Err(Failure::new(FailureKind::Connection, message)), None).await;
    }

    async fn finish(mut self, result: Result<Answer, Failure>, permits: Option<[OwnedSemaphorePermit; 2]>) {
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
        self.pool.tell(Message::finished(self.work.slot, outcome, permits)).await;
    }
}
