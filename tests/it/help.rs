//! The README and the program say the same.

use std::collections::BTreeSet;
use std::fs;

use crate::cli::{Cli, package};

/// The long options in a text: `--` and a word in small letters.
fn flags(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut flags = BTreeSet::new();
    for (at, _) in text.match_indices("--") {
        let before = text[..at].chars().next_back();
        let name = text[at + 2..].split(|c| !is_part(c)).next().unwrap().trim_end_matches('-');
        if before.is_none_or(|c| !is_part(c)) && name.starts_with(|c: char| c.is_ascii_lowercase()) {
            flags.insert(format!("--{name}"));
        }
    }
    flags
}

/// The text without what is said to cargo: of `cargo run --release -- run x`, only what is behind the dashes.
fn said_to_promptmill(text: &str) -> String {
    let ours = |line: &str| match line.split_once("cargo ") {
        Some((before, cargo)) => format!("{before}{}", cargo.split_once(" -- ").map_or("", |(_, ours)| ours)),
        None => line.to_owned(),
    };
    text.lines().map(|line| ours(line) + "\n").collect()
}

/// The names under `Commands:` in the help.
fn commands(help: &str) -> Vec<&str> {
    let list = help.split("Commands:\n").nth(1).unwrap();
    let names = list.lines().take_while(|line| line.starts_with("  "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect()
}

#[test]
fn every_flag_that_the_readme_names_is_in_the_help_of_some_command() {
    let cli = Cli::new();
    let help = cli.run(&["-h"]).exits(0).stdout;
    let commands = commands(&help);
    assert!(commands.contains(&"run") && commands.contains(&"report"), "{help}");
    let mut known = flags(&help);
    for command in commands {
        known.extend(flags(&cli.run(&[command, "--help"]).exits(0).stdout));
    }
    let readme = fs::read_to_string(package().join("README.md")).unwrap();
    let named = flags(&said_to_promptmill(&readme));
    let unknown: Vec<&String> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "the README names flags that no command has: {unknown:?}");
}

#[test]
fn the_version_is_the_package_s() {
    let finished = Cli::new().run(&["--version"]).exits(0);
    assert_eq!(finished.stdout, format!("promptmill {}\n", env!("CARGO_PKG_VERSION")));
}
