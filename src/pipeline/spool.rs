//! Standard input and pipes can be read once. For a job that reads its input twice, they are copied to files first.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::RunError;
use crate::input::{InputError, Inputs};

/// How long an interrupt is not noticed while the copy waits for its writer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Copies what can be read only once; the copies are gone with what is returned.
pub(super) fn copy_all(
    inputs: &mut Inputs,
    drain: &CancellationToken,
) -> Result<Vec<NamedTempFile>, RunError> {
    let mut copies = Vec::new();
    for once in inputs.read_once() {
        let name = once.name().to_owned();
        let cannot = |source| RunError::Spool { name: name.clone(), source };
        let copy = NamedTempFile::new().map_err(cannot)?;
        let mut file = copy.reopen().map_err(cannot)?;
        let (done, ended) = channel();
        let from = once.clone();
        // On a thread, which is left behind where an interrupt finds it waiting for its writer.
        let copying = move || done.send(from.copy_to(&mut file));
        std::thread::Builder::new().name("copier".into()).spawn(copying).map_err(cannot)?;
        loop {
            match ended.recv_timeout(LOOK_EVERY) {
                Ok(result) => break result.map_err(cannot)?,
                Err(RecvTimeoutError::Timeout) if !drain.is_cancelled() => {}
                Err(_) => return Err(InputError::Stopped.into()),
            }
        }
        inputs.replace(&once, copy.path().to_owned());
        copies.push(copy);
    }
    Ok(copies)
}
