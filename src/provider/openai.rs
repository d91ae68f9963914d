//! OpenAI's API and all that copies it (API reference: chat completions, completions, models).

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use reqwest::{Client, Response, Url};

use super::connections::{Connection, UsedConnections, causes};
use super::errors::{ErrorBody, Pace, classify, no_answer, shorten, unanswered};
use super::http::{ConnectionError, ConnectionSettings, RequestIds, describe};
use super::stream::{Assembly, Events};
use super::{Provider, answer, headers};
use crate::domain::{
    Advice, Answer, Attempt, AttemptFailure, Endpoint, FailureKind, Redactor, Request, Usage,
};

/// A body larger than this is no answer to a prompt; it is not read to its end, so that a hostile server cannot fill
/// the memory.
const MOST_BODY_BYTES: usize = 64 << 20;

const REQUEST_ID: &str = "x-client-request-id";

/// An endpoint that speaks OpenAI's API.
#[derive(Debug)]
pub struct OpenAi {
    pub(super) client: Client,
    pub(super) base: String,
    chat: Url,
    completions: Url,
    redactor: Redactor,
    ids: Arc<RequestIds>,
    used: UsedConnections,
    timeout: Duration,
    keep_response: bool,
}

impl OpenAi {
    /// Sets up the connection; nothing is sent yet.
    ///
    /// # Errors
    /// A URL, header or proxy that cannot be used.
    pub fn new(settings: &ConnectionSettings, keep_response: bool) -> Result<Self, ConnectionError> {
        let url = settings.url()?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        let at = |endpoint: Endpoint| {
            Url::parse(&format!("{base}{}", endpoint.path()))
                .map_err(|error| ConnectionError::BaseUrl { url: base.clone(), message: error.to_string() })
        };
        Ok(Self {
            client: settings.client()?,
            chat: at(Endpoint::Chat)?,
            completions: at(Endpoint::Completions)?,
            base,
            redactor: settings.redactor(),
            ids: RequestIds::new(),
            used: UsedConnections::new(),
            timeout: settings.timeout,
            keep_response,
        })
    }

    fn url(&self, endpoint: Endpoint) -> Url {
        match endpoint {
            Endpoint::Chat => self.chat.clone(),
            Endpoint::Completions => self.completions.clone(),
        }
    }

    async fn exchange(
        &self,
        request: &Request,
        started: Instant,
        seen: &mut Seen,
    ) -> Result<Answer, AttemptFailure> {
        let sent = self
            .client
            .post(self.url(request.endpoint))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(REQUEST_ID, self.ids.next())
            .body(request.body.clone())
            .send()
            .await;
        let response = sent.map_err(|error| self.broken_before_answer(&error, seen))?;
        let status = response.status().as_u16();
        seen.status = Some(status);
        if status != 200 {
            return Err(self.refused(response, status).await);
        }
        let is_stream = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if request.stream && is_stream {
            self.read_stream(response, status, started).await
        } else {
            let body = self.read_body(response).await?;
            answer::read(&self.clean(&body), status, self.keep_response)
        }
    }

    async fn refused(&self, response: Response, status: u16) -> AttemptFailure {
        let pace = pace_of(response.headers());
        let location =
            response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let url = response.url().clone();
        // An error's body is worth less than its status: one that breaks off is taken as far as it came.
        let body = self.read_body(response).await.unwrap_or_default();
        let mut failure = classify(status, ErrorBody::parse(&self.clean(&body)), pace);
        if status == 404 {
            failure.failure.message =
                format!("{} (POST {})", failure.failure.message, self.redactor.redact(url.as_str()));
        }
        if (300..400).contains(&status) {
            let target = self.redactor.redact(location.as_deref().unwrap_or("elsewhere")).into_owned();
            failure.failure.message = format!(
                "the server answered {status}, a redirect to {}; redirects are not followed, give the right --base-url",
                shorten(&target)
            );
        }
        failure
    }

