//! Numbers as people read them.

use std::fmt::Write as _;
use std::time::Duration;

/// A count with commas: `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration of a run: `0.8s`, `12.3s`, `4m 05s`, `2h 03m`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match seconds {
        0..60 => write!(text, "{:.1}s", duration.as_secs_f64()),
        60..3600 => write!(text, "{}m {:02}s", seconds / 60, seconds % 60),
        _ => write!(text, "{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    };
    text
}

/// Milliseconds, in seconds where there are many: `0.42 ms`, `812 ms`, `12.3 s`.
#[must_use]
pub fn milliseconds(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.2} ms")
    } else if ms < 10_000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_every_size() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(duration(Duration::from_millis(59_940)), "59.9s");
        assert_eq!(duration(Duration::from_secs(245)), "4m 05s");
        assert_eq!(duration(Duration::from_secs(7400)), "2h 03m");
        assert_eq!([0.421, 812.4, 12_345.0].map(milliseconds), ["0.42 ms", "812 ms", "12.3 s"]);
    }
}
