//! Retry-After and rate-limit headers: a wait that the clock can count, or none.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use promptmill::provider::{rate_limits, retry_after};

const MILLISECONDS: &str = "retry-after-ms";
const SECONDS: &str = "retry-after";

pub fn check(data: &[u8]) {
    let headers = parse(data);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_392_000);
    let after = retry_after(&headers, now);
    check_wait(after);
    check_unreadable_is_absent(&headers, now, after);
    if !headers.contains_key(MILLISECONDS)
        && let Some(said) = headers.get(SECONDS).and_then(|value| value.to_str().ok())
        && let Ok(seconds @ 0..86_400) = said.trim().parse::<u64>()
    {
        assert_eq!(after, Some(Duration::from_secs(seconds)));
    }
    let limits = rate_limits(&headers, now).unwrap_or_default();
    let wait = limits.exhausted;
    for wait in [wait, limits.requests.reset, limits.tokens.reset] {
        check_wait(wait);
    }
    assert!(limits.requests.limit != Some(0) && limits.tokens.limit != Some(0), "a limit of nothing");
    let used_up = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().starts_with("x-ratelimit-remaining-") || name.as_str().ends_with("-remaining"))
            && value.to_str().is_ok_and(|value| value.trim().parse::<i64>().is_ok_and(|left| left <= 0))
    };
    assert!(wait.is_none() || headers.iter().any(used_up), "a limit is used up that no header names");
}

/// Headers as they stand in a response, a line each; what can be none is left out.
fn parse(data: &[u8]) -> HeaderMap {
    let line = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    };
    data.split(|byte| *byte == b'\n').take(100).filter_map(line).fold(
        HeaderMap::new(),
        |mut all, (name, value)| {
            all.append(name, value);
            all
        },
    )
}

/// Whoever waits adds jitter and asks the clock when that is: neither may overflow.
fn check_wait(wait: Option<Duration>) {
    let Some(wait) = wait else { return };
    let with_jitter = wait.checked_add(wait).expect("a wait and its jitter are a duration");
    assert!(Instant::now().checked_add(with_jitter).is_some(), "{wait:?} is past the end of the clock");
}

/// What cannot be read is as if it were not there.
fn check_unreadable_is_absent(headers: &HeaderMap, now: SystemTime, after: Option<Duration>) {
    let only = |name: &str| {
        let mut one = HeaderMap::new();
        if let Some(value) = headers.get(name) {
            one.insert(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value.clone());
        }
        retry_after(&one, now)
    };
    assert_eq!(after, only(MILLISECONDS).or_else(|| only(SECONDS)));
}
