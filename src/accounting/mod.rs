//! What a run consumed and how it went: a fold over facts about rows. Integers inside, rounded when printed.

mod facts;
mod latency;
mod saved;
mod summary;

pub use facts::{Facts, FailedRow};
pub use latency::Latencies;
pub use summary::{ErrorGroup, ModelTotals, RunFigures, Summary};
