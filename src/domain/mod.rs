//! The words everything else is said in: records, requests, completions, usage, outcomes, events.
//! It imports nothing of ours, reads no file and sends nothing.

mod attempt;
mod completion;
mod endpoints;
mod event;
mod failure;
mod identity;
mod outcome;
mod rate;
mod record;
mod request;
mod secret;
mod units;
mod usage;

pub use attempt::{Advice, Answer, Attempt, AttemptFailure};
pub use completion::Completion;
pub use endpoints::{EndpointFigures, PaceLimit};
pub use event::{Event, Notice, Resumption};
pub use failure::{Failure, FailureKind};
pub use identity::{Identity, IdentityHasher, JobHash, RequestHash, RowSource, TextHash};
pub use outcome::{Outcome, Spent, StatusCounts};
pub use rate::{RateLimit, RateLimits};
pub use record::{BadRow, Location, Record, RecordBody, Row, RowId, TableRow};
pub use request::{Endpoint, Request};
pub use secret::{Redactor, Secret};
pub use units::{Tokens, Usd};
pub use usage::Usage;
