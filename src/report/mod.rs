//! A summary as text, JSON or Markdown: pure functions, nothing is read or printed here.

mod json;
mod markdown;
mod number;
mod text;

pub use json::to_json;
pub use markdown::to_markdown;
pub use number::{count, duration, milliseconds};
pub use text::to_text;
