//! What the headers of a response say about pace.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::domain::{RateLimit, RateLimits};

/// A server that asks for longer means never; what is added to a wait and to the clock must not overflow.
const LONGEST_WAIT: Duration = Duration::from_hours(366 * 24);

/// How long the server asks to wait: `retry-after-ms` (milliseconds) before `Retry-After` (seconds or an HTTP date,
/// RFC 9110 section 10.2.3). What cannot be read is as if it were not there.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let milliseconds = || seconds(text(headers, "retry-after-ms")?.parse::<f64>().ok()? / 1000.0);
    let seconds_or_date = || {
        let value = text(headers, "retry-after")?;
        match value.parse::<f64>() {
            Ok(number) => seconds(number),
            Err(_) => {
                let date = httpdate::parse_http_date(value).ok()?;
                Some(date.duration_since(now).unwrap_or_default())
            }
        }
    };
    milliseconds().or_else(seconds_or_date).map(|wait| wait.min(LONGEST_WAIT))
}

/// What the headers tell of limits: `x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens}` as OpenAI and
/// its like write them, and `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`.
/// `None` where no such header can be read.
#[must_use]
pub fn rate_limits(headers: &HeaderMap, now: SystemTime) -> Option<RateLimits> {
    let mut said = Said::default();
    // Once over the headers, of which there are few: cheaper than a look-up of each of the many names.
    for (name, value) in headers {
        let Some((part, kind)) = part_and_kind(name.as_str()) else { continue };
        let Some(value) = value.to_str().ok().map(str::trim) else { continue };
        let limit = said.of(kind);
        match part {
            Part::Limit => limit.limit = count(value).filter(|limit| *limit > 0).or(limit.limit),
            Part::Remaining => limit.remaining = count(value).or(limit.remaining),
            Part::Reset => limit.reset = reset(value, now).or(limit.reset),
        }
    }
    said.together()
}

#[derive(Clone, Copy)]
enum Part {
    Limit,
    Remaining,
    Reset,
}

#[derive(Clone, Copy)]
enum Kind {
    Requests,
    Tokens,
    ProjectTokens,
    /// Of input or of output only: a limit that our sums of both cannot be held against.
    SomeTokens,
}

fn part_and_kind(name: &str) -> Option<(Part, Kind)> {
    let (part, kind) = match name.strip_prefix("x-ratelimit-") {
        Some(rest) => rest.split_once('-')?,
        None => {
            let (kind, part) = name.strip_prefix("anthropic-ratelimit-")?.rsplit_once('-')?;
            (part, kind)
        }
    };
    let part = match part {
        "limit" => Part::Limit,
        "remaining" => Part::Remaining,
        "reset" => Part::Reset,
        _ => return None,
    };
    let kind = match kind {
        "requests" => Kind::Requests,
        "tokens" => Kind::Tokens,
        "project-tokens" => Kind::ProjectTokens,
        "input-tokens" | "output-tokens" => Kind::SomeTokens,
        _ => return None,
    };
    Some((part, kind))
}

#[derive(Default)]
struct Said {
    requests: RateLimit,
    tokens: RateLimit,
    project_tokens: RateLimit,
    some_tokens: RateLimit,
}

impl Said {
    fn of(&mut self, kind: Kind) -> &mut RateLimit {
        match kind {
            Kind::Requests => &mut self.requests,
            Kind::Tokens => &mut self.tokens,
            Kind::ProjectTokens => &mut self.project_tokens,
            Kind::SomeTokens => &mut self.some_tokens,
        }
    }

    fn together(self) -> Option<RateLimits> {
        let all = [self.requests, self.tokens, self.project_tokens, self.some_tokens];
        if all.iter().all(RateLimit::is_unknown) {
            return None;
        }
        let exhausted = all.iter().filter_map(RateLimit::exhausted).max();
        // The smaller of two limits on the same tokens is the one that counts.
        let tokens = match (self.tokens.limit, self.project_tokens.limit) {
            (Some(own), Some(project)) if project < own => self.project_tokens,
            (None, Some(_)) => self.project_tokens,
            _ => self.tokens,
        };
        Some(RateLimits { requests: self.requests, tokens, exhausted })
    }
}

/// A count; some servers go below 0.
fn count(value: &str) -> Option<u64> {
    value.parse::<u64>().ok().or_else(|| value.parse::<i64>().ok().map(|_| 0))
}

