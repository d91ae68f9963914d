//! The beginning of a run: the target opened, what earlier runs left looked through, and whether all of this may be.

use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::reading::Known;
use super::recording::{self, Before};
use super::survey::{self, Since};
use super::{EarlierAnswers, FileTarget, Job, RunError, Target, finishing, spool};
use crate::domain::{JobHash, Resumption};
use crate::ledger::{Earlier, Ledger, Opening};
use crate::output::{JsonlSink, OutputFormat};

/// What a run starts from.
pub(super) struct Opened {
    pub(super) target: recording::Target,
    pub(super) before: Before,
    /// What became of the rows of earlier runs, if there were any.
    pub(super) resumption: Option<Resumption>,
    pub(super) known: Known,
    /// Copies of what can be read only once, where it is read twice; gone with the run.
    pub(super) _copies: Vec<NamedTempFile>,
}

/// Opens the target, and looks at what has to be looked at before anything is sent.
pub(super) fn open(job: &mut Job, drain: &CancellationToken) -> Result<Opened, RunError> {
    match job.target.clone() {
        Target::File(target) => open_file(job, &target, drain),
        Target::Stdout => {
            let copies = if job.strict { spool::copy_all(&mut job.inputs, drain)? } else { Vec::new() };
            survey::survey(job, &mut Earlier::default(), None, &Since::default(), drain)?;
            Ok(Opened {
                target: recording::Target::Stdout(JsonlSink(std::io::stdout())),
                before: Before::default(),
                resumption: None,
                known: Known::default(),
                _copies: copies,
            })
        }
    }
}

fn open_file(job: &mut Job, target: &FileTarget, drain: &CancellationToken) -> Result<Opened, RunError> {
    let opening = Opening {
        overwrite: target.earlier == EarlierAnswers::StartOver,
        job: JobHash::of(&target.settings),
        durability: target.durability,
    };
    let (ledger, mut earlier) = Ledger::open(&target.path, &opening)?;
    let resumes = !earlier.is_empty();
    let reads_twice = job.strict || resumes;
    let copies = if reads_twice { spool::copy_all(&mut job.inputs, drain)? } else { Vec::new() };
    // What was written without its input gets it.
    let lacks_input = ledger.mark().is_some_and(|mark| mark.form & finishing::LACKS_INPUT != 0);
    let since = Since {
        changed: survey::changed_settings(ledger.settings().as_deref(), &target.settings),
        adds_input: job.with_input && lacks_input,
    };
    let stored = || if resumes { ledger.rows().map(Some) } else { Ok(None) };
    let before = job.inputs.state();
    let survey = survey::survey(job, &mut earlier, stored()?, &since, drain)?;
    if reads_twice && let Some(file) = job.inputs.changed_since(&before) {
        return Err(RunError::InputChanged(file));
    }
    ledger.write_settings(&serde_json::to_vec_pretty(&target.settings).unwrap_or_default())?;
    // A table's columns are found by reading its rows.
    let all_kept = survey.places.iter().all(|place| *place != 0) && target.format == OutputFormat::Jsonl;
    let outcomes = earlier.outcomes();
    let (unfinished, replaced) = earlier.into_rest();
    let known = Known {
        all_kept: survey.rows.filter(|_| resumes && all_kept),
        kept: Known::bits(&survey.places),
        marked: survey.marked,
        unfinished: unfinished.clone(),
        stored: stored()?,
    };
    Ok(Opened {
        target: recording::Target::Ledger(ledger),
        before: Before { places: survey.places, replaced, outcomes, unfinished },
        resumption: resumes.then_some(survey.resumption),
        known,
        _copies: copies,
    })
}
