//! Requests a day: as many as are given in any 24 hours, counted by the hour.

use std::collections::VecDeque;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// What was sent in the last 24 hours.
#[derive(Debug)]
pub(super) struct Day {
    most: u64,
    sent: u64,
    /// When an hour began, and what was sent in it.
    hours: VecDeque<(f64, u64)>,
}

impl Day {
    pub(super) fn new(most: u64) -> Self {
        Self { most, sent: 0, hours: VecDeque::new() }
    }

    /// When the next request may go, if all of the day's are used up.
    pub(super) fn used_up_until(&mut self, now: f64) -> Option<f64> {
        while let Some((began, sent)) = self.hours.front().copied()
            && began + HOUR + DAY <= now
        {
            self.sent -= sent;
            self.hours.pop_front();
        }
        if self.sent < self.most {
            return None;
        }
        Some(self.hours.front().map_or(now + DAY, |(began, _)| began + HOUR + DAY))
    }

    pub(super) fn send(&mut self, now: f64) {
        self.sent += 1;
        match self.hours.back_mut() {
            Some((began, sent)) if now < *began + HOUR => *sent += 1,
            _ => self.hours.push_back((now, 1)),
        }
    }
}
