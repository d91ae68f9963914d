//! What an error means: the row's fault, the server's, or the whole run's. The classes follow the providers'
//! published error codes (OpenAI, Anthropic, Gemini, OpenRouter, vLLM, Mistral; November 2026).

use std::time::Duration;

use serde_json::Value;

use crate::domain::{Advice, AttemptFailure, Failure, FailureKind, Usage};

/// The most of a server's words that goes into a message, in characters.
const LONGEST_MESSAGE: usize = 600;

/// Codes and types under which an account has no money left; waiting does not help.
const BILLING: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_error",
    "billing_hard_limit_reached",
    "enforced_spend_limit_reached",
    "contract_spend_limit_reached",
    "linked_organization_spend_limit_reached",
];

const POLICY: &[&str] = &[
    "content_policy_violation",
    "content_filter",
    "invalid_prompt",
    "misalignment_policy_violation",
    "ResponsibleAIPolicyViolation",
];

/// What the server said about pace beside the body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// The server's `Retry-After`.
    pub retry_after: Option<Duration>,
    /// How long until a limit that the headers call used up comes back.
    pub exhausted: Option<Duration>,
}

/// The parts of an error body, whatever its shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorBody {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
    has_metadata: bool,
}

impl ErrorBody {
    /// Reads an error body. Shapes seen: `{"error":{…}}`, `{"error":"…"}`, the members at the top level, `{"detail":…}`,
    /// each also as the one element of an array, and text that is no JSON at all.
    #[must_use]
    pub fn parse(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Array(mut list)) if list.len() == 1 => Self::from_value(&list.remove(0)),
            Ok(value) => Self::from_value(&value),
            Err(_) => Self { message: text_of_page(body), ..Self::default() },
        }
    }

    /// Reads the error object of a parsed body.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let error = match value.get("error") {
            Some(inner @ (Value::Object(_) | Value::String(_))) => inner,
            _ => value,
        };
        if let Value::String(message) = error {
            return Self { message: Some(message.clone()), ..Self::default() };
        }
        let text = |name: &str| match error.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let details_code = || Some(error.get("details")?.get("error_code")?.as_str()?.to_owned());
        Self {
            message: text("message").or_else(|| match error.get("detail") {
                Some(Value::String(detail)) => Some(detail.clone()),
                Some(detail) => Some(detail.to_string()),
                None => None,
            }),
            kind: text("type").or_else(|| text("status")),
            code: details_code().or_else(|| text("code")),
            param: text("param"),
            has_metadata: error.get("metadata").is_some(),
        }
    }

    fn is_any(&self, names: &[&str]) -> bool {
        [&self.code, &self.kind].into_iter().flatten().any(|name| names.contains(&name.as_str()))
    }

    fn mentions(&self, words: &[&str]) -> bool {
        let message = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        words.iter().any(|word| message.contains(word))
    }

    /// The code as a status, for servers that put errors under HTTP 200.
    #[must_use]
    pub fn status_in_code(&self) -> Option<u16> {
        self.code.as_deref()?.parse().ok().filter(|status| (400..600).contains(status))
    }
}

/// Reads what an error means for the row and for the run.
#[must_use]
pub fn classify(status: u16, error: ErrorBody, pace: Pace) -> AttemptFailure {
    let (kind, advice) = class(status, &error, pace);
    let said = error.message.as_deref().map(shorten);
    let message = match said {
        Some(said) => format!("the server answered {status}: {said}"),
        None => format!("the server answered {status} without a message"),
    };
    AttemptFailure {
        failure: Failure { kind, message, status: Some(status), code: error.code.or(error.kind) },
        usage: Usage::default(),
        advice,
    }
}

fn class(status: u16, error: &ErrorBody, pace: Pace) -> (FailureKind, Advice) {
    let after = pace.retry_after;
    let refused = Advice::Refused { after, exhausted: pace.exhausted };
    match status {
        400 | 402 | 403 | 429 if error.is_any(BILLING) => (FailureKind::Quota, Advice::Stop),
        402 if after.is_some() => (FailureKind::RateLimited, refused),
        402 => (FailureKind::Quota, Advice::Stop),
        403 if error.has_metadata && error.mentions(&["moderation", "flagged", "guardrail"]) => {
            (FailureKind::ContentFilter, Advice::GiveUp)
        }
        401 | 403 => (FailureKind::Auth, Advice::Stop),
        404 => (FailureKind::NotFound, Advice::NotFound),
        400 if error.is_any(&["model_not_found"]) => (FailureKind::NotFound, Advice::NotFound),
        400 | 413 | 422 => (bad_request(status, error), Advice::GiveUp),
        408 => (FailureKind::Timeout, Advice::Retry { after }),
        429 => (FailureKind::RateLimited, refused),
        529 => (FailureKind::Server, refused),
        503 if after.is_some() => (FailureKind::Server, refused),
        409 | 500.. => (FailureKind::Server, Advice::Retry { after }),
        301..=303 | 307 | 308 => (FailureKind::NotFound, Advice::Stop),
        // Neither an answer nor an error: some proxy's doing.
        ..400 => (FailureKind::BadResponse, Advice::Retry { after }),
        _ => (FailureKind::BadRequest, Advice::GiveUp),
    }
}

