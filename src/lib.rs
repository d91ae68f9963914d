//! promptmill runs a dataset of prompts through a language-model API: every row is answered exactly once, as fast as
//! the endpoint allows, with every token accounted for. `ARCHITECTURE.md` has the map.

pub mod accounting;
pub mod cli;
pub mod domain;
pub mod input;
pub mod ledger;
pub mod output;
pub mod pace;
pub mod pipeline;
pub mod provider;
pub mod report;
pub mod sim;
