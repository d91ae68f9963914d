//! One request for an answer: let in or refused, answered or met by a fault, booked. What is answered is made elsewhere.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::Settings;
use super::answer::{Billed, answer};
use super::ask::Ask;
use super::faults::Fault;
use super::limits::{Limits, go_duration};
use super::prose::short_hash;
use super::refusal::Refusal;
use super::reply::Reply;
use super::stats::{Account, End, Seat};
use super::{stream, wire};
use crate::domain::{Endpoint, IdentityHasher};

/// The largest body that is read.
const MAX_BODY: usize = 64 * 1024 * 1024;

const CLIENT_REQUEST_ID: &str = "x-client-request-id";

/// Everything that the connections share.
#[derive(Debug)]
pub(super) struct Service {
    pub settings: Settings,
    pub account: Arc<Account>,
    limits: Mutex<Limits>,
    /// It is fair: who came first works first.
    slots: Option<Arc<Semaphore>>,
    /// The running number of requests.
    requests: AtomicU64,
}

/// An answer, ready to be sent.
struct Prepared {
    content: Content,
    body: u64,
    billed: Billed,
}

/// The time in which a request is worked on.
struct Worked {
    from: Instant,
    takes: Duration,
}

enum Content {
    Whole(Bytes),
    Events(Vec<Bytes>),
}

impl Service {
    pub(super) fn new(settings: Settings) -> Self {
        let limits = Mutex::new(Limits::new(settings.rpm, settings.tpm));
        let slots = settings.slots.map(|slots| Arc::new(Semaphore::new(slots.get())));
        Self { settings, account: Arc::default(), limits, slots, requests: AtomicU64::new(0) }
    }

    /// The number of a request, from 0.
    pub(super) fn next_number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the request has the key that is asked for, if one is.
    pub(super) fn check_key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.settings.api_key else {
            return Ok(());
        };
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|given| given.strip_prefix(b"Bearer "));
        if given == Some(key.expose().as_bytes()) { Ok(()) } else { Err(Refusal::wrong_key(given.is_some())) }
    }

    /// Whether there is such a model.
    pub(super) fn check_model(&self, model: &str) -> Result<(), Refusal> {
        let models = &self.settings.models;
        let known = models.is_empty() || models.iter().any(|known| known == model);
        if known { Ok(()) } else { Err(Refusal::unknown_model(model)) }
    }

    /// Answers a request. `cut` resets its connection.
    pub(super) async fn exchange(
        &self,
        endpoint: Endpoint,
        request: Request<Incoming>,
        cut: &Notify,
    ) -> Response<Reply> {
        let number = self.next_number();
        let (head, body) = request.into_parts();
        let started = Instant::now();
        let mut response = match self.serve(endpoint, &head.headers, number, body, cut).await {
            Ok(response) => response,
            Err(refusal) => refused(&refusal),
        };
        self.add_limits(response.headers_mut());
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        response.headers_mut().insert("openai-processing-ms", millis.into());
        response
    }

    async fn serve(
        &self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        number: u64,
        body: Incoming,
        cut: &Notify,
    ) -> Result<Response<Reply>, Refusal> {
        let body = read(body).await.inspect_err(|refusal| self.account.refused(refusal.status.as_u16()))?;
        let ticket = headers.get(CLIENT_REQUEST_ID).map(HeaderValue::as_bytes);
        self.account.received(ticket.map(hash_of_ticket));
        let mut seat = self
            .check_key(headers)
            .and_then(|()| Seat::take(&self.account, self.settings.max_inflight).map_err(Refusal::slow_down))
            .inspect_err(|refusal| self.account.refused(refusal.status.as_u16()))?;
        let arrived = Instant::now();
        let prepared = self
            .prepare(endpoint, &body)
            .inspect_err(|refusal| seat.end(End::Answered(refusal.status.as_u16())))?;
        drop(body);
        let number = number.to_le_bytes();
        match self.settings.faults.draw(self.settings.seed, ticket.unwrap_or(&number)) {
            None => {
                let due = self.work(&mut seat, &prepared, arrived).await;
                Ok(self.send(prepared, seat, due).await)
            }
            Some(fault) => self.fail(fault, &prepared, seat, arrived, cut).await,
        }
    }

    /// Waits for the request's turn, if it has to. Says from when to when it is worked on then.
    async fn work(&self, seat: &mut Seat, prepared: &Prepared, arrived: Instant) -> Worked {
        let Settings { latency, latency_per_token, .. } = self.settings;
        let tokens = u32::try_from(prepared.billed.completion).unwrap_or(u32::MAX);
        let takes = latency.saturating_add(latency_per_token.saturating_mul(tokens));
        let from = match &self.slots {
            Some(slots) => {
                seat.wait_for_turn(slots).await;
                Instant::now()
            }
            None => arrived,
        };
        Worked { from, takes }
    }

    /// Reads, checks and answers, and lets the request through the limits.
    fn prepare(&self, endpoint: Endpoint, body: &[u8]) -> Result<Prepared, Refusal> {
        let ask = Ask::read(endpoint, body)?;
        self.check_model(&ask.model)?;
        let answer = answer(&ask);
        let billed = answer.billed;
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = limits.admit(billed.prompt + billed.completion, std::time::Instant::now());
        drop(limits);
        admitted
            .map_err(|refusal| if self.settings.tells_limits { refusal } else { refusal.unexplained() })?;
        let content = match ask.stream {
            None => Content::Whole(wire::whole(&ask, &answer).into()),
            Some(_) => Content::Events(stream::events(&ask, &answer)),
        };
        Ok(Prepared { content, body: ask.body, billed })
    }

    async fn send(&self, prepared: Prepared, mut seat: Seat, worked: Worked) -> Response<Reply> {
        match prepared.content {
            Content::Whole(body) => {
                worked.wait().await;
                seat.end_billed(prepared.body, &prepared.billed);
                respond(StatusCode::OK, "application/json", Reply::Whole(Some(body)))
            }
            Content::Events(events) => {
                let pace = worked.pace(events.len());
                let reply = Reply::paced(events, pace, seat, (prepared.body, prepared.billed));
                respond(StatusCode::OK, "text/event-stream; charset=utf-8", reply)
            }
        }
    }

    /// Lets the request meet a fault. All but the refusal take as long as an answer; one that is never answered takes
    /// no slot, or a few of them would stop the endpoint.
    async fn fail(
        &self,
        fault: Fault,
        prepared: &Prepared,
        mut seat: Seat,
        arrived: Instant,
        cut: &Notify,
    ) -> Result<Response<Reply>, Refusal> {
        let refuse = |mut seat: Seat, refusal: Refusal| {
            seat.end(End::Answered(refusal.status.as_u16()));
            Err(refusal)
        };
        if fault == Fault::TooManyRequests {
            return refuse(seat, Refusal::fault_429());
        }
        if fault != Fault::Hang {
            self.work(&mut seat, prepared, arrived).await.wait().await;
        }
        match fault {
            Fault::Truncate => return Ok(truncated(prepared, seat)),
            Fault::TooManyRequests | Fault::ServerError => return refuse(seat, Refusal::fault_500()),
            Fault::Reset => {
                seat.end(End::Reset);
                cut.notify_one();
            }
            Fault::Hang => seat.end(End::Hung),
        }
        pending().await
    }

    fn add_limits(&self, headers: &mut HeaderMap) {
        if !self.settings.tells_limits {
            return;
        }
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let [requests, tokens] = limits.standing(std::time::Instant::now());
        drop(limits);
        let names = [
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
        ];
        for ([limit, remaining, reset], standing) in names.into_iter().zip([requests, tokens]) {
            if let Some(standing) = standing {
                headers.insert(limit, standing.limit.into());
                headers.insert(remaining, standing.remaining.into());
                headers.insert(reset, header(&go_duration(standing.reset)));
            }
        }
    }
}

