//! `--job FILE`: options from a TOML file. Its keys are turned into options in front of those that were typed, so that
//! what an option means, and what may stand in it, is said in one place.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::CliError;

/// Two names are taken for each other if they are at least this alike, from 0 to 1.
const ALIKE: f64 = 0.75;

/// Options that make no sense in a file.
const NOT_IN_A_FILE: [&str; 3] = ["job", "help", "version"];

/// The command line with the options of its job file in it.
pub(super) struct Merged {
    pub(super) arguments: Vec<OsString>,
    file: String,
    /// The line of each option that is from the file.
    lines: BTreeMap<String, usize>,
}

/// Puts the options of the job file, if one is named, into a command line.
///
/// # Errors
/// The file cannot be read, or has what is no option.
pub(super) fn merge(arguments: Vec<OsString>, program: &Command) -> Result<Option<Merged>, CliError> {
    // What is typed need not be complete: the file may have the rest.
    let Ok(typed) = program.clone().ignore_errors(true).try_get_matches_from(&arguments) else {
        return Ok(None);
    };
    let Some((name, typed)) = typed.subcommand() else { return Ok(None) };
    let Some(command) = program.find_subcommand(name) else { return Ok(None) };
    let Ok(Some(path)) = typed.try_get_one::<std::path::PathBuf>("job") else { return Ok(None) };
    let is_typed = |id: &str| typed.value_source(id) == Some(ValueSource::CommandLine);
    let given: BTreeSet<&str> =
        command.get_arguments().map(|arg| arg.get_id().as_str()).filter(|id| is_typed(id)).collect();
    let file = path.display().to_string();
    let text = read(path)?;
    let reader = Reader { file: &file, text: &text, command, given: &given };
    let options = reader.options()?;
    let mut merged = Merged { arguments, file, lines: BTreeMap::new() };
    let place = merged.arguments.iter().position(|argument| argument == name).map_or(1, |at| at + 1);
    let mut inserted = Vec::new();
    for Opt { name, line, arguments } in options {
        merged.lines.insert(name, line);
        inserted.extend(arguments.into_iter().map(OsString::from));
    }
    merged.arguments.splice(place..place, inserted);
    Ok(Some(merged))
}

fn read(path: &Path) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|error| CliError::failed(format!("--job {}: {error}", path.display())))
}

impl Merged {
    /// What is wrong, with the line of the file where the option is from there.
    pub(super) fn error(&self, error: &clap::Error) -> Option<CliError> {
        let ContextValue::String(option) = error.get(ContextKind::InvalidArg)? else { return None };
        let name = option.split([' ', '=']).next()?.trim_start_matches('-');
        let line = self.lines.get(name)?;
        let what = error.to_string();
        let what = what.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Some(CliError::usage(format!("{}:{line}: {what}", self.file)))
    }
}

/// An option of the file.
struct Opt {
    name: String,
    line: usize,
    arguments: Vec<String>,
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    command: &'a Command,
    /// Options that are typed: they win.
    given: &'a BTreeSet<&'a str>,
}

