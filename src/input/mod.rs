//! From files to records, and from a record to its request.

mod body;
mod fields;
pub mod parameters;
mod plan;
mod template;

pub use body::compact;
pub use plan::{PlanSettings, Planned, Planner};
pub use template::Template;
