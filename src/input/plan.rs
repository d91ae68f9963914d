//! From a record to its request, fixed once: after the plan nothing about a call is decided.

use serde_json::Value;
use serde_json::value::RawValue;

use super::body::{BodyBuilder, Content, JsonText};
use super::fields::{Field, Fields, Object, type_of, without_position};
use super::parameters::{self, BadParameter, Parameters};
use super::template::{Template, UNDEFINED, Variables};
use crate::domain::{Endpoint, Failure, FailureKind, Location, Record, RecordBody, Request, RowId};

/// What holds for all rows of a job.
#[derive(Debug)]
pub struct PlanSettings {
    /// The API that rows go to, unless they are in Batch format and name their own.
    pub endpoint: Endpoint,
    /// The model, for rows that name none.
    pub model: Option<String>,
    /// Parameters for rows that do not set them, checked already.
    pub parameters: Parameters,
    /// Parameters that are sent as they are and never checked.
    pub unchecked: Parameters,
    /// The field that holds the id; otherwise `id`, then `custom_id`.
    pub id_field: Option<String>,
    /// The field that holds the prompt; otherwise `prompt`.
    pub prompt_field: Option<String>,
    /// The prompt's template.
    pub template: Option<Template>,
    /// The system message's template; chat only.
    pub system: Option<Template>,
    /// What kind of endpoint answers: answers of one kind are never taken for those of another.
    pub realm: &'static str,
    /// Whether `max_tokens` goes out as `max_completion_tokens` on chat, as OpenAI's own host wants it.
    pub max_completion_tokens: bool,
}

/// A row with its request, or the reason why there is none.
#[derive(Debug)]
pub struct Planned {
    /// The row as it came.
    pub record: Record,
    /// The id the row brings, if it brings one.
    pub id: Option<RowId>,
    /// The request, or why the row cannot become one.
    pub request: Result<Request, Failure>,
}

/// A row that cannot become a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplannable;

/// Makes requests of records.
#[derive(Debug)]
pub struct Planner {
    settings: PlanSettings,
}

/// What is wrong with a row, before its place is put in front: where in the line, in bytes, and what.
struct Fault {
    column: Option<usize>,
    message: String,
}

impl<S: Into<String>> From<S> for Fault {
    fn from(message: S) -> Self {
        Self { column: None, message: message.into() }
    }
}

impl Fault {
    fn in_field(self, name: &str) -> Self {
        Self { message: format!("field {name:?}: {}", self.message), ..self }
    }
}

type Made<T> = Result<T, Fault>;

impl Planner {
    /// A planner for one job.
    #[must_use]
    pub fn new(settings: PlanSettings) -> Self {
        Self { settings }
    }

    /// Fixes the request of a row.
    #[must_use]
    pub fn plan(&self, mut record: Record) -> Planned {
        let fields = match Fields::of(&record.body) {
            Ok(fields) => fields,
            Err(bad) => {
                let mut message = format!("broken JSON: {}", bad.message);
                if matches!(&record.body, RecordBody::Json(text) if text.contains('\r')) {
                    message.push_str("; if the lines end with CR alone, convert them to LF");
                }
                let fault = Fault { column: bad.column, message };
                let failure = invalid(&record.location, &fault);
                if let RecordBody::Json(text) = record.body {
                    record.body = RecordBody::Text(text);
                }
                return Planned { record, id: None, request: Err(failure) };
            }
        };
        let (id, request) = match self.id_of(&fields) {
            Ok(id) => (id, self.request_of(&record.body, &fields)),
            Err(fault) => (None, Err(fault)),
        };
        let request = request.map_err(|fault| invalid(&record.location, &fault));
        Planned { record, id, request }
    }

    /// The id that a row brings, if it brings one: all that is needed of a row that was answered before.
    ///
    /// # Errors
    /// The row cannot become a request; [`Planner::plan`] says why.
    pub fn id(&self, body: &RecordBody) -> Result<Option<RowId>, Unplannable> {
        if let RecordBody::Text(_) = body
            && self.settings.id_field.is_none()
        {
            return Ok(None);
        }
        let fields = Fields::of(body).map_err(|_| Unplannable)?;
        self.id_of(&fields).map_err(|_| Unplannable)
    }

    /// Whether a row brings a model of its own, whatever else may be wrong with it.
    #[must_use]
    pub fn brings_model(record: &Record) -> bool {
        let Ok(fields) = Fields::of(&record.body) else { return false };
        let in_batch_body =
            BatchLine::of(&fields).ok().flatten().is_some_and(|batch| batch.body.get("model").is_some());
        in_batch_body || own_parameters(&fields).is_ok_and(|own| own.contains_key("model"))
    }

    fn id_of(&self, fields: &Fields<'_>) -> Made<Option<RowId>> {
        let Some(name) = &self.settings.id_field else {
            let field = fields.get("id").or_else(|| fields.get("custom_id"));
            return field.map(|field| row_id("id", field)).transpose();
        };
        let field = fields
            .get(name)
            .ok_or_else(|| Fault::from(format!("missing field {name:?}, which --id-field names")))?;
        row_id(name, field).map(Some)
    }

