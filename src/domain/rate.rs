//! What a server says about the limits on pace.

use std::time::Duration;

/// One limit as a response tells of it. Servers leave parts out, count in windows of their own, and answers come back
/// out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// What may come in a window: a minute at most servers, a day at some.
    pub limit: Option<u64>,
    /// What may still come now; what is over the limit counts as 0.
    pub remaining: Option<u64>,
    /// How long until all of it may come again.
    pub reset: Option<Duration>,
}

/// The limits that a response tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of requests.
    pub requests: RateLimit,
    /// Of tokens, prompt and completion together.
    pub tokens: RateLimit,
    /// How long until any limit that is used up comes back, those of a project or of one kind of token among them.
    pub exhausted: Option<Duration>,
}

impl RateLimit {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// How long until it comes back, if it is used up.
    #[must_use]
    pub fn exhausted(&self) -> Option<Duration> {
        self.reset.filter(|_| self.remaining == Some(0))
    }
}
