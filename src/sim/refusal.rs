//! What the endpoint says instead of an answer, in OpenAI's error shape.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

/// Type of the errors that the client made.
const INVALID_REQUEST: &str = "invalid_request_error";

/// An error that is sent to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub message: String,
    pub kind: &'static str,
    pub param: Option<String>,
    pub code: Option<&'static str>,
    /// How long the client shall wait, where the endpoint says so.
    pub retry_after: Option<RetryAfter>,
}

/// How long to wait, as the two headers say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RetryAfter {
    /// `Retry-After`.
    pub seconds: u64,
    /// `retry-after-ms`.
    pub millis: u64,
}

impl From<Duration> for RetryAfter {
    /// Rounds up: neither header may say less than the wait.
    fn from(wait: Duration) -> Self {
        let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self { seconds: millis.div_ceil(1000), millis }
    }
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: String) -> Self {
        Self { status, message, kind, param: None, code, retry_after: None }
    }

    /// A parameter is wrong (400).
    pub(super) fn parameter(param: String, code: Option<&'static str>, message: String) -> Self {
        Self { param: Some(param), ..Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, code, message) }
    }

    /// The body is not a JSON object (400).
    pub(super) fn not_json(reason: &str) -> Self {
        let message = format!("We could not parse the JSON body of your request: {reason}.");
        Self::new(StatusCode::BAD_REQUEST, INVALID_REQUEST, None, message)
    }

    /// The body is larger than the endpoint takes (413).
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, Some("request_too_large"), message)
    }

    /// The key is missing or wrong (401).
    pub(super) fn wrong_key(given: bool) -> Self {
        let message = if given { "Incorrect API key provided." } else { "You didn't provide an API key." };
        Self::new(StatusCode::UNAUTHORIZED, INVALID_REQUEST, Some("invalid_api_key"), message.into())
    }

    /// There is no such model (404).
    pub(super) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        let code = Some("model_not_found");
        let refusal = Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, code, message);
        Self { param: Some("model".into()), ..refusal }
    }

    /// There is nothing at this path (404).
    pub(super) fn unknown_path(method: &http::Method, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, INVALID_REQUEST, None, message)
    }

    /// The limit on `what` (`requests` or `tokens`) is reached (429).
    pub(super) fn rate_limited(what: &'static str, limit: u64, retry_after: Duration) -> Self {
        let retry_after = RetryAfter::from(retry_after);
        let millis = retry_after.millis;
        let message =
            format!("Rate limit reached on {what} per min: Limit {limit}. Please try again in {millis}ms.");
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, what, Some("rate_limit_exceeded"), message);
        Self { retry_after: Some(retry_after), ..refusal }
    }

    /// The same, without a word of when to come back.
    pub(super) fn unexplained(self) -> Self {
        Self { message: "Rate limit reached.".into(), retry_after: None, ..self }
    }

    /// More tokens than the limit lets through in a minute (429): it can never be admitted.
    pub(super) fn too_many_tokens(limit: u64, requested: u64) -> Self {
        let message = format!("Request too large on tokens per min: Limit {limit}, Requested {requested}.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "tokens", Some("rate_limit_exceeded"), message)
    }

    /// More requests at once than are served (429).
    pub(super) fn slow_down(served: usize) -> Self {
        let message = format!("Too many requests at once: {served} are being served. Please slow down.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("slow_down"), message)
    }

    /// The fault that refuses without a reason (429).
    pub(super) fn fault_429() -> Self {
        let message = "Rate limit reached (a simulated fault). Please try again in 20ms.".into();
        let code = Some("rate_limit_exceeded");
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "requests", code, message);
        // Who reads whole seconds only need not wait for one.
        Self { retry_after: Some(RetryAfter { seconds: 0, millis: 20 }), ..refusal }
    }

    /// The fault of the server (500).
    pub(super) fn fault_500() -> Self {
        let message = "The server had an error while processing your request (a simulated fault).".into();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message)
    }

    /// The JSON body.
    pub(super) fn body(&self) -> Vec<u8> {
        let Self { message, kind, param, code, .. } = self;
        let error = Inner { message, kind, param: param.as_deref(), code: *code };
        serde_json::to_vec(&Outer { error }).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Outer<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}