    fn request_of(&self, body: &RecordBody, fields: &Fields<'_>) -> Made<Request> {
        if self.settings.template.is_none()
            && let Some(batch) = BatchLine::of(fields)?
        {
            return self.batch_request(&batch);
        }
        let endpoint = self.settings.endpoint;
        let own = own_parameters(fields)?;
        let mut merged = self.settings.parameters.clone();
        merged.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        parameters::normalize(endpoint, &mut merged);
        parameters::check(endpoint, &merged).map_err(|bad| in_row(&bad, "params"))?;
        merged.extend(self.settings.unchecked.iter().map(|(name, value)| (name.clone(), value.clone())));
        let content = self.content_of(body, fields)?;
        let job = &self.settings;
        BodyBuilder::new(endpoint, job.realm, job.max_completion_tokens, job.model.as_deref())
            .build(merged, content)
            .map_err(Fault::from)
    }

    fn content_of<'a>(&self, body: &RecordBody, fields: &'a Fields<'_>) -> Made<Content<'a>> {
        let system = |variables: Option<&Variables>| -> Made<Option<String>> {
            let Some(template) = &self.settings.system else { return Ok(None) };
            let own;
            let variables = if let Some(variables) = variables {
                variables
            } else {
                own = Variables::of(body);
                &own
            };
            template.render(variables).map(Some).map_err(|message| not_rendered(message, variables))
        };
        if let Some(template) = &self.settings.template {
            let variables = Variables::of(body);
            let prompt = template.render(&variables).map_err(|message| not_rendered(message, &variables))?;
            return Ok(Content::Text { system: system(Some(&variables))?, prompt: JsonText::of(&prompt) });
        }
        if let Fields::Prompt(prompt) = fields {
            return Ok(Content::Text { system: system(None)?, prompt: JsonText::of(prompt) });
        }
        let prompt_field = self.settings.prompt_field.as_deref();
        if prompt_field.is_none()
            && let Some(Field::Json(messages)) = fields.get("messages")
        {
            return Ok(Content::Messages { system: system(None)?, messages });
        }
        let name = prompt_field.unwrap_or("prompt");
        let system = system(None)?;
        match fields.get(name) {
            Some(Field::Cell(cell)) => Ok(Content::Text { system, prompt: JsonText::of(cell) }),
            Some(Field::Json(raw)) if raw.get().starts_with('"') => {
                let prompt = JsonText::of_json(raw)
                    .map_err(|error| Fault::from(without_position(&error)).in_field(name))?;
                Ok(Content::Text { system, prompt })
            }
            Some(Field::Json(raw)) => Ok(Content::Prompts { field: name.to_owned(), prompts: raw }),
            None => Err(self.missing_prompt(name, fields)),
        }
    }

    fn missing_prompt(&self, name: &str, fields: &Fields<'_>) -> Fault {
        let known: Vec<&str> = match fields {
            Fields::Prompt(_) => Vec::new(),
            Fields::Object(object) => object.0.iter().map(|(name, _)| name.as_ref()).take(12).collect(),
            Fields::Table(columns, _) => columns.iter().map(String::as_str).take(12).collect(),
        };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        if self.settings.prompt_field.is_some() {
            format!("missing field {name:?}, which --prompt-field names; the row has: {known}").into()
        } else {
            format!(
                "missing field {name:?}; name the field with --prompt-field, or make the prompt with --template \
                 (the row has: {known})"
            )
            .into()
        }
    }

    fn batch_request(&self, batch: &BatchLine<'_>) -> Made<Request> {
        let mut own: Parameters = batch
            .body
            .0
            .iter()
            .filter(|(name, _)| !matches!(name.as_ref(), "messages" | "prompt"))
            .map(|(name, value)| {
                let value = value_of(value).map_err(|fault| fault.in_field(&format!("body.{name}")))?;
                Ok((name.to_string(), value))
            })
            .collect::<Made<_>>()?;
        parameters::check(batch.endpoint, &own).map_err(|bad| in_row(&bad, "body"))?;
        self.fill(batch.endpoint, &mut own);
        let content = match (batch.endpoint, batch.body.get("messages"), batch.body.get("prompt")) {
            (Endpoint::Chat, Some(messages), _) => Content::Messages { system: None, messages },
            (Endpoint::Completions, _, Some(prompts)) => {
                Content::Prompts { field: "body.prompt".into(), prompts }
            }
            (Endpoint::Chat, None, _) => return Err("missing field \"body.messages\"".into()),
            (Endpoint::Completions, _, None) => return Err("missing field \"body.prompt\"".into()),
        };
        BodyBuilder::new(batch.endpoint, self.settings.realm, false, None)
            .build(own, content)
            .map_err(Fault::from)
    }

