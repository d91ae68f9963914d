//! Answers as server-sent events, one chunk a token, in OpenAI's shapes. Put together they are the answer that is sent
//! whole otherwise.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::{Answer, Choice};
use super::ask::Ask;
use super::logprobs::Run;
use super::tokens::pieces;
use super::wire::{Envelope, Usage, id};
use crate::domain::Endpoint;

const OBJECTS: [(Endpoint, &str); 2] =
    [(Endpoint::Chat, "chat.completion.chunk"), (Endpoint::Completions, "text_completion")];

/// The events of the answer, `[DONE]` among them.
pub(super) fn events(ask: &Ask<'_>, answer: &Answer<'_>) -> Vec<Bytes> {
    let mut writer = Writer::new(ask);
    if ask.endpoint == Endpoint::Chat {
        for index in 0..answer.choices.len() {
            writer.chunk(&[ChunkChoice::opening(index)], None);
        }
    }
    write_tokens(&mut writer, answer);
    for (index, choice) in answer.choices.iter().enumerate() {
        writer.chunk(&[ChunkChoice::closing(ask.endpoint, index, choice.finish_reason)], None);
    }
    if ask.stream.as_ref().is_some_and(|stream| stream.include_usage) {
        writer.chunk(&[], Some(Usage::from(&answer.billed)));
    }
    writer.done()
}

/// The tokens of all choices by turns, as they come from a server that makes them side by side.
fn write_tokens(writer: &mut Writer<'_>, answer: &Answer<'_>) {
    let ask = writer.ask;
    let texts: Vec<_> = answer.choices.iter().map(|choice| choice.sent(ask.echo)).collect();
    let mut voices: Vec<_> =
        answer.choices.iter().zip(&texts).map(|(choice, text)| Voice::new(ask, choice, text)).collect();
    let mut speaking = true;
    while speaking {
        speaking = false;
        for (index, voice) in voices.iter_mut().enumerate() {
            if let Some(token) = voice.tokens.next() {
                let logprobs = voice.logprobs(ask.endpoint, token);
                writer.chunk(&[ChunkChoice::token(ask.endpoint, index, token, logprobs)], None);
                speaking = true;
            }
        }
    }
}

/// One choice on its way.
struct Voice<'a> {
    tokens: super::tokens::Pieces<'a>,
    run: Option<Run<'static>>,
}

impl<'a> Voice<'a> {
    fn new(ask: &Ask<'_>, choice: &Choice<'_>, text: &'a str) -> Self {
        Self { tokens: pieces(text), run: Run::start(ask, choice) }
    }

    fn logprobs(&mut self, endpoint: Endpoint, token: &str) -> Option<Box<RawValue>> {
        let run = self.run.as_mut()?;
        let written = Run { tokens: &[token], ..*run }.written(endpoint);
        run.position += 1;
        run.offset += token.chars().count();
        written
    }
}

/// Writes chunks one behind the other into one buffer, which the events share in the end.
struct Writer<'a> {
    ask: &'a Ask<'a>,
    id: String,
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl<'a> Writer<'a> {
    fn new(ask: &'a Ask<'a>) -> Self {
        Self { ask, id: id(ask), buffer: Vec::new(), ends: Vec::new() }
    }

    fn chunk(&mut self, choices: &[ChunkChoice<'_>], usage: Option<Usage>) {
        let endpoint = self.ask.endpoint;
        let object = OBJECTS.iter().find(|(of, _)| *of == endpoint).map_or("", |(_, object)| object);
        let choices = choices.iter().collect();
        let envelope = Envelope::new(&self.id, object, self.ask, choices, usage);
        self.buffer.extend_from_slice(b"data: ");
        // Writing into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.buffer, &envelope);
        self.end();
    }

    fn end(&mut self) {
        self.buffer.extend_from_slice(b"\n\n");
        self.ends.push(self.buffer.len());
    }

    fn done(mut self) -> Vec<Bytes> {
        self.buffer.extend_from_slice(b"data: [DONE]");
        self.end();
        let mut rest = Bytes::from(self.buffer);
        let mut start = 0;
        let cut = |end: usize| rest.split_to(end - std::mem::replace(&mut start, end));
        self.ends.into_iter().map(cut).collect()
    }
}

/// One choice in a chunk; the members of the other endpoint are left out.
#[derive(Default, Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    logprobs: Option<Box<RawValue>>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

impl<'a> ChunkChoice<'a> {
    /// A chat's first chunk: who speaks.
    fn opening(index: usize) -> Self {
        let delta = Some(Delta { role: Some("assistant"), content: Some("") });
        Self { index, delta, ..Self::default() }
    }

    fn token(endpoint: Endpoint, index: usize, token: &'a str, logprobs: Option<Box<RawValue>>) -> Self {
        match endpoint {
            Endpoint::Chat => {
                let delta = Some(Delta { content: Some(token), ..Delta::default() });
                Self { index, delta, logprobs, ..Self::default() }
            }
            Endpoint::Completions => Self { index, text: Some(token), logprobs, ..Self::default() },
        }
    }

    fn closing(endpoint: Endpoint, index: usize, finish_reason: &'static str) -> Self {
        let (delta, text) = match endpoint {
            Endpoint::Chat => (Some(Delta::default()), None),
            Endpoint::Completions => (None, Some("")),
        };
        Self { index, delta, text, finish_reason: Some(finish_reason), ..Self::default() }
    }
}
