//! A small JSON value that fits a JSON Schema, as far as its common words go. It checks nothing and resolves nothing
//! outside of the schema.

use serde_json::{Map, Value, json};

use super::prose::{self, Draw};

/// Where schemas that contain themselves end.
const MAX_DEPTH: usize = 16;

/// The most values in one instance: schemas that contain themselves many times branch without end.
const MAX_VALUES: usize = 4096;

/// A value that fits a schema; an empty object if the schema is no JSON.
pub(super) fn instance(schema: &str, draw: &mut Draw) -> Value {
    let root: Value = serde_json::from_str(schema).unwrap_or_default();
    let mut filler = Filler { root: &root, draw, left: MAX_VALUES };
    match filler.fill(&root, 0) {
        Value::Null => json!({}),
        value => value,
    }
}

struct Filler<'a> {
    root: &'a Value,
    draw: &'a mut Draw,
    left: usize,
}

impl<'a> Filler<'a> {
    fn fill(&mut self, schema: &'a Value, depth: usize) -> Value {
        if self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        if let Some(value) = schema.get("const") {
            return value.clone();
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array).filter(|values| !values.is_empty())
        {
            return values[self.draw.below(values.len())].clone();
        }
        if let Some(inner) = self.inner(schema) {
            return if depth < MAX_DEPTH { self.fill(inner, depth + 1) } else { Value::Null };
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "string" => self.string(schema),
            "integer" => self.integer(schema),
            "number" => self.number(schema),
            "boolean" => Value::Bool(self.draw.below(2) == 1),
            _ => Value::Null,
        }
    }

    /// The schema that stands behind a reference, or the first that is offered.
    fn inner(&self, schema: &'a Value) -> Option<&'a Value> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.root.pointer(reference.strip_prefix('#')?);
        }
        // Where there are properties of its own, what is offered beside only narrows them.
        let offers = ["anyOf", "oneOf", "allOf"].iter().find_map(|word| schema.get(*word))?.as_array()?;
        let own = schema.get("type").is_some() || schema.get("properties").is_some();
        offers.iter().find(|offer| kind(offer) != "null").filter(|_| !own)
    }

    fn object(&mut self, schema: &'a Value, depth: usize) -> Value {
        let mut object = Map::new();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if depth < MAX_DEPTH {
                object.insert(name.clone(), self.fill(property, depth + 1));
            } else if is_required(schema, name) {
                object.insert(name.clone(), Value::Null);
            }
        }
        Value::Object(object)
    }

    /// As few items as are allowed, one if that is none: at least one where schemas do not contain themselves.
    fn array(&mut self, schema: &'a Value, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let wanted = if depth < 4 { least.max(1) } else { least };
        let allowed = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let Some(items) = schema.get("items").filter(|_| depth < MAX_DEPTH) else {
            return json!([]);
        };
        Value::Array((0..wanted.min(allowed).min(64)).map(|_| self.fill(items, depth + 1)).collect())
    }

    fn string(&mut self, schema: &Value) -> Value {
        let mut text = match schema.get("format").and_then(Value::as_str) {
            Some("date") => "2026-01-31".into(),
            Some("time") => "12:30:00Z".into(),
            Some("date-time") => "2026-01-31T12:30:00Z".into(),
            Some("email") => "somebody@example.com".into(),
            Some("uri") => "https://example.com/".into(),
            Some("uuid") => "123e4567-e89b-42d3-a456-426614174000".into(),
            _ => prose::sentence(self.draw).to_owned(),
        };
        let bound = |word: &str| {
            schema.get(word).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok())
        };
        while text.len() < bound("minLength").unwrap_or(0).min(4096) {
            text.push_str(prose::sentence(self.draw));
        }
        // The texts are ASCII: every byte is a character.
        text.truncate(bound("maxLength").unwrap_or(usize::MAX));
        text.into()
    }

    /// A small number, moved into the range.
    fn integer(&mut self, schema: &Value) -> Value {
        let bound = |word: &str, exclusive: &str, step: i64| {
            let inclusive = schema.get(word).and_then(Value::as_i64);
            inclusive.or_else(|| schema.get(exclusive)?.as_i64()?.checked_add(step))
        };
        let drawn = i64::try_from(self.draw.below(10)).unwrap_or(0);
        let low = bound("minimum", "exclusiveMinimum", 1).unwrap_or(i64::MIN);
        let high = bound("maximum", "exclusiveMaximum", -1).unwrap_or(i64::MAX);
        json!(drawn.max(low).min(high))
    }

    fn number(&mut self, schema: &Value) -> Value {
        let bound = |word: &str| schema.get(word).and_then(Value::as_f64);
        let low = bound("minimum").or(bound("exclusiveMinimum"));
        let high = bound("maximum").or(bound("exclusiveMaximum"));
        let share = f64::from(u8::try_from(1 + self.draw.below(9)).unwrap_or(5)) / 10.0;
        json!(match (low, high) {
            (Some(low), Some(high)) => low + (high - low) * share,
            (Some(low), None) => low + share,
            (None, Some(high)) => high - share,
            (None, None) => share,
        })
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|required| required == name))
}

/// The type of a schema; of several the first that is not `null`.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        // A schema that says nothing allows everything.
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(schema: &Value) -> Value {
        instance(&schema.to_string(), &mut Draw::new(1, 0))
    }

    #[test]
    fn every_property_is_filled_with_its_type() {
        let value = fill(&json!({
            "type": "object",
            "properties": {
                "title": {"type": "string", "maxLength": 5},
                "tags": {"type": "array", "items": {"type": ["null", "boolean"]}, "minItems": 2},
                "share": {"type": "number", "minimum": 0, "maximum": 1},
                "year": {"type": "integer", "exclusiveMinimum": 1999},
                "place": {"$ref": "#/$defs/place"},
                "either": {"anyOf": [{"type": "null"}, {"const": 7}]},
            },
            "$defs": {"place": {"properties": {"name": {"type": "string"}}}},
        }));
        assert!(value["title"].as_str().is_some_and(|title| title.len() == 5));
        assert!(value["tags"].as_array().is_some_and(|tags| tags.len() == 2 && tags[0].is_boolean()));
        assert!(value["share"].as_f64().is_some_and(|share| share > 0.0 && share < 1.0));
        assert_eq!(value["year"], 2000);
        assert!(value["place"]["name"].is_string());
        assert_eq!(value["either"], 7);
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let node = json!({"type": "object", "properties": {"next": {"$ref": "#"}, "more": {"type": "array", "items": {"$ref": "#"}}}, "required": ["next"]});
        assert!(fill(&node)["next"]["next"].is_object());
        assert!(fill(&json!({"$ref": "#"})).is_object());
        let names = (b'a'..b'q').map(|name| (char::from(name).to_string(), json!({"$ref": "#"})));
        let bush = json!({"properties": Value::Object(names.collect())});
        assert!(fill(&bush).to_string().len() < 100 * MAX_VALUES);
    }
}
