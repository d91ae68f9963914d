//! What a server says a call consumed.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::Tokens;

/// Token counts of one call or a sum of calls. A count that no server gave is `None`, never 0.
///
/// Shape and meaning: the `usage` object of OpenAI's API reference (`CompletionUsage`): cached tokens are a part
/// of the prompt tokens, reasoning tokens a part of the completion tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: Option<Tokens>,
    /// Tokens generated, reasoning included.
    pub completion_tokens: Option<Tokens>,
    /// What the server gave as the total.
    pub total_tokens: Option<Tokens>,
    /// The part of the prompt that was read from the provider's cache.
    pub cached_tokens: Option<Tokens>,
    /// The part of the completion spent on reasoning.
    pub reasoning_tokens: Option<Tokens>,
    /// The part of the prompt that was written to the provider's cache, where the provider bills that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<Tokens>,
}

impl Usage {
    /// Whether the server gave no count at all.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// The total, from the parts where the server gave no total of its own.
    #[must_use]
    pub fn total(&self) -> Tokens {
        self.total_tokens.unwrap_or_else(|| {
            self.prompt_tokens.unwrap_or_default() + self.completion_tokens.unwrap_or_default()
        })
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        let add = |sum: &mut Option<Tokens>, part: Option<Tokens>| {
            if let Some(part) = part {
                *sum.get_or_insert_default() += part;
            }
        };
        add(&mut self.prompt_tokens, other.prompt_tokens);
        add(&mut self.completion_tokens, other.completion_tokens);
        add(&mut self.total_tokens, other.total_tokens);
        add(&mut self.cached_tokens, other.cached_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
        add(&mut self.cache_write_tokens, other.cache_write_tokens);
    }
}
