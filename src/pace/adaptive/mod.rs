//! How many requests may be in flight at an endpoint. A fixed number, or one that is found: it grows while the endpoint
//! does more for it, and shrinks while the endpoint does no less. It sends nothing and reads no clock.
//!
//! What is compared is throughput, and by Little's law that is the requests in flight over their latency. So a limit is
//! worth more than a smaller one only if latency grew by less than the limit did. Latency is compared for answers of
//! the same length, since a model's answer takes about as long as it has tokens ([`measure`]); the steps up and down
//! are in [`search`].

mod ceiling;
mod measure;
mod search;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

use search::Search;

/// One answer, as far as pace is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When the request was sent.
    pub sent: Instant,
    /// From sending to the last byte.
    pub latency: Duration,
    /// The completion's length as billed; `None` where there is none, as with embeddings.
    pub completion_tokens: Option<u64>,
    /// The requests at the endpoint when it was sent, itself among them; those answered and not yet written do not
    /// count. If this is below the limit, something else held the pool back and the sample says nothing about it.
    pub in_flight: usize,
}

/// How many requests may be in flight at one endpoint.
#[derive(Debug)]
pub struct Concurrency(Kind);

#[derive(Debug)]
enum Kind {
    Fixed(usize),
    Adaptive(Box<Search>),
}

impl Concurrency {
    /// Always so many; at least 1.
    #[must_use]
    pub fn fixed(limit: usize) -> Self {
        Self(Kind::Fixed(limit.max(1)))
    }

    /// As many as are worth it, from 1 to `most`.
    #[must_use]
    pub fn adaptive(most: usize) -> Self {
        Self(Kind::Adaptive(Box::new(Search::new(most.max(1)))))
    }

    /// The most requests that may be in flight now, at least 1.
    #[must_use]
    pub fn limit(&self) -> usize {
        match &self.0 {
            Kind::Fixed(limit) => *limit,
            Kind::Adaptive(search) => search.limit(),
        }
    }

    /// Whether the limit may change.
    #[must_use]
    pub fn is_adaptive(&self) -> bool {
        matches!(self.0, Kind::Adaptive(_))
    }

    /// The endpoint answered. Costs a few additions; something is decided once in a round trip at most.
    pub fn answered(&mut self, sample: Sample, now: Instant) {
        if let Kind::Adaptive(search) = &mut self.0 {
            search.answered(&sample, now);
        }
    }

    /// The endpoint had too much to do (503, 529, a timeout) for a request sent then. Refusals for pace (429) are none
    /// of this: how many a minute is not how many at once.
    pub fn overloaded(&mut self, sent: Instant, now: Instant) {
        if let Kind::Adaptive(search) = &mut self.0 {
            search.overloaded(sent, now);
        }
    }
}
