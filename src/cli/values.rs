//! Values of options: durations, sizes, JSON, counts.

use std::time::Duration;

use serde_json::Value;

use crate::domain::FailureKind;
use crate::ledger::Durability;
use crate::pace::Hedge;
use crate::pipeline::{MaxFailures, RetryFailed};

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "not a duration; write 250ms, 30s or 5m".to_owned())
}

/// `all`, `none`, or kinds of failure with commas between them.
pub(super) fn retry_failed(text: &str) -> Result<RetryFailed, String> {
    match text {
        "all" => return Ok(RetryFailed::All),
        "none" => return Ok(RetryFailed::Only(Vec::new())),
        _ => {}
    }
    let kind = |name: &str| {
        FailureKind::ALL.into_iter().find(|kind| kind.name() == name.trim()).ok_or_else(|| {
            let known: Vec<&str> = FailureKind::ALL.iter().map(|kind| kind.name()).collect();
            format!("{name:?} is no kind of failure; known are all, none, {}", known.join(", "))
        })
    };
    text.split(',').map(kind).collect::<Result<_, _>>().map(RetryFailed::Only)
}

pub(super) fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "off" => Ok(Durability::Off),
        "row" => Ok(Durability::Row),
        _ => match humantime::parse_duration(text) {
            Ok(pause) if pause.is_zero() => Ok(Durability::Row),
            Ok(pause) => Ok(Durability::Every(pause)),
            Err(_) => Err("write off, row, or a time such as 1s".to_owned()),
        },
    }
}

pub(super) fn number(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Number(_)) => Ok(value),
        _ => Err("not a number".to_owned()),
    }
}

pub(super) fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON ({error})"))
}

/// `json_object` and `text` stand for the objects that only name a type.
pub(super) fn response_format(text: &str) -> Result<Value, String> {
    match text {
        "json_object" | "text" => Ok(serde_json::json!({ "type": text })),
        _ if text.starts_with('{') => json(text),
        _ => Err("not `json_object`, `text`, or an object like {\"type\": …}".to_owned()),
    }
}

pub(super) fn parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=JSON")?;
    let value = serde_json::from_str(value)
        .map_err(|_| format!("the value of {name} is not JSON; a string needs its quotes: {name}='\"…\"'"))?;
    Ok((name.to_owned(), value))
}

pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A size in bytes: `4096`, `64KiB`, `16MiB`, `2GB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("not a size; write 64KiB, 16MiB or 1GiB".to_owned()),
    };
    let number: u64 =
        digits.trim().parse().map_err(|_| "not a size; write 64KiB, 16MiB or 1GiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// The most requests in flight; `None` is `auto`.
pub(super) fn concurrency(text: &str) -> Result<Option<usize>, String> {
    match text {
        "auto" => Ok(None),
        _ => match text.parse() {
            Ok(number @ 1..) => Ok(Some(number)),
            _ => Err("not `auto` or a whole number from 1 on".to_owned()),
        },
    }
}

pub(super) fn max_failures(text: &str) -> Result<MaxFailures, String> {
    if text == "none" {
        return Ok(MaxFailures::Unlimited);
    }
    match text.strip_suffix('%') {
        Some(percent) => match percent.trim().parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(MaxFailures::Share(percent / 100.0)),
            _ => Err("not a share from 0% to 100%".to_owned()),
        },
        None => text
            .parse()
            .map(MaxFailures::Count)
            .map_err(|_| "not a count, a share like 5%, or `none`".to_owned()),
    }
}

/// `off`, a share of the answers such as `P99`, or a time.
pub(super) fn hedge(text: &str) -> Result<Hedge, String> {
    if text == "off" {
        return Ok(Hedge::Off);
    }
    if let Some(percent) = text.strip_prefix(['p', 'P']) {
        return match percent.parse::<f64>() {
            Ok(percent) if (50.0..100.0).contains(&percent) => Ok(Hedge::Share(percent / 100.0)),
            _ => Err("not a share from P50 to P99.99".to_owned()),
        };
    }
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(Hedge::After(time)),
        _ => Err("write P99, a time such as 30s, or off".to_owned()),
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("not a share from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_limits_are_read_as_people_write_them() {
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("4096"), Ok(4096));
        assert!(size("many").is_err() && size("1TiB").is_err() && size("-1").is_err());
        assert_eq!(concurrency("auto"), Ok(None));
        assert!(concurrency("0").is_err());
        assert_eq!(hedge("P99"), Ok(Hedge::Share(0.99)));
        assert_eq!(hedge("30s"), Ok(Hedge::After(Duration::from_secs(30))));
        assert!(hedge("p100").is_err() && hedge("0s").is_err() && hedge("often").is_err());
        assert_eq!(max_failures("5%"), Ok(MaxFailures::Share(0.05)));
        assert_eq!(max_failures("7"), Ok(MaxFailures::Count(7)));
        assert!(max_failures("101%").is_err());
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parameter("top_k=5"), Ok(("top_k".to_owned(), Value::from(5))));
        assert!(parameter("mode=fast").is_err());
    }
}
