//! When and how often: how long a row waits before it goes again, where it goes, and when nobody may go at all.

mod adaptive;
mod admission;
mod gate;
mod gauge;
mod hedge;
mod lane;
mod limits;
mod retry;

pub use admission::{Admission, AdmissionSettings, Leave, NoWay};
pub use gate::GateSettings;
pub use gauge::Gauge;
pub use hedge::{Hedge, Stragglers};
pub use lane::{InFlight, LaneSettings, News};
pub use limits::{GivenLimits, Size};
pub use retry::{Decision, Patience, RetrySettings};
