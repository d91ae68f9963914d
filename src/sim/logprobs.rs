//! Log probabilities, made up like everything else: the token that was chosen is always the likeliest.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::answer::Choice;
use super::ask::Ask;
use super::prose::Draw;
use crate::domain::Endpoint;

/// What might have stood there instead; at most 20 are asked for, one of them the token itself.
const OTHERS: [&str; 19] = [
    " perhaps",
    " rather",
    " indeed",
    " almost",
    " hardly",
    " simply",
    " mostly",
    " partly",
    " surely",
    " seldom",
    " merely",
    " nearly",
    " barely",
    " truly",
    " fairly",
    " largely",
    " clearly",
    " usually",
    " possibly",
];

/// A run of tokens out of the text of one choice.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub tokens: &'a [&'a str],
    /// How many tokens of the text come before.
    pub position: usize,
    /// How many characters of prompt and text come before.
    pub offset: usize,
    /// Decides the figures.
    pub hash: u64,
    /// How many likely tokens are shown at each place.
    pub top: usize,
    /// Whether the text begins with the prompt, of whose first token nothing can be said.
    pub echo: bool,
}

/// The shape of the chat endpoint.
#[derive(Serialize)]
struct OfChat<'a> {
    content: Vec<Token<'a>>,
    refusal: Option<&'a str>,
}

#[derive(Serialize)]
struct Token<'a> {
    #[serde(flatten)]
    itself: Likely<'a>,
    top_logprobs: Vec<Likely<'a>>,
}

#[derive(Serialize)]
struct Likely<'a> {
    token: &'a str,
    logprob: f64,
    bytes: &'a [u8],
}

/// The shape of the completions endpoint.
#[derive(Serialize)]
struct OfText<'a> {
    tokens: &'a [&'a str],
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Option<Vec<Option<BTreeMap<&'a str, f64>>>>,
    text_offset: Vec<usize>,
}

impl<'a> Run<'a> {
    /// The beginning of a choice, without tokens yet; nothing if no log probabilities are asked for.
    pub(super) fn start(ask: &Ask<'_>, choice: &Choice<'_>) -> Option<Self> {
        let offset = if ask.echo { 0 } else { choice.prompt.text.chars().count() };
        let hash = choice.prompt.hash;
        ask.logprobs.map(|top| Run { tokens: &[], position: 0, offset, hash, top, echo: ask.echo })
    }

    /// The run as JSON, in the endpoint's shape.
    pub(super) fn written(&self, endpoint: Endpoint) -> Option<Box<RawValue>> {
        // Writing these structures into memory cannot fail.
        match endpoint {
            Endpoint::Chat => to_raw_value(&self.of_chat()).ok(),
            Endpoint::Completions => to_raw_value(&self.of_text()).ok(),
        }
    }

    fn of_chat(&self) -> OfChat<'a> {
        let likely = |(token, logprob): (&'a str, f64)| Likely { token, logprob, bytes: token.as_bytes() };
        let token = |(index, token): (usize, &&'a str)| Token {
            itself: likely((token, self.logprob(index))),
            top_logprobs: self.likeliest(index).map(likely).collect(),
        };
        OfChat { content: self.tokens.iter().enumerate().map(token).collect(), refusal: None }
    }

    fn of_text(&self) -> OfText<'a> {
        let known = |index: usize| !self.echo || self.position + index > 0;
        let places = 0..self.tokens.len();
        let token_logprobs = places.clone().map(|index| known(index).then(|| self.logprob(index))).collect();
        let likeliest = |index: usize| known(index).then(|| self.likeliest(index).collect());
        let top_logprobs = (self.top > 0).then(|| places.map(likeliest).collect());
        let mut offset = self.offset;
        let before = |token: &&str| {
            let start = offset;
            offset += token.chars().count();
            start
        };
        let text_offset = self.tokens.iter().map(before).collect();
        OfText { tokens: self.tokens, token_logprobs, top_logprobs, text_offset }
    }

    /// From -0.69 to 0: a token that was chosen had at least an even chance.
    fn logprob(&self, index: usize) -> f64 {
        let drawn = Draw::new(self.hash, self.position + index).below(70);
        -f64::from(u8::try_from(drawn).unwrap_or(0)) / 100.0
    }

    fn likeliest(&self, index: usize) -> impl Iterator<Item = (&'a str, f64)> {
        let (chosen, logprob) = (self.tokens[index], self.logprob(index));
        let others = OTHERS.iter().filter(move |other| **other != chosen);
        let others = others.scan(-1.0, |logprob, other| {
            *logprob -= 1.0;
            Some((*other, *logprob))
        });
        std::iter::once((chosen, logprob)).chain(others).take(self.top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_echo_begins_with_a_token_of_unknown_probability() {
        let run = Run { tokens: &["ü", " b"], position: 0, offset: 0, hash: 5, top: 2, echo: true };
        let shown = json!(run.of_text());
        assert_eq!(shown["token_logprobs"][0], json!(null));
        assert!(shown["token_logprobs"][1].as_f64().is_some_and(|logprob| (-0.7..=0.0).contains(&logprob)));
        assert_eq!(shown["top_logprobs"][1][" b"], shown["token_logprobs"][1]);
        assert_eq!(shown["text_offset"], json!([0, 1]));
    }

    #[test]
    fn a_part_of_a_text_has_the_figures_of_the_whole() {
        let whole = Run { tokens: &["a", " b"], position: 0, offset: 0, hash: 5, top: 3, echo: false };
        let part = Run { tokens: &whole.tokens[1..], position: 1, offset: 1, ..whole };
        assert_eq!(json!(whole.of_chat())["content"][1], json!(part.of_chat())["content"][0]);
        assert_eq!(json!(whole.of_chat())["content"][1]["top_logprobs"].as_array().unwrap().len(), 3);
        assert_eq!(json!(whole.of_text())["token_logprobs"][1], json!(part.of_text())["token_logprobs"][0]);
    }
}