impl Reader<'_> {
    fn options(&self) -> Result<Vec<Opt>, CliError> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let (line, column) = self.place(error.span().map_or(0, |span| span.start));
            let what = error.message().replace('\n', ", ");
            CliError::usage(format!("{}:{line}:{column}: no TOML: {what}", self.file))
        })?;
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut options = Vec::new();
        for (key, value) in entries {
            options.extend(self.option(key.get_ref(), key.span().start, value)?);
        }
        Ok(options)
    }

    fn option(&self, key: &str, at: usize, value: &Spanned<DeValue<'_>>) -> Result<Option<Opt>, CliError> {
        let line = self.place(at).0;
        let wrong = |what: String| CliError::usage(format!("{}:{line}: {key}: {what}", self.file));
        if key == "api_key" {
            return Err(wrong("a key does not belong into a file".into())
                .hint("api_key_env names the variable that has it, api_key_file its file"));
        }
        let (name, arguments) = match (key, value.get_ref()) {
            ("input" | "inputs", value) => ("inputs".to_owned(), texts(value).map_err(wrong)?),
            ("params", DeValue::Table(table)) => {
                let param = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                    Ok(format!("--param={}={}", name.get_ref(), json(value.get_ref())?))
                };
                ("param".to_owned(), table.iter().map(param).collect::<Result<_, _>>().map_err(wrong)?)
            }
            ("endpoints", value) => ("base-url".to_owned(), self.endpoints(value, line)?),
            _ => {
                let name = key.replace('_', "-");
                let known =
                    |arg: &&Arg| arg.get_long() == Some(&*name) && !NOT_IN_A_FILE.contains(&name.as_str());
                let Some(arg) = self.command.get_arguments().find(known) else {
                    return Err(wrong("no such option".into()).hint(self.suggestion(&name)));
                };
                let arguments = arguments_of(arg, &name, value.get_ref()).map_err(wrong)?;
                (name, arguments)
            }
        };
        Ok((!self.is_given(&name)).then_some(Opt { name, line, arguments }))
    }

    /// Whether an option is typed, or one that goes against it.
    fn is_given(&self, name: &str) -> bool {
        let named = |arg: &&Arg| arg.get_long() == Some(name) || arg.get_id() == name;
        let Some(arg) = self.command.get_arguments().find(named) else { return false };
        let id = |arg: &Arg| arg.get_id().as_str().to_owned();
        let conflicts = self.command.get_arguments().filter(|other| {
            let with = |one: &Arg, two: &Arg| {
                self.command.get_arg_conflicts_with(one).iter().any(|other| other.get_id() == two.get_id())
            };
            with(arg, other) || with(other, arg)
        });
        conflicts.map(id).chain([id(arg)]).any(|id| self.given.contains(id.as_str()))
    }

    fn suggestion(&self, name: &str) -> String {
        let names = self.command.get_arguments().filter_map(Arg::get_long);
        let alike =
            names.map(|known| (strsim::jaro_winkler(known, name), known)).filter(|(alike, _)| *alike > ALIKE);
        match alike.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((_, known)) => format!("did you mean {}?", known.replace('-', "_")),
            None => format!(
                "the options are those of `promptmill {} --help`, with _ for -",
                self.command.get_name()
            ),
        }
    }

    /// `[[endpoints]]`, each as a `--base-url` with its options.
    fn endpoints(&self, value: &DeValue<'_>, line: usize) -> Result<Vec<String>, CliError> {
        let wrong =
            |line: usize, what: String| CliError::usage(format!("{}:{line}: endpoints: {what}", self.file));
        let DeValue::Array(endpoints) = value else {
            return Err(wrong(line, "write [[endpoints]], and its base_url below".into()));
        };
        let one = |endpoint: &Spanned<DeValue<'_>>| {
            let line = self.place(endpoint.span().start).0;
            let DeValue::Table(table) = endpoint.get_ref() else {
                return Err(wrong(line, "write [[endpoints]], and its base_url below".into()));
            };
            let mut url = None;
            let mut options = Vec::new();
            for (key, value) in table {
                let line = self.place(key.span().start).0;
                let value = text(value.get_ref())
                    .map_err(|what| wrong(line, format!("{}: {what}", key.get_ref())))?;
                match key.get_ref().as_ref() {
                    "base_url" => url = Some(value),
                    name => options.push(format!(";{}={value}", name.replace('_', "-"))),
                }
            }
            let url = url.ok_or_else(|| wrong(line, "base_url is missing".into()))?;
            let option = url + &options.concat();
            option.parse::<super::endpoints::EndpointOption>().map_err(|what| wrong(line, what))?;
            Ok(format!("--base-url={option}"))
        };
        endpoints.iter().map(one).collect()
    }

    /// The line and column of a byte, from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

fn arguments_of(arg: &Arg, name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let is_flag = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count);
    match value {
        DeValue::Boolean(set) if is_flag => Ok(if *set { vec![format!("--{name}")] } else { Vec::new() }),
        _ if is_flag => Err("must be true or false".into()),
        DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            values.iter().map(|value| Ok(format!("--{name}={}", text(value.get_ref())?))).collect()
        }
        value => Ok(vec![format!("--{name}={}", text(value)?)]),
    }
}

/// One text or several.
fn texts(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::Array(values) => values.iter().map(|value| text(value.get_ref())).collect(),
        value => Ok(vec![text(value)?]),
    }
}

/// A value as it would be typed.
fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Datetime(_) => Err("a date is no value of an option; write it in quotes".into()),
        value => Ok(json(value)?.to_string()),
    }
}

fn json(value: &DeValue<'_>) -> Result<Json, String> {
    let number = |text: &str| text.parse().map(Json::Number).map_err(|_| format!("{text} is no number"));
    match value {
        DeValue::String(text) => Ok(Json::String(text.to_string())),
        DeValue::Integer(integer) if integer.radix() == 10 => number(integer.as_str()),
        DeValue::Integer(integer) => Err(format!("{} is not decimal", integer.as_str())),
        DeValue::Float(float) => number(float.as_str()),
        DeValue::Boolean(boolean) => Ok(Json::Bool(*boolean)),
        DeValue::Datetime(date) => Err(format!("{date} is a date; write it in quotes")),
        DeValue::Array(values) => values.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(name, value)| Ok((name.get_ref().to_string(), json(value.get_ref())?)))
            .collect(),
    }
}
