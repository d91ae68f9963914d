//! How many tokens a request will take, learned from what its forerunners took.

use super::Size;
use super::amount;
use crate::domain::Usage;

/// English text has about four bytes a token.
const TOKENS_PER_BYTE: f64 = 0.25;

/// What is taken for a completion while nothing is known, as most are not long.
const COMPLETION: f64 = 256.0;

/// How much of what was learned is left after one more answer: the last few hundred count.
const KEPT: f64 = 0.995;

/// A running estimate: a line through prompt tokens over bytes, and a mean of completions.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    answers: f64,
    bytes: f64,
    tokens: f64,
    bytes_squared: f64,
    bytes_by_tokens: f64,
    completions: f64,
    completion_tokens: f64,
}

impl Estimate {
    pub(super) fn of(&self, size: Size) -> f64 {
        (self.prompt(amount(size.prompt_bytes as u64)) + self.completion(size.max_completion_tokens)).max(1.0)
    }

    fn prompt(&self, bytes: f64) -> f64 {
        if self.bytes <= 0.0 {
            return bytes * TOKENS_PER_BYTE;
        }
        let ratio = self.tokens / self.bytes;
        let spread = self.answers * self.bytes_squared - self.bytes * self.bytes;
        // Every request has an overhead that is not in its bytes; where all are of one length it cannot be told apart.
        if self.answers < 8.0 || spread <= 0.01 * self.bytes * self.bytes {
            return bytes * ratio;
        }
        let slope = (self.answers * self.bytes_by_tokens - self.bytes * self.tokens) / spread;
        let overhead = (self.tokens - slope * self.bytes) / self.answers;
        (overhead + slope * bytes).clamp(bytes * ratio / 8.0, bytes * ratio * 8.0)
    }

    fn completion(&self, most: Option<u64>) -> f64 {
        let most = most.map_or(f64::INFINITY, amount);
        if self.completions > 0.0 {
            (self.completion_tokens / self.completions).min(most)
        } else if most.is_finite() {
            // Servers that admit by the worst case count it all.
            most
        } else {
            COMPLETION
        }
    }

    /// Learns from an answer.
    pub(super) fn learn(&mut self, size: Size, usage: &Usage) {
        let bytes = amount(size.prompt_bytes as u64);
        if let Some(tokens) = usage.prompt_tokens.filter(|tokens| tokens.0 > 0)
            && bytes > 0.0
        {
            let tokens = amount(tokens.0);
            for (sum, term) in [
                (&mut self.answers, 1.0),
                (&mut self.bytes, bytes),
                (&mut self.tokens, tokens),
                (&mut self.bytes_squared, bytes * bytes),
                (&mut self.bytes_by_tokens, bytes * tokens),
            ] {
                *sum = *sum * KEPT + term;
            }
        }
        if let Some(tokens) = usage.completion_tokens {
            self.completions = self.completions * KEPT + 1.0;
            self.completion_tokens = self.completion_tokens * KEPT + amount(tokens.0);
        }
    }
}