fn bad_request(status: u16, error: &ErrorBody) -> FailureKind {
    let too_long =
        ["maximum context length", "context length", "context window", "context size", "prompt is too long"];
    if error.is_any(&["context_length_exceeded", "request_too_large"])
        || error.mentions(&too_long)
        || status == 413
    {
        FailureKind::ContextLength
    } else if error.is_any(POLICY) {
        FailureKind::ContentFilter
    } else {
        FailureKind::BadRequest
    }
}

/// A failure of this side or of the connection, without a status.
#[must_use]
pub fn unanswered(kind: FailureKind, message: impl Into<String>, advice: Advice) -> AttemptFailure {
    AttemptFailure { failure: Failure::new(kind, message), usage: Usage::default(), advice }
}

/// Something came back under a good status that is no answer.
#[must_use]
pub fn no_answer(status: u16, message: impl Into<String>, usage: Usage) -> AttemptFailure {
    let failure =
        Failure { kind: FailureKind::BadResponse, message: message.into(), status: Some(status), code: None };
    AttemptFailure { failure, usage, advice: Advice::Retry { after: None } }
}

/// A server's words on one line, without control characters, cut to a sane length.
#[must_use]
pub fn shorten(text: &str) -> String {
    let clean = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    let line = clean.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What a page or a plain text says, without its tags.
pub(super) fn text_of_page(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 * 1024)]);
    let mut plain = String::with_capacity(text.len());
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                plain.push(' ');
            }
            c if !in_tag => plain.push(c),
            _ => {}
        }
    }
    let plain = shorten(&plain);
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(status: u16, body: &str) -> (FailureKind, Advice) {
        let failure = classify(status, ErrorBody::parse(body.as_bytes()), Pace::default());
        (failure.failure.kind, failure.advice)
    }

    const REFUSED: Advice = Advice::Refused { after: None, exhausted: None };
    const RETRY: Advice = Advice::Retry { after: None };

    #[test]
    fn each_published_error_has_its_class() {
        for (status, body, kind, advice) in [
            (
                400,
                r#"{"error":{"message":"bad","type":"invalid_request_error"}}"#,
                FailureKind::BadRequest,
                Advice::GiveUp,
            ),
            (
                400,
                r#"{"error":{"code":"context_length_exceeded"}}"#,
                FailureKind::ContextLength,
                Advice::GiveUp,
            ),
            (
                400,
                r#"{"object":"error","message":"maximum context length is 8192","code":400}"#,
                FailureKind::ContextLength,
                Advice::GiveUp,
            ),
            (
                400,
                r#"{"error":{"code":"content_filter","innererror":{}}}"#,
                FailureKind::ContentFilter,
                Advice::GiveUp,
            ),
            (
                400,
                r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"no"}}]"#,
                FailureKind::BadRequest,
                Advice::GiveUp,
            ),
            (401, r#"{"error":{"code":"invalid_api_key"}}"#, FailureKind::Auth, Advice::Stop),
            (402, r#"{"error":{"code":402}}"#, FailureKind::Quota, Advice::Stop),
            (403, "", FailureKind::Auth, Advice::Stop),
            (
                403,
                r#"{"error":{"code":403,"message":"input was flagged","metadata":{}}}"#,
                FailureKind::ContentFilter,
                Advice::GiveUp,
            ),
            (404, r#"{"error":{"code":"model_not_found"}}"#, FailureKind::NotFound, Advice::NotFound),
            (408, "", FailureKind::Timeout, RETRY),
            (409, "", FailureKind::Server, RETRY),
            (
                422,
                r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#,
                FailureKind::BadRequest,
                Advice::GiveUp,
            ),
            (
                429,
                r#"{"error":{"code":"rate_limit_exceeded","type":"tokens"}}"#,
                FailureKind::RateLimited,
                REFUSED,
            ),
            (429, r#"{"error":{"code":"slow_down"}}"#, FailureKind::RateLimited, REFUSED),
            (
                429,
                r#"{"error":{"type":"insufficient_quota","code":"credit_balance_exhausted"}}"#,
                FailureKind::Quota,
                Advice::Stop,
            ),
            (
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","details":{"error_code":"contract_spend_limit_reached"}}}"#,
                FailureKind::Quota,
                Advice::Stop,
            ),
            (
                429,
                r#"{"object":"error","message":"slow","type":"rate_limited","code":"1300"}"#,
                FailureKind::RateLimited,
                REFUSED,
            ),
            (500, "Internal Server Error", FailureKind::Server, RETRY),
            (502, "<html><body>Bad gateway</body></html>", FailureKind::Server, RETRY),
            (503, r#"{"error":{"code":"server_is_overloaded"}}"#, FailureKind::Server, RETRY),
            (529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#, FailureKind::Server, REFUSED),
        ] {
            assert_eq!(class_of(status, body), (kind, advice), "{status} {body}");
        }
    }

    #[test]
    fn messages_are_one_clean_line() {
        let page = ErrorBody::parse(b"<html>\n<h1>502\x1b[31m Bad</h1> <p>Gateway</p></html>");
        assert_eq!(
            classify(502, page, Pace::default()).failure.message,
            "the server answered 502: 502 [31m Bad Gateway"
        );
        let detail = ErrorBody::parse(br#"{"detail":"Not authenticated"}"#);
        assert_eq!(
            classify(400, detail, Pace::default()).failure.message,
            "the server answered 400: Not authenticated"
        );
    }
}