    /// Job-level options fill only what a Batch body leaves out, and only where they mean something there.
    fn fill(&self, endpoint: Endpoint, own: &mut Parameters) {
        let job = &self.settings;
        if let Some(model) = &job.model {
            own.entry("model".into()).or_insert_with(|| Value::String(model.clone()));
        }
        let limited = own.contains_key("max_tokens") || own.contains_key("max_completion_tokens");
        for (name, value) in job.parameters.iter().chain(&job.unchecked) {
            let limit = matches!(name.as_str(), "max_tokens" | "max_completion_tokens");
            if own.contains_key(name) || (limit && limited) {
                continue;
            }
            own.insert(name.clone(), value.clone());
            parameters::normalize(endpoint, own);
            if parameters::check(endpoint, own).is_err() {
                own.remove(name);
            }
        }
        if endpoint == Endpoint::Chat
            && job.max_completion_tokens
            && !limited
            && let Some(limit) = own.remove("max_tokens")
        {
            own.insert("max_completion_tokens".into(), limit);
        }
    }
}

/// A message is one line, although it may name a field whose name has line breaks.
fn invalid(location: &Location, fault: &Fault) -> Failure {
    let what = fault.message.replace(char::is_control, " ");
    let message = match fault.column {
        Some(column) => format!("{location}:{column}: {what}"),
        None => format!("{location}: {what}"),
    };
    Failure::new(FailureKind::InvalidInput, message)
}

/// A template's error, with what it could have used.
fn not_rendered(message: String, variables: &Variables) -> Fault {
    if message.ends_with(UNDEFINED) {
        format!("{message}; {}", variables.list()).into()
    } else {
        message.into()
    }
}

fn in_row(bad: &BadParameter, where_in_row: &str) -> Fault {
    format!("{where_in_row}.{} {}", bad.name, bad.message).into()
}

fn row_id(name: &str, field: Field<'_>) -> Made<RowId> {
    match field {
        Field::Cell(cell) => Ok(RowId::Text(cell.to_owned())),
        Field::Json(raw) => match raw.get().as_bytes().first() {
            Some(b'"') => Ok(RowId::Text(text_of(raw).map_err(|fault| fault.in_field(name))?)),
            Some(b'-' | b'0'..=b'9') => Ok(RowId::Number(raw.get().to_owned())),
            _ => Err(format!("field {name:?} must be a string or a number, found {}", type_of(raw)).into()),
        },
    }
}

fn text_of(raw: &RawValue) -> Made<String> {
    serde_json::from_str(raw.get()).map_err(|error| without_position(&error).into())
}

fn value_of(raw: &RawValue) -> Made<Value> {
    serde_json::from_str(raw.get()).map_err(|error| without_position(&error).into())
}

/// The parameters a row brings: its `params` object, or its `param.NAME` columns.
fn own_parameters(fields: &Fields<'_>) -> Made<Parameters> {
    match fields {
        Fields::Prompt(_) => Ok(Parameters::new()),
        Fields::Object(_) => match fields.get("params") {
            Some(Field::Json(raw)) if raw.get().starts_with('{') => serde_json::from_str(raw.get())
                .map_err(|error| Fault::from(without_position(&error)).in_field("params")),
            Some(Field::Json(raw)) => Err(format!("params must be an object, found {}", type_of(raw)).into()),
            _ => Ok(Parameters::new()),
        },
        Fields::Table(columns, cells) => Ok(columns
            .iter()
            .zip(*cells)
            .filter(|(_, cell)| !cell.is_empty())
            .filter_map(|(column, cell)| Some((column.strip_prefix("param.")?, cell)))
            .map(|(name, cell)| (name.to_owned(), cell_value(name, cell)))
            .collect()),
    }
}

/// A cell is read as JSON where the parameter is no text: `0.2`, `true`, `["a","b"]`.
fn cell_value(name: &str, cell: &str) -> Value {
    let text = || Value::String(cell.to_owned());
    if parameters::is_text(name) && !cell.starts_with('[') {
        return text();
    }
    serde_json::from_str(cell.trim()).unwrap_or_else(|_| text())
}

/// A row in OpenAI's Batch format.
struct BatchLine<'a> {
    endpoint: Endpoint,
    body: Object<'a>,
}

impl<'a> BatchLine<'a> {
    fn of(fields: &Fields<'a>) -> Made<Option<Self>> {
        let Fields::Object(object) = fields else { return Ok(None) };
        let (Some(url), Some(body)) = (object.get("url"), object.get("body")) else { return Ok(None) };
        if !body.get().starts_with('{') || !url.get().starts_with('"') {
            return Ok(None);
        }
        let url = text_of(url)?;
        let endpoint = Endpoint::ALL
            .into_iter()
            .find(|endpoint| url.strip_prefix("/v1").unwrap_or(&url) == endpoint.path())
            .ok_or_else(|| {
                let known: Vec<String> =
                    Endpoint::ALL.iter().map(|known| format!("/v1{}", known.path())).collect();
                Fault::from(format!("url {url:?} is not supported; known: {}", known.join(", ")))
            })?;
        if let Some(method) = object.get("method")
            && !method.get().eq_ignore_ascii_case("\"POST\"")
        {
            return Err(format!("method must be \"POST\", not {}", method.get()).into());
        }
        let body = serde_json::from_str(body.get()).map_err(|error| Fault::from(without_position(&error)))?;
        Ok(Some(Self { endpoint, body }))
    }
}
