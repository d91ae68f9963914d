//! Prompts from templates in Jinja's syntax: the row's fields are the variables, an undefined one is an error.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use super::fields::{Object, without_position};
use crate::domain::RecordBody;

/// A template, compiled once.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    name: String,
}

impl Template {
    /// Compiles a template. `name` is what its errors call it: the flag or the file it came from.
    ///
    /// # Errors
    /// The syntax is wrong; the message says where.
    pub fn compile(name: &str, source: String) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // A prompt is no web page: the text goes in as it is, whatever the file is called.
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.add_template_owned(name.to_owned(), source).map_err(|error| describe(&error))?;
        Ok(Self { environment, name: name.to_owned() })
    }

    /// The text for one row.
    ///
    /// # Errors
    /// A variable is undefined, or a filter cannot take its value.
    pub fn render(&self, variables: &Variables) -> Result<String, String> {
        self.environment
            .get_template(&self.name)
            .and_then(|template| template.render(variables.value.clone()))
            .map_err(|error| describe(&error))
    }
}

/// A row's fields as a template sees them. A row that is one string is `prompt` and `text`.
#[derive(Clone, Debug)]
pub struct Variables {
    value: Value,
    names: Vec<String>,
    /// Fields that a template cannot have, and why.
    unusable: Vec<String>,
}

/// How a message about an undefined variable ends.
pub(super) const UNDEFINED: &str = "a row has no such field";

/// How many names of fields a message lists.
const LISTED: usize = 12;

impl Variables {
    /// The variables of a row whose JSON is known to be sound.
    #[must_use]
    pub fn of(body: &RecordBody) -> Self {
        let mut unusable = Vec::new();
        let variables: BTreeMap<String, Value> = match body {
            RecordBody::Json(json) if json.starts_with('{') => {
                let object: Object<'_> = serde_json::from_str(json).unwrap_or_default();
                let members = object.0.into_iter().filter_map(|(name, raw)| {
                    let value = serde_json::from_str::<serde_json::Value>(raw.get())
                        .map_err(|error| unusable.push(format!("{name} ({})", without_position(&error))));
                    Some((name.into_owned(), Value::from(Serde(value.ok()?))))
                });
                members.collect()
            }
            RecordBody::Json(json) => one_text(&serde_json::from_str::<String>(json).unwrap_or_default()),
            RecordBody::Text(text) => one_text(text),
            RecordBody::Table(row) => {
                row.columns.iter().cloned().zip(row.cells.iter().map(Value::from)).collect()
            }
        };
        let names = variables.keys().take(LISTED + 1).cloned().collect();
        Self { value: Value::from(variables), names, unusable }
    }

    /// What a template can use, in words.
    pub(super) fn list(&self) -> String {
        let known = self.names.iter().take(LISTED).map(String::as_str);
        let more = (self.names.len() > LISTED).then_some("…");
        let known: Vec<&str> = known.chain(more).collect();
        let mut list =
            format!("it has: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") });
        if !self.unusable.is_empty() {
            list.push_str("; a template cannot use: ");
            list.push_str(&self.unusable.join(", "));
        }
        list
    }
}

fn one_text(text: &str) -> BTreeMap<String, Value> {
    ["prompt", "text"].map(|name| (name.to_owned(), Value::from(text))).into()
}

fn describe(error: &minijinja::Error) -> String {
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("{name}:{line}: "),
        (Some(name), None) => format!("{name}: "),
        _ => String::new(),
    };
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.kind() {
        ErrorKind::UndefinedError => format!("{place}{detail}; {UNDEFINED}"),
        _ => format!("{place}{detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TableRow;

    #[test]
    fn the_fields_of_a_row_are_the_variables_and_nothing_is_escaped() {
        let template =
            Template::compile("--template", "{{ title }}: {{ tags[1].name }} & {{ n }}".into()).unwrap();
        let body = RecordBody::Json(r#"{"title":"<A>","tags":[0,{"name":"é"}],"n":1.5}"#.into());
        assert_eq!(template.render(&Variables::of(&body)).unwrap(), "<A>: é & 1.5");
        let template = Template::compile("--template", "{{ text }}".into()).unwrap();
        let table = TableRow {
            columns: ["id".to_owned(), "text".to_owned()].into(),
            cells: vec!["1".into(), "a".into()],
        };
        assert_eq!(template.render(&Variables::of(&RecordBody::Table(table))).unwrap(), "a");
        assert_eq!(template.render(&Variables::of(&RecordBody::Text("b".into()))).unwrap(), "b");
        assert_eq!(template.render(&Variables::of(&RecordBody::Json("\"c\"".into()))).unwrap(), "c");
    }

    #[test]
    fn an_undefined_variable_is_an_error_that_names_it() {
        let template = Template::compile("--template", "{{ missing }}".into()).unwrap();
        let error = template.render(&Variables::of(&RecordBody::Text("x".into()))).unwrap_err();
        assert!(error.contains("missing"), "{error}");
        assert!(Template::compile("t.jinja", "{{ a ".into()).unwrap_err().starts_with("t.jinja:1: "));
    }
}
