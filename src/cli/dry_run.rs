//! `run --dry-run`: the requests as they would be sent, on standard output. Nothing is sent or written.

use super::errors::{self, CliError};
use super::screen::{clean, clean_json, print_out};
use crate::domain::{Failure, Row};
use crate::pipeline::Job;

pub(super) fn print(job: &Job, most: usize) -> Result<u8, CliError> {
    let mut failed = false;
    let skip = usize::try_from(job.selection.offset).unwrap_or(usize::MAX);
    let limit = job.selection.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    for row in job.inputs.rows().skip(skip).take(most.min(limit)) {
        let line = match row? {
            Row::Bad(bad) => Err(format!("{}: {}", bad.location, bad.message)),
            Row::Record(record) => job
                .planner
                .plan(record)
                .request
                .map(|request| {
                    let body = clean_json(&String::from_utf8_lossy(&request.body));
                    format!("POST {} {body}", request.endpoint.path())
                })
                .map_err(|Failure { message, .. }| message),
        };
        failed |= line.is_err();
        print_out(&(line.unwrap_or_else(|message| format!("error: {}", clean(&message))) + "\n"))?;
    }
    Ok(if failed { errors::SOME_FAILED } else { errors::OK })
}
