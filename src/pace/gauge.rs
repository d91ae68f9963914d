//! How many requests are under way, for whoever watches. It decides nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Read by others while a run goes on; all in requests.
#[derive(Debug, Default)]
pub struct Gauge {
    in_flight: AtomicUsize,
    limit: AtomicUsize,
}

impl Gauge {
    /// Requests in flight: sent, or answered and not yet written.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many may be in flight now, over all endpoints.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, in_flight: usize, limit: usize) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }
}