impl Worked {
    /// When the first event leaves, and how long after it each of the others: a quarter of the time to the first one,
    /// the last one at its end.
    fn pace(&self, events: usize) -> (Instant, Duration) {
        let gaps = u32::try_from(events).unwrap_or(u32::MAX).saturating_sub(1).max(1);
        (self.from + self.takes / 4, self.takes * 3 / 4 / gaps)
    }

    async fn wait(&self) {
        if !self.takes.is_zero() {
            sleep_until(self.from + self.takes).await;
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large(MAX_BODY)),
        Err(error) => Err(Refusal::not_json(&error.to_string())),
    }
}

fn hash_of_ticket(ticket: &[u8]) -> u64 {
    let mut hasher = IdentityHasher::new("client request id");
    hasher.field("id", ticket);
    short_hash(&hasher)
}

/// The first half of the answer, announced as the whole of it.
fn truncated(prepared: &Prepared, seat: Seat) -> Response<Reply> {
    let (whole, content_type) = match &prepared.content {
        Content::Whole(body) => (body.clone(), "application/json"),
        Content::Events(events) => (events.concat().into(), "text/event-stream; charset=utf-8"),
    };
    let reply = Reply::broken(whole.slice(..whole.len() / 2), seat);
    let mut response = respond(StatusCode::OK, content_type, reply);
    if let Content::Whole(body) = &prepared.content {
        response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    }
    response
}

/// A refusal as a response.
pub(super) fn refused(refusal: &Refusal) -> Response<Reply> {
    let mut response = respond(refusal.status, "application/json", refusal.body().into());
    if let Some(wait) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, wait.seconds.into());
        response.headers_mut().insert("retry-after-ms", wait.millis.into());
    }
    response
}

/// A response of a status, a type and a body.
pub(super) fn respond(status: StatusCode, content_type: &'static str, reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A header of a text that we made ourselves.
pub(super) fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
