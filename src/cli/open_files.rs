//! How many files and connections the system lets the program have open at once.

use super::errors::CliError;
use super::screen::Screen;

/// Files that are open beside the connections: standard streams, inputs, ledger, output, reports, what threads use to
/// wake each other, and what looking up a name takes.
const OTHER_FILES: usize = 32;

/// As many requests at once as there may be connections, of those asked for. The simulator has the other ends of them.
/// Who asked for a certain number is told.
pub(super) fn fitting(
    concurrency: usize,
    asked_for: bool,
    simulated: bool,
    screen: &Screen,
) -> Result<usize, CliError> {
    let files_each = if simulated { 2 } else { 1 };
    let wanted = concurrency.saturating_mul(files_each).saturating_add(OTHER_FILES);
    let Some(allowed) = allowed(wanted) else { return Ok(concurrency) };
    let most = allowed.saturating_sub(OTHER_FILES) / files_each;
    if most == 0 {
        let least = OTHER_FILES + files_each;
        let message = format!("the system allows {allowed} open files, which is not enough");
        return Err(
            CliError::failed(message).hint(format!("raise the limit with `ulimit -n`, at least to {least}"))
        );
    }
    if most < concurrency && asked_for {
        screen.say(&format!(
            "warning: the system allows {allowed} open files: at most {most} requests at once instead of \
             {concurrency}; `ulimit -n {wanted}` allows them"
        ));
    }
    Ok(concurrency.min(most))
}

/// How many files may be open, after asking for as many as are wanted; `None` for no limit.
#[cfg(unix)]
fn allowed(wanted: usize) -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let mut allowed = current;
    if current < wanted {
        let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }).is_ok() {
            allowed = raised;
        }
    }
    usize::try_from(allowed).ok()
}

#[cfg(not(unix))]
fn allowed(_: usize) -> Option<usize> {
    None
}
