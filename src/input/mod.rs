//! From files to records, and from a record to its request. Files of many formats become one sequence of rows, in
//! bounded memory: a row that cannot be read is a [`Row::Bad`](crate::domain::Row::Bad) and reading goes on, a file
//! that cannot be read is an [`InputError`] and ends the run.

mod body;
mod bytes;
mod csv_records;
mod error;
mod fault;
mod fields;
mod format;
mod inputs;
mod json;
mod json_element;
mod lines;
pub mod parameters;
mod plan;
mod resolve;
mod rows;
mod source;
mod table;
mod template;
#[cfg(test)]
mod testing;

pub use error::{InputError, InputProblem, UnusableInput};
pub use fault::RowFault;
pub use fields::Object;
pub use format::Format;
pub use inputs::{InputSettings, Inputs, ReadOnce};
pub use plan::{PlanSettings, Planned, Planner, Unplannable};
pub use rows::Rows;
pub use source::{Source, SourceError, SourceRow};
pub use template::Template;
