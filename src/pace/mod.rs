//! When and how often: how long a row waits before it goes again, and when nobody may go at all.

mod gate;
mod retry;

pub use gate::{Gate, GateSettings, Pass, TooLong};
pub use retry::{Decision, Patience, RetrySettings};