/// A reset as the providers write it: a Go duration (`6m0s`, `120ms`), seconds (Azure, also 0 and -1), or a time
/// (Anthropic, RFC 3339).
fn reset(value: &str, now: SystemTime) -> Option<Duration> {
    let wait = match value.parse::<f64>() {
        Ok(number) => seconds(number.max(0.0)),
        Err(_) if value.contains('T') => {
            let time = humantime::parse_rfc3339_weak(value).ok()?;
            Some(time.duration_since(now).unwrap_or_default())
        }
        Err(_) => humantime::parse_duration(value).ok(),
    };
    wait.map(|wait| wait.min(LONGEST_WAIT))
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn every_form_of_retry_after_is_read() {
        let now = httpdate::parse_http_date("Mon, 23 Nov 2026 12:00:00 GMT").unwrap();
        for (pairs, expected) in [
            (&[("retry-after", "56")][..], Some(Duration::from_secs(56))),
            (&[("retry-after", "0.25")], Some(Duration::from_millis(250))),
            (&[("retry-after", "30"), ("retry-after-ms", "1500")], Some(Duration::from_millis(1500))),
            (&[("retry-after", "Mon, 23 Nov 2026 12:00:07 GMT")], Some(Duration::from_secs(7))),
            (&[("retry-after", "Mon, 23 Nov 2026 11:00:00 GMT")], Some(Duration::ZERO)),
            (&[("retry-after", "-3")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "1e300")], None),
            (&[("retry-after", "18446744073709549568")], Some(LONGEST_WAIT)),
            (&[("retry-after", "30"), ("retry-after-ms", "-1")], Some(Duration::from_secs(30))),
            (&[("retry-after", "soon")], None),
            (&[], None),
        ] {
            assert_eq!(retry_after(&headers(pairs), now), expected, "{pairs:?}");
        }
    }

    fn limits(pairs: &[(&'static str, &'static str)]) -> Option<RateLimits> {
        let now = humantime::parse_rfc3339("2026-11-23T12:00:00Z").unwrap();
        rate_limits(&headers(pairs), now)
    }

    #[test]
    fn a_limit_that_is_used_up_says_until_when() {
        let exhausted = |pairs| limits(pairs).and_then(|limits| limits.exhausted);
        let used_up = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
        assert_eq!(exhausted(&used_up), Some(Duration::from_secs(360)));
        let forever = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1e19")];
        assert_eq!(exhausted(&forever), Some(LONGEST_WAIT));
        let azure = [("x-ratelimit-remaining-requests", "-2"), ("x-ratelimit-reset-requests", "-1")];
        assert_eq!(exhausted(&azure), Some(Duration::ZERO));
        let some_left = [("x-ratelimit-remaining-tokens", "1"), ("x-ratelimit-reset-tokens", "1s")];
        assert_eq!(exhausted(&some_left), None);
        let project = [
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "120ms"),
            ("x-ratelimit-remaining-project-tokens", "0"),
            ("x-ratelimit-reset-project-tokens", "16m17.764s"),
        ];
        assert_eq!(exhausted(&project), Some(Duration::from_millis(977_764)));
    }

    #[test]
    fn limits_are_read_in_all_their_forms() {
        let openai = [
            ("x-ratelimit-limit-requests", "600"),
            ("x-ratelimit-remaining-requests", "9"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "60000"),
            ("x-ratelimit-limit-project-tokens", "30000"),
            ("x-ratelimit-remaining-project-tokens", "nothing"),
            ("date", "now"),
        ];
        let requests =
            RateLimit { limit: Some(600), remaining: Some(9), reset: Some(Duration::from_millis(120)) };
        let tokens = RateLimit { limit: Some(30_000), ..RateLimit::default() };
        assert_eq!(limits(&openai), Some(RateLimits { requests, tokens, exhausted: None }));

        let anthropic = [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-11-23T12:00:01Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-11-23T12:00:30.5Z"),
        ];
        let requests =
            RateLimit { limit: Some(50), remaining: Some(49), reset: Some(Duration::from_secs(1)) };
        let exhausted = Some(Duration::from_millis(30_500));
        let tokens = RateLimit::default();
        assert_eq!(limits(&anthropic), Some(RateLimits { requests, tokens, exhausted }));

        assert_eq!(limits(&[("x-ratelimit-limit-requests", "-1"), ("x-ratelimit-limit", "7")]), None);
        assert_eq!(limits(&[("x-ratelimit-limit-requests", "0")]), None, "some write 0 for no limit");
    }
}
