//! From the paths a user gave to files of known format. Every problem is collected; nothing is read.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::inputs::{InputFile, Place};
use super::{Format, InputProblem, UnusableInput};

/// How a user names standard input.
const STDIN: &str = "-";

/// As a shell matches: a star does not find hidden files.
const MATCHING: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

pub(super) fn resolve(
    paths: Vec<String>,
    format: Option<Format>,
) -> Result<Vec<InputFile>, Vec<UnusableInput>> {
    let mut resolution = Resolution { format, files: Vec::new(), problems: Vec::new() };
    for path in paths {
        resolution.add(path);
    }
    if resolution.problems.is_empty() { Ok(resolution.files) } else { Err(resolution.problems) }
}

struct Resolution {
    format: Option<Format>,
    files: Vec<InputFile>,
    problems: Vec<UnusableInput>,
}

impl Resolution {
    fn add(&mut self, path: String) {
        if path == STDIN {
            self.add_stdin();
        } else if is_pattern(&path) && !Path::new(&path).exists() {
            self.add_matches(&path);
        } else {
            self.add_file(PathBuf::from(path));
        }
    }

    fn add_stdin(&mut self) {
        if self.files.iter().any(|file| matches!(file.place, Place::Stdin)) {
            return self.refuse(STDIN, InputProblem::StdinAgain);
        }
        let format = self.format.unwrap_or(Format::Jsonl);
        self.files.push(InputFile { name: STDIN.into(), place: Place::Stdin, format });
    }

    /// The files that a pattern finds, which come sorted.
    fn add_matches(&mut self, pattern: &str) {
        let matches = match glob::glob_with(pattern, MATCHING) {
            Ok(matches) => matches,
            Err(error) => return self.refuse(pattern, InputProblem::BadPattern(error.msg)),
        };
        let mut found = Vec::new();
        for path in matches {
            match path {
                Ok(path) if path.is_dir() => {}
                Ok(path) => found.push(path),
                Err(error) => {
                    let path = error.path().display().to_string();
                    self.refuse(&path, InputProblem::Unreadable(error.into()));
                }
            }
        }
        if found.is_empty() {
            self.refuse(pattern, InputProblem::NothingMatches);
        }
        for path in found {
            self.add_file(path);
        }
    }

    fn add_file(&mut self, path: PathBuf) {
        let name = path.display().to_string();
        if let Err(problem) = check_readable(&path) {
            return self.refuse(&name, problem);
        }
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        match self.format.or_else(|| Format::of_file_name(&file_name)) {
            Some(format) => {
                self.files.push(InputFile { name: name.into(), place: Place::File(path), format });
            }
            None => self.refuse(&name, InputProblem::UnknownFormat),
        }
    }

    fn refuse(&mut self, path: &str, problem: InputProblem) {
        self.problems.push(UnusableInput { path: path.to_owned(), problem });
    }
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Only regular files are opened to try: opening a pipe would wait for its writer.
fn check_readable(path: &Path) -> Result<(), InputProblem> {
    let problem = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => InputProblem::Missing,
        _ => InputProblem::Unreadable(error),
    };
    let metadata = fs::metadata(path).map_err(problem)?;
    if metadata.is_dir() {
        return Err(InputProblem::Directory);
    }
    if metadata.is_file() {
        File::open(path).map_err(problem)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::input::testing::Files;
    use crate::input::{Format, InputSettings, Inputs};

    fn names(files: &Files, settings: InputSettings) -> Vec<String> {
        let inputs = Inputs::resolve(settings).unwrap();
        inputs.files().map(|path| files.shorten(path.to_str().unwrap())).collect()
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let files = Files::new(&[("a.jsonl", b""), ("a.xlsx", b"")]);
        std::fs::create_dir(files.path("folder.jsonl")).unwrap();
        let given =
            ["a.jsonl", "missing.jsonl", "folder.jsonl", "a.xlsx", "*.csv", "[.csv", "a.jsonl/b.jsonl"];
        let error = Inputs::resolve(files.settings(&given)).unwrap_err();
        let expected = "6 inputs cannot be used
  missing.jsonl: no such file
  folder.jsonl: is a directory; name its files, for example with a pattern like DIR/*.jsonl
  a.xlsx: the extension tells no known format (jsonl, json, csv, tsv, txt, each also with .gz or .zst behind it)
  *.csv: no file matches this pattern
  [.csv: is no pattern: invalid range pattern
  a.jsonl/b.jsonl: cannot be read: Not a directory (os error 20)";
        assert_eq!(files.shorten(&error.to_string()), expected);
        let hint = "say the format with --input-format: one of jsonl, json, csv, tsv, txt";
        assert_eq!(error.hint().as_deref(), Some(hint));
    }

    #[test]
    fn a_single_problem_stands_on_the_line_of_the_error() {
        let files = Files::new(&[]);
        let error = Inputs::resolve(files.settings(&["a.jsonl"])).unwrap_err();
        assert_eq!((files.shorten(&error.to_string()), error.hint()), ("a.jsonl: no such file".into(), None));
    }

    #[test]
    fn matches_are_sorted_without_folders_and_hidden_files() {
        let files = Files::new(&[("b.txt", b""), ("a.txt", b""), ("10.txt", b""), (".h.txt", b"")]);
        std::fs::create_dir(files.path("c.txt")).unwrap();
        assert_eq!(names(&files, files.settings(&["b.txt", "*.txt"])), ["b.txt", "10.txt", "a.txt", "b.txt"]);
    }

    #[test]
    fn a_file_that_is_named_like_a_pattern_is_itself() {
        let files = Files::new(&[("[ab].txt", b""), ("a.txt", b"")]);
        assert_eq!(names(&files, files.settings(&["[ab].txt"])), ["[ab].txt"]);
    }

    #[test]
    fn a_format_given_wins_over_any_name() {
        let files = Files::new(&[("a.xlsx", b"x\n1\n")]);
        let settings = InputSettings { format: Some(Format::Csv), ..files.settings(&["a.xlsx"]) };
        assert_eq!(Inputs::resolve(settings).unwrap().rows().count(), 1);
    }

    #[test]
    fn standard_input_can_be_named_once() {
        let stdin = |paths: &[&str]| InputSettings {
            paths: paths.iter().map(ToString::to_string).collect(),
            format: None,
            max_row_bytes: 1,
        };
        let inputs = Inputs::resolve(stdin(&["-"])).unwrap();
        assert_eq!(inputs.count(&false.into()).unwrap(), None);
        let error = Inputs::resolve(stdin(&["-", "-"])).unwrap_err().to_string();
        assert_eq!(error, "-: standard input is named more than once but can be read only once");
    }
}
