//! Answers that come as server-sent events (WHATWG HTML, section 9.2), folded into what a whole answer would be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::answer::{Body, check, content, error_in_good_status, number, owned, text, usage_of};
use super::errors::no_answer;
use crate::domain::{Answer, AttemptFailure, Completion, Usage};

/// Reads a streamed answer whose bytes are all there, in pieces as they came.
///
/// # Errors
/// What was streamed is no answer: it is broken, cut short, an error, or withheld.
pub fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, status: u16) -> Result<Answer, AttemptFailure> {
    let (mut events, mut assembly) = (Events::default(), Assembly::new(Instant::now()));
    for piece in pieces {
        events.push(piece, |data| assembly.event(data, status))?;
    }
    assembly.finish(status)
}

/// Splits a byte stream into the data of its events. Lines may end in LF, CRLF or CR; comments are passed over.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
}

impl Events {
    /// Takes in bytes and hands every finished event's data to `event`.
    pub(super) fn push<E>(
        &mut self,
        bytes: &[u8],
        mut event: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => self.end_of_line(&mut event)?,
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_of_line<E>(&mut self, event: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                let data = std::mem::take(&mut self.data);
                event(&data)?;
            }
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        self.line = line;
        self.line.clear();
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Assembled {
    text: Option<String>,
    refusal: Option<String>,
    reasoning: Option<String>,
    finish_reason: Option<String>,
    tool_calls: BTreeMap<u64, Value>,
    logprobs: Option<Value>,
}

/// A streamed answer in the making.
#[derive(Debug)]
pub(super) struct Assembly {
    started: Instant,
    ttft: Option<Duration>,
    choices: BTreeMap<u64, Assembled>,
    usage: Usage,
    model: Option<String>,
    done: bool,
}

impl Assembly {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            ttft: None,
            choices: BTreeMap::new(),
            usage: Usage::default(),
            model: None,
            done: false,
        }
    }

    /// Takes in the data of one event.
    pub(super) fn event(&mut self, data: &[u8], status: u16) -> Result<(), AttemptFailure> {
        if data.starts_with(b"[DONE]") {
            self.done = true;
            return Ok(());
        }
        if data.trim_ascii().is_empty() {
            return Ok(()); // a sign of life
        }
        let chunk: Body<'_> = serde_json::from_slice(data).map_err(|error| {
            no_answer(status, format!("the stream holds what is no JSON: {error}"), self.usage)
        })?;
        if let Some(error) = chunk.error.filter(|error| error.get() != "null") {
            return Err(error_in_good_status(error, status, chunk.usage));
        }
        let usage = usage_of(chunk.usage);
        if !usage.is_unknown() {
            self.usage = usage;
        }
        if self.model.is_none() {
            self.model = owned(chunk.model);
        }
        for choice in chunk.choices.unwrap_or_default() {
            let assembled = self.choices.entry(number(choice.index)).or_default();
            let mut came = append(&mut assembled.text, text(choice.text));
            if let Some(delta) = &choice.message {
                came |= append(&mut assembled.text, content(delta.content));
                came |= append(&mut assembled.refusal, text(delta.refusal));
                came |= append(
                    &mut assembled.reasoning,
                    text(delta.reasoning_content).or_else(|| text(delta.reasoning)),
                );
                if let Some(Value::Array(calls)) =
                    delta.tool_calls.and_then(|calls| serde_json::from_str(calls.get()).ok())
                {
                    came = true;
                    for call in calls {
                        merge_tool_call(&mut assembled.tool_calls, call);
                    }
                }
            }
            if came && self.ttft.is_none() {
                self.ttft = Some(self.started.elapsed());
            }
            if let Some(reason) = text(choice.finish_reason).filter(|reason| !reason.is_empty()) {
                assembled.finish_reason = Some(reason.into_owned());
            }
            if let Some(part) = choice.logprobs.and_then(|raw| serde_json::from_str(raw.get()).ok()) {
                merge_logprobs(&mut assembled.logprobs, part);
            }
        }
        Ok(())
    }

    /// The answer, now that the stream has ended.
    pub(super) fn finish(self, status: u16) -> Result<Answer, AttemptFailure> {
        let usage = self.usage;
        let mut choices: Vec<Assembled> = self.choices.into_values().collect();
        if choices.is_empty() {
            return Err(no_answer(status, "the stream ended without a choice", usage));
        }
        if !self.done && choices.iter().any(|choice| choice.finish_reason.is_none()) {
            let what = "the stream ends without [DONE] or a finish_reason: it was cut short";
            return Err(no_answer(status, what, usage));
        }
        let logprobs: Vec<Value> = choices.iter_mut().filter_map(|choice| choice.logprobs.take()).collect();
        let logprobs = match logprobs.as_slice() {
            [] => None,
            [one] => serde_json::value::to_raw_value(one).ok(),
            all => serde_json::value::to_raw_value(all).ok(),
        };
        let outputs = choices.iter_mut().map(|choice| choice.text.take()).collect();
        let first = choices.swap_remove(0);
        let calls: Vec<Value> = first.tool_calls.into_values().collect();
        let completion = Completion {
            outputs,
            finish_reason: first.finish_reason.or_else(|| self.done.then(|| "stop".to_owned())),
            tool_calls: (!calls.is_empty()).then(|| serde_json::value::to_raw_value(&calls).ok()).flatten(),
            refusal: first.refusal,
            reasoning: first.reasoning,
            logprobs,
            ttft: self.ttft,
            response: None,
        };
        check(&completion, status, usage)?;
        Ok(Answer { completion, usage, model: self.model })
    }

    /// Whether the stream said that it is complete.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// What the stream said it consumed so far.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }
}

