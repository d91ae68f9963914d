//! What promptmill itself costs, beside a bare loop of the same requests in the same minute: `cargo bench --bench speed`,
//! or only some cases: `cargo bench --bench speed -- latency0 memory`.
//!
//! The server is this program run again, on a core of its own; so is the bare loop, which sends the same requests with
//! `reqwest` and throws the answers away. No program that uses that client can be much faster than it.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on ends here")]

mod bare;
mod cases;
mod measure;
mod server;

use cases::{CASES, Size};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => return server::serve(&arguments[1..]),
        Some("bare") => return bare::run(&arguments[1..]),
        _ => {}
    }
    // `cargo test` only looks whether it still works.
    let size = if arguments.iter().any(|argument| argument == "--bench") { Size::Whole } else { Size::Tiny };
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let is_known = |name: &&&String| CASES.iter().any(|case| case.name == name.as_str());
    if let Some(unknown) = wanted.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        println!("there is no case {unknown}; there are: {}", known.join(", "));
        return;
    }
    cases::print_heading();
    for case in CASES.iter().filter(|case| wanted.is_empty() || wanted.iter().any(|name| *name == case.name))
    {
        (case.run)(size);
    }
}