    pub(super) async fn read_body(&self, response: Response) -> Result<Bytes, AttemptFailure> {
        let connection = Connection::of(&response);
        let mut pieces = pin!(self.pieces(response));
        // Most answers come in one piece, which is taken as it is.
        let first = pieces.try_next().await?.unwrap_or_default();
        let mut joined = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&piece);
        }
        self.used.answered(connection);
        Ok(if joined.is_empty() { first } else { joined.into() })
    }

    async fn read_stream(
        &self,
        response: Response,
        status: u16,
        started: Instant,
    ) -> Result<Answer, AttemptFailure> {
        let connection = Connection::of(&response);
        let mut pieces = pin!(self.pieces(response));
        let (mut events, mut assembly) = (Events::default(), Assembly::new(started));
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|mut failure| {
                failure.usage = assembly.usage();
                failure
            })?;
            events.push(&piece, |data| assembly.event(&self.clean(data), status))?;
        }
        self.used.answered(connection);
        assembly.finish(status)
    }

    /// A body piece by piece, and no further than an answer may be long.
    fn pieces(&self, response: Response) -> impl Stream<Item = Result<Bytes, AttemptFailure>> {
        let status = response.status().as_u16();
        let mut taken = 0;
        response.bytes_stream().map(move |piece| {
            let piece = piece.map_err(|error| self.broken_in_body(&error, status))?;
            taken += piece.len();
            if taken > MOST_BODY_BYTES { Err(too_large(status)) } else { Ok(piece) }
        })
    }

    /// What the server sent, without our secrets: some servers echo the key.
    pub(super) fn clean<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match std::str::from_utf8(bytes) {
            Ok(text) => match self.redactor.redact(text) {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            Err(_) => {
                let text = String::from_utf8_lossy(bytes);
                Cow::Owned(self.redactor.redact(&text).into_owned().into_bytes())
            }
        }
    }

    fn broken_before_answer(&self, error: &reqwest::Error, seen: &mut Seen) -> AttemptFailure {
        let what = self.redactor.redact(&describe(error)).into_owned();
        if error.is_connect() {
            seen.reached = false;
            return self.not_connected(&what);
        }
        if error.is_timeout() {
            return self.timed_out();
        }
        let message = format!("the connection broke before an answer came: {what}");
        let advice = match (self.used.was_used(error), death(error)) {
            (true, Some(Death::Closed)) => {
                // The server had closed it and never read the request: there was no attempt.
                seen.reached = false;
                Advice::Resend
            }
            (true, Some(Death::Reset)) => Advice::Resend,
            _ => Advice::Retry { after: None },
        };
        unanswered(FailureKind::Connection, message, advice)
    }

    fn not_connected(&self, what: &str) -> AttemptFailure {
        let message = format!("cannot connect to {}: {what}", self.base);
        // A certificate does not become right by waiting.
        let advice = if what.contains("certificate") { Advice::Stop } else { Advice::Down };
        unanswered(FailureKind::Connection, message, advice)
    }

    fn broken_in_body(&self, error: &reqwest::Error, status: u16) -> AttemptFailure {
        if error.is_timeout() {
            let mut failure = self.timed_out();
            failure.failure.status = Some(status);
            return failure;
        }
        let what = self.redactor.redact(&describe(error)).into_owned();
        let message = format!("the connection broke in the middle of the answer: {what}");
        let mut failure = unanswered(FailureKind::Connection, message, Advice::Retry { after: None });
        failure.failure.status = Some(status);
        failure
    }

    fn timed_out(&self) -> AttemptFailure {
        let limit = humantime::format_duration(self.timeout);
        let message = format!("no answer within {limit} (--timeout)");
        unanswered(FailureKind::Timeout, message, Advice::Retry { after: None })
    }
}

/// What is known of an attempt while it is under way.
struct Seen {
    status: Option<u16>,
    reached: bool,
}

impl Provider for OpenAi {
    async fn attempt(&self, request: &Request) -> Attempt {
        let started = Instant::now();
        let mut seen = Seen { status: None, reached: true };
        let result = self.exchange(request, started, &mut seen).await;
        Attempt { result, status: seen.status, reached: seen.reached, latency: started.elapsed() }
    }
}

fn pace_of(headers: &HeaderMap) -> Pace {
    Pace {
        retry_after: headers::retry_after(headers, SystemTime::now()),
        exhausted: headers::exhausted(headers),
    }
}

fn too_large(status: u16) -> AttemptFailure {
    let mut failure = no_answer(
        status,
        format!("the answer is larger than {} MiB", MOST_BODY_BYTES >> 20),
        Usage::default(),
    );
    failure.advice = Advice::GiveUp;
    failure
}

/// How a connection ended before a byte came back.
enum Death {
    /// Its end was read, or nothing could be written any more, as with one that the server closed while it was idle.
    Closed,
    /// It was reset. The server may have read the request first.
    Reset,
}

fn death(error: &reqwest::Error) -> Option<Death> {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    let io = causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    if io == Some(ConnectionReset) {
        return Some(Death::Reset);
    }
    let closed = causes(error)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed());
    (closed || matches!(io, Some(BrokenPipe | NotConnected))).then_some(Death::Closed)
}
