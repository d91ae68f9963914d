//! `promptmill models`.

use std::time::{Duration, SystemTime};

use super::args::ModelsArgs;
use super::connection;
use super::endpoints::EndpointOption;
use super::errors::{self, CliError};
use super::screen::{Screen, clean, clean_json, print_out};
use crate::provider::{Model, OpenAi};

pub(super) fn models(args: &ModelsArgs) -> Result<u8, CliError> {
    let endpoint = match args.connection.base_url.as_slice() {
        [] => EndpointOption::at(connection::usual_url()),
        [one] => EndpointOption::read(one)?,
        _ => return Err(CliError::usage("models looks at one endpoint; give one --base-url")),
    };
    let connection = connection::real(&args.connection, &endpoint, 1, &Screen::new(false))?;
    let provider = OpenAi::new(&connection, false)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    let answer = runtime.block_on(async {
        match &args.id {
            Some(id) => provider.model(id).await.map(|(model, body)| (vec![model], body)),
            None => provider.models().await,
        }
    });
    let (models, body) = answer.map_err(|failed| errors::refused(&failed.failure, &connection.base_url))?;
    let text = if args.json { clean_json(String::from_utf8_lossy(&body).trim_end()) } else { table(models) };
    print_out(&(text + "\n"))?;
    Ok(errors::OK)
}

fn table(mut models: Vec<Model>) -> String {
    models.sort_by(|a, b| a.id.cmp(&b.id));
    let mut rows = vec![["MODEL", "OWNER", "CREATED", "CONTEXT", "SHUTDOWN"].map(str::to_owned)];
    rows.extend(models.into_iter().map(|model| {
        [
            in_a_cell(&model.id),
            in_a_cell(&model.owned_by.unwrap_or_default()),
            model.created.map_or_else(String::new, day),
            model.max_model_len.map_or_else(String::new, crate::report::count),
            in_a_cell(&model.shutdown_date.unwrap_or_default()),
        ]
    }));
    // A column that no model fills is not shown.
    let shown: Vec<usize> =
        (0..5).filter(|at| *at == 0 || rows[1..].iter().any(|row| !row[*at].is_empty())).collect();
    let widths: Vec<usize> =
        shown.iter().map(|at| rows.iter().map(|row| row[*at].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 5]| {
        let cells = shown.iter().zip(&widths).map(|(at, width)| format!("{:<width$}", row[*at]));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn in_a_cell(text: &str) -> String {
    clean(text).replace('\n', " ")
}

fn day(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
        .map(|time| humantime::format_rfc3339_seconds(time).to_string()[..10].to_owned())
        .unwrap_or_default()
}
