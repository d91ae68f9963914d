//! One request, one attempt: what goes over the wire and what comes back. It never decides whether to try again.

mod answer;
mod broken;
mod connections;
mod errors;
mod headers;
mod http;
mod models;
mod openai;
mod stream;
mod usual;

use std::future::Future;

use crate::domain::{Attempt, Request};

pub use answer::read as read_answer;
pub use errors::{ErrorBody, Pace, classify};
pub use headers::{rate_limits, retry_after};
pub use http::{ConnectionError, ConnectionSettings};
pub use models::Model;
pub use openai::OpenAi;
pub use stream::read as read_stream;

/// An API that answers requests.
pub trait Provider: Send + Sync + 'static {
    /// Sends a request once. Whatever happens is in the attempt: this never fails otherwise and ends within the
    /// connection's time limit.
    fn attempt(&self, request: &Request) -> impl Future<Output = Attempt> + Send;
}
