//! Prompts from templates in Jinja's syntax: the row's fields are the variables, an undefined one is an error.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

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
            .and_then(|template| template.render(variables.0.clone()))
            .map_err(|error| describe(&error))
    }
}

/// A row's fields as a template sees them. A row that is one string is `prompt` and `text`.
#[derive(Clone, Debug)]
pub struct Variables(Value);

impl Variables {
    /// The variables of a row whose JSON is known to be sound.
    #[must_use]
    pub fn of(body: &RecordBody) -> Self {
        Self(match body {
            RecordBody::Json(json) => match serde_json::from_str(json) {
                Ok(serde_json::Value::String(text)) => one_text(&text),
                Ok(value) => Serde(value).into(),
                Err(_) => Value::UNDEFINED,
            },
            RecordBody::Text(text) => one_text(text),
            RecordBody::Table(row) => Value::from(
                row.columns.iter().cloned().zip(row.cells.iter().cloned()).collect::<BTreeMap<_, _>>(),
            ),
        })
    }
}

fn one_text(text: &str) -> Value {
    Value::from(BTreeMap::from([("prompt", text.to_owned()), ("text", text.to_owned())]))
}

fn describe(error: &minijinja::Error) -> String {
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("{name}:{line}: "),
        (Some(name), None) => format!("{name}: "),
        _ => String::new(),
    };
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.kind() {
        ErrorKind::UndefinedError => format!("{place}{detail}; a row has no such field"),
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