fn append(text: &mut Option<String>, part: Option<std::borrow::Cow<'_, str>>) -> bool {
    let Some(part) = part else { return false };
    text.get_or_insert_default().push_str(&part);
    !part.is_empty()
}

/// A tool call comes in parts that share an `index`: the first has id and name, the others more of the arguments.
fn merge_tool_call(calls: &mut BTreeMap<u64, Value>, part: Value) {
    let Value::Object(mut part) = part else { return };
    let index = part.remove("index").and_then(|index| index.as_u64()).unwrap_or(calls.len() as u64);
    let call = calls.entry(index).or_insert_with(|| Value::Object(serde_json::Map::new()));
    let more = part.get_mut("function").and_then(|function| function.get_mut("arguments")).map(Value::take);
    let known = call.pointer_mut("/function/arguments");
    match (known, more) {
        (Some(Value::String(known)), Some(Value::String(more))) => known.push_str(&more),
        (_, more) => {
            if let (Some(more), Some(place)) =
                (more, part.get_mut("function").and_then(|f| f.get_mut("arguments")))
            {
                *place = more;
            }
            if let Value::Object(call) = call {
                call.extend(part);
            }
        }
    }
}

/// The lists inside of two parts' log probabilities, joined.
fn merge_logprobs(sum: &mut Option<Value>, part: Value) {
    let Value::Object(part) = part else { return };
    let Some(Value::Object(sum)) = sum else {
        *sum = Some(Value::Object(part));
        return;
    };
    for (name, value) in part {
        match (sum.get_mut(&name), value) {
            (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
            (None | Some(Value::Null), value) => {
                sum.insert(name, value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FailureKind, Tokens};

    fn assemble(stream: &str, step: usize) -> Result<Answer, AttemptFailure> {
        read(stream.as_bytes().chunks(step), 200)
    }

    const STREAM: &str = ": OPENROUTER PROCESSING\r\n\r\n\
        data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\u{e9}l\"}}],\"usage\":null}\r\n\r\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"\"}]}\r\r\
        data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n\
        data: [DONE]\n\n";

    #[test]
    fn a_stream_cut_anywhere_into_pieces_gives_the_same_answer() {
        for step in 1..=STREAM.len() {
            let answer = assemble(STREAM, step).unwrap();
            assert_eq!(answer.completion.outputs, [Some("héllo".to_owned())], "{step}");
            assert_eq!(answer.usage.prompt_tokens, Some(Tokens(3)));
            assert!(answer.completion.ttft.is_some());
        }
    }

    #[test]
    fn a_stream_that_ends_early_is_no_answer() {
        let cut = &STREAM[..STREAM.find("\"finish_reason\":\"stop\"").unwrap()];
        assert_eq!(assemble(cut, 7).unwrap_err().failure.kind, FailureKind::BadResponse);
        let error = "data: {\"choices\":[{\"text\":\"x\"}]}\n\ndata: {\"error\":{\"code\":502,\"message\":\"gone\"}}\n\n";
        assert_eq!(assemble(error, 5).unwrap_err().failure.kind, FailureKind::Server);
    }

    #[test]
    fn content_in_parts_is_text_in_a_stream_too() {
        let stream = "data: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n";
        assert_eq!(assemble(stream, 9).unwrap().completion.outputs, [Some("ab".to_owned())]);
    }

    #[test]
    fn tool_calls_are_put_together_from_their_parts() {
        let stream = "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n\
            data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n";
        let calls = assemble(stream, 1000).unwrap().completion.tool_calls.unwrap();
        let calls: Value = serde_json::from_str(calls.get()).unwrap();
        assert_eq!(calls, serde_json::json!([{"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}]));
    }
}
