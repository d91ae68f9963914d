//! What the headers of a response say about pace.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

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

/// How long until a limit that is used up comes back, by `x-ratelimit-remaining-*` and `x-ratelimit-reset-*`; `None`
/// while no limit is used up.
#[must_use]
pub fn exhausted(headers: &HeaderMap) -> Option<Duration> {
    ["requests", "tokens", "project-tokens"]
        .into_iter()
        .filter(|kind| {
            let remaining = text(headers, &format!("x-ratelimit-remaining-{kind}"));
            remaining.and_then(|value| value.parse::<i64>().ok()).is_some_and(|remaining| remaining <= 0)
        })
        .filter_map(|kind| reset(text(headers, &format!("x-ratelimit-reset-{kind}"))?))
        .max()
        .map(|wait| wait.min(LONGEST_WAIT))
}

/// A reset as the providers write it: a Go duration (`6m0s`, `120ms`), or seconds (Azure, also 0 and -1).
fn reset(value: &str) -> Option<Duration> {
    match value.parse::<f64>() {
        Ok(number) => seconds(number.max(0.0)),
        Err(_) => humantime::parse_duration(value).ok(),
    }
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

    #[test]
    fn a_limit_that_is_used_up_says_until_when() {
        let used_up = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
        assert_eq!(exhausted(&headers(&used_up)), Some(Duration::from_secs(360)));
        let forever = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "1e19")];
        assert_eq!(exhausted(&headers(&forever)), Some(LONGEST_WAIT));
        let azure = [("x-ratelimit-remaining-requests", "-2"), ("x-ratelimit-reset-requests", "-1")];
        assert_eq!(exhausted(&headers(&azure)), Some(Duration::ZERO));
        let some_left = [("x-ratelimit-remaining-tokens", "1"), ("x-ratelimit-reset-tokens", "1s")];
        assert_eq!(exhausted(&headers(&some_left)), None);
    }
}
