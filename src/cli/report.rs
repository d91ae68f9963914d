//! `promptmill report`, and the report files of `run`.

use std::fs;
use std::path::{Path, PathBuf};

use super::args::ReportArgs;
use super::errors::{self, CliError};
use super::screen::{clean, clean_json, print_out};
use crate::accounting::Summary;
use crate::pipeline::replay;
use crate::report::{to_json, to_markdown, to_text};

const KNOWN: &str = "known are .json and .md";

pub(super) fn report(args: &ReportArgs) -> Result<u8, CliError> {
    check_targets(&args.report)?;
    let summary = replay(&args.outputs).map_err(|error| CliError::of(&error))?;
    write(&summary, &args.report)?;
    print_out(&if args.json { clean_json(&to_json(&summary)) } else { clean(&to_text(&summary)) })?;
    Ok(errors::OK)
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(|extension| extension.to_str())
}

/// Finds out before a run whether its reports can be written after it.
pub(super) fn check_targets(paths: &[PathBuf]) -> Result<(), CliError> {
    for path in paths {
        if !matches!(extension(path), Some("json" | "md")) {
            let message = format!("--report {}: its extension is no format of a report", path.display());
            return Err(CliError::usage(message).hint(KNOWN));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(CliError::failed(format!("--report {}: there is no such folder", path.display())));
        }
    }
    Ok(())
}

pub(super) fn write(summary: &Summary, paths: &[PathBuf]) -> Result<(), CliError> {
    for path in paths {
        let text = if extension(path) == Some("json") { to_json(summary) } else { to_markdown(summary) };
        fs::write(path, text).map_err(|error| {
            CliError::failed(format!("cannot write the report {}: {error}", path.display()))
        })?;
    }
    Ok(())
}
