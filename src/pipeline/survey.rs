//! What is checked before anything is sent: with `--strict`, whether every row can become a request; on resuming,
//! whether this is still the same job.

use std::collections::BTreeMap;

use super::reading::{Naming, selected};
use super::{EarlierAnswers, Job, RunError, Target};
use crate::ledger::Earlier;

/// How many bad rows are shown.
const EXAMPLES: usize = 20;

/// Reads the whole input once, where there is something to check.
pub(super) fn check(job: &Job, earlier: &Earlier, changed: &[String]) -> Result<(), RunError> {
    let accepts_loss = match &job.target {
        Target::File(target) => target.earlier == EarlierAnswers::DropUnmatched,
        Target::Stdout => true,
    };
    let judge_answers = earlier.answered() > 0 && !accepts_loss;
    if !job.strict && !judge_answers {
        return Ok(());
    }
    let mut naming = Naming::default();
    let (mut rows, mut bad, mut matched) = (0, 0, 0);
    let mut examples = Vec::new();
    for (_, row) in selected(job.inputs.rows(), job.selection) {
        rows += 1;
        match naming.name(&job.planner, row?).request {
            Ok((identity, _)) => matched += u64::from(earlier.find(&identity).is_some_and(|found| found.ok)),
            Err(failure) => {
                bad += 1;
                if examples.len() < EXAMPLES {
                    examples.push(failure.message);
                }
            }
        }
    }
    if job.strict && bad > 0 {
        return Err(RunError::Strict { count: bad, rows, examples });
    }
    let unmatched = earlier.answered().saturating_sub(matched);
    match &job.target {
        Target::File(target) if judge_answers && unmatched * 2 > earlier.answered() => {
            Err(RunError::Unmatched {
                path: target.path.clone(),
                unmatched,
                answered: earlier.answered(),
                changed: changed.to_vec(),
            })
        }
        _ => Ok(()),
    }
}

/// What is different from the settings of the last run, as `name: before -> now`.
pub(super) fn changed_settings(before: Option<&[u8]>, now: &BTreeMap<String, String>) -> Vec<String> {
    let Some(before) = before.and_then(|text| serde_json::from_slice::<BTreeMap<String, String>>(text).ok())
    else {
        return Vec::new();
    };
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let value = |settings: &BTreeMap<String, String>, name: &String| {
        settings.get(name).map_or_else(|| "not set".to_owned(), Clone::clone)
    };
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| format!("{name}: {} -> {}", value(&before, name), value(now, name)))
        .collect()
}
