//! promptmill as its users see it: the compiled binary, files, exit codes, and servers of the tests' own on loopback.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a fixture that cannot go on fails its test at once")]

mod answer;
mod cli;
mod limited;
mod proxy;
mod random;
mod server;
mod wire;

mod architecture;
mod bad_input;
mod broken_connections;
mod continuing;
mod crashes;
mod faults;
mod fuzz;
mod help;
mod interrupts;
mod job_file;
mod machine;
mod main_job;
mod models;
mod outage;
mod pacing;
mod pool;
mod proof;
mod proxies;
mod report;
mod requests;
mod resilience;
mod resume;
mod resume_properties;
mod samples;
mod secrets;
mod security;
mod tail;
