//! What holds for whatever bytes a parser of foreign bytes is given: one module a target, each with `check`, which
//! panics where something does not hold. The fuzz targets call them with what libFuzzer makes up, `cargo test` with
//! the corpus and small changes of it.

pub mod csv_rows;
pub mod event_streams;
pub mod json_rows;
pub mod jsonl_rows;
pub mod ledger_lines;
pub mod pace_headers;
pub mod response_bodies;

mod reading;
mod writing;
