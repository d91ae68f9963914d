//! OpenAI's API and all that copies it (API reference: chat completions, completions, models).

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use reqwest::{Client, Method, Response, Url};

use super::connections::{Connection, UsedConnections};
use super::errors::{ErrorBody, Pace, classify, no_answer, shorten};
use super::http::{ConnectionError, ConnectionSettings, RequestIds};
use super::stream::{Assembly, Events};
use super::{Provider, answer, headers};
use crate::domain::{
    Advice, Answer, Attempt, AttemptFailure, Endpoint, RateLimits, Redactor, Request, Usage,
};

/// A body larger than this is no answer to a prompt; it is not read to its end, so that a hostile server cannot fill
/// the memory.
const MOST_BODY_BYTES: usize = 64 << 20;

/// An error's words stand in its first bytes; of a longer one no more is read.
const MOST_ERROR_BYTES: usize = 256 << 10;

/// How long the end of a stream is waited for once the answer in it is complete.
const AFTER_DONE: Duration = Duration::from_secs(1);

/// Headers of a request as a rule, those of the connection included.
const MOST_HEADERS: usize = 6;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");

/// An endpoint that speaks OpenAI's API.
#[derive(Debug)]
pub struct OpenAi {
    pub(super) client: Client,
    pub(super) base: String,
    chat: Url,
    completions: Url,
    pub(super) redactor: Redactor,
    ids: Arc<RequestIds>,
    pub(super) used: UsedConnections,
    pub(super) timeout: Duration,
    pub(super) idle_timeout: Duration,
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
            idle_timeout: settings.idle_timeout,
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
        let sent = self.client.execute(self.http_request(request)).await;
        let response = sent.map_err(|error| self.broken_before_answer(&error, seen))?;
        let status = response.status().as_u16();
        seen.status = Some(status);
        seen.limits = headers::rate_limits(response.headers(), SystemTime::now());
        if !response.status().is_success() {
            // In a box like the other rare ends, so that a call need not hold room for it.
            return Err(Box::pin(self.refused(response, status, seen.limits.as_ref())).await);
        }
        if let Some(encoding) = encoding_of(response.headers()) {
            let what = format!("the answer is encoded as {encoding}, which was not asked for");
            return Err(no_answer(status, what, Usage::default()));
        }
        let is_stream = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if request.stream && is_stream {
            Box::pin(self.read_stream(response, status, started)).await
        } else {
            let body = self.read_body(response).await?;
            answer::read(&self.clean(&body), status, self.keep_response)
        }
    }

    fn http_request(&self, request: &Request) -> reqwest::Request {
        let mut http = reqwest::Request::new(Method::POST, self.url(request.endpoint));
        let headers = http.headers_mut();
        headers.reserve(MOST_HEADERS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REQUEST_ID, self.ids.next());
        *http.body_mut() = Some(request.body.clone().into());
        http
    }

    async fn refused(&self, response: Response, status: u16, limits: Option<&RateLimits>) -> AttemptFailure {
        let pace = Pace {
            retry_after: headers::retry_after(response.headers(), SystemTime::now()),
            exhausted: limits.and_then(|limits| limits.exhausted),
        };
        let location =
            response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let url = response.url().clone();
        let body = self.read_error(response).await;
        let mut failure = classify(status, ErrorBody::parse(&self.clean(&body)), pace);
        if status == 404 {
            failure.failure.message =
                format!("{} (POST {})", failure.failure.message, self.redactor.redact(url.as_str()));
        }
        if let Some(location) = location.filter(|_| (300..400).contains(&status)) {
            let target = self.redactor.redact(&location).into_owned();
            failure.failure.message = format!(
                "the server answered {status}, a redirect to {}; redirects are not followed, give the right --base-url",
                shorten(&target)
            );
        }
        failure
    }

    /// An error's body is worth less than its status: one that breaks off is taken as far as it came.
    async fn read_error(&self, response: Response) -> Vec<u8> {
        let connection = Connection::of(&response);
        let mut pieces = pin!(self.pieces(response));
        let mut body = Vec::new();
        while body.len() <= MOST_ERROR_BYTES {
            match pieces.next().await {
                Some(Ok(piece)) => body.extend_from_slice(&piece),
                Some(Err(_)) => break,
                None => {
                    self.used.answered(connection);
                    break;
                }
            }
        }
        body
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
            if assembly.is_done() {
                // The connection can carry another request once its end is read; the answer does not depend on it.
                let rest = async { while let Some(Ok(_)) = pieces.next().await {} };
                let _ = tokio::time::timeout(AFTER_DONE, rest).await;
                break;
            }
        }
        self.used.answered(connection);
        assembly.finish(status)
    }

    /// A body piece by piece, no further than an answer may be long, and no longer than it keeps coming.
    fn pieces(&self, response: Response) -> impl Stream<Item = Result<Bytes, AttemptFailure>> {
        let status = response.status().as_u16();
        let mut taken = 0;
        let pieces = futures::stream::unfold(response.bytes_stream(), async |mut body| {
            let piece = tokio::time::timeout(self.idle_timeout, body.next()).await;
            piece.map_or(Some(Err(())), |piece| piece.map(Ok)).map(|piece| (piece, body))
        });
        // A body that has ended is asked once more by whoever reads it whole.
        pieces.fuse().map(move |piece| {
            let piece = piece
                .map_err(|()| self.stalled(status))?
                .map_err(|error| self.broken_in_body(&error, status))?;
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
}

/// What is known of an attempt while it is under way.
pub(super) struct Seen {
    status: Option<u16>,
    pub(super) reached: bool,
    limits: Option<RateLimits>,
}

impl Provider for OpenAi {
    async fn attempt(&self, request: &Request) -> Attempt {
        let started = Instant::now();
        let mut seen = Seen { status: None, reached: true, limits: None };
        let result = self.exchange(request, started, &mut seen).await;
        Attempt {
            result,
            status: seen.status,
            reached: seen.reached,
            latency: started.elapsed(),
            limits: seen.limits.map(Box::new),
        }
    }
}

/// The coding that a body came in, where it is not as it is.
fn encoding_of(headers: &HeaderMap) -> Option<String> {
    let encoding = String::from_utf8_lossy(headers.get(CONTENT_ENCODING)?.as_bytes()).trim().to_owned();
    (!encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity")).then(|| shorten(&encoding))
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
