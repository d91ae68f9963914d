//! The rooms of the house and the doors between them: who may import whom. And that what is written down is so.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::package;

/// Each room under `src/`, and the rooms that it may import. Imports run downwards.
const DOORS: [(&str, &[&str]); 11] = [
    ("domain", &[]),
    ("input", &["domain"]),
    ("provider", &["domain"]),
    ("pace", &["domain"]),
    ("ledger", &["domain"]),
    ("output", &["domain"]),
    ("accounting", &["domain"]),
    ("sim", &["domain"]),
    ("report", &["domain", "accounting"]),
    ("pipeline", &["domain", "input", "provider", "pace", "ledger", "output", "accounting", "sim", "report"]),
    (
        "cli",
        &[
            "domain",
            "input",
            "provider",
            "pace",
            "ledger",
            "output",
            "accounting",
            "sim",
            "report",
            "pipeline",
        ],
    ),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The room that a file belongs to: the first part of its path under `src/`.
fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix(package().join("src")).unwrap();
    Path::new(inside.components().next().unwrap().as_os_str())
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// The rooms named behind `crate::` in the code of a file, tests and comments left out.
fn imports(code: &str) -> Vec<String> {
    let code = code.split("#[cfg(test)]").next().unwrap();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut rooms = Vec::new();
    for (at, marker) in code.match_indices("crate::") {
        let path = &code[at + marker.len()..];
        match path.strip_prefix('{') {
            Some(group) => rooms.extend(names_at_the_top(group)),
            None => rooms.push(first_name(path)),
        }
    }
    rooms
}

/// The first names in `a::{b, c}, d::e}`: `a` and `d`.
fn names_at_the_top(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(first_name(group[start..at].trim()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_run_downwards() {
    let mut wrong = Vec::new();
    for file in sources(&package().join("src")) {
        let room = room_of(&file);
        if room == "lib" || room == "main" {
            continue;
        }
        let Some((_, doors)) = DOORS.iter().find(|(known, _)| *known == room) else {
            panic!("src/{room} is no room of the table; give it a place there and in ARCHITECTURE.md");
        };
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            if import != room && !doors.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_program_knows_nothing_of_the_library_but_its_command_line() {
    let main = fs::read_to_string(package().join("src/main.rs")).unwrap();
    let named: Vec<String> =
        main.match_indices("promptmill::").map(|(at, path)| first_name(&main[at + path.len()..])).collect();
    assert!(named.iter().all(|name| name == "cli"), "{named:?}");
}

#[test]
fn imports_are_found_however_they_are_written() {
    let code = "use crate::domain::Row;\n// crate::cli\nuse crate::{\n    input::{A, b::C},\n    pace,\n};\n\
        fn f() -> crate::ledger::Ledger {}\n#[cfg(test)]\nuse crate::sim;";
    assert_eq!(imports(code), ["domain", "input", "pace", "ledger"]);
}

#[test]
fn every_test_that_the_list_of_faults_names_is_there() {
    let list = fs::read_to_string(package().join("FAULTS.md")).unwrap();
    let sources: String = fs::read_dir(package().join("tests/it"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let named: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("| fault") && !line.starts_with("|--"))
        .map(|line| line.trim_end_matches('|').rsplit('|').next().unwrap().trim())
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for test in named.iter().flat_map(|cell| cell.split(", ")) {
        let name = test.trim_matches('`').rsplit("::").next().unwrap();
        assert!(sources.contains(&format!("fn {name}()")), "FAULTS.md names {test}, which is no test");
    }
}
