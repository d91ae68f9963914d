//! Made-up answers: a quote of the prompt, so that everybody sees whose answer it is, and sentences drawn by a hash.

use crate::domain::IdentityHasher;

const QUOTED_WORDS: usize = 6;
const QUOTED_CHARACTERS: usize = 48;

const OPENINGS: [&str; 8] = [
    "The short answer is that it depends on what is measured.",
    "There is a simple way to see it.",
    "Three things matter here, and the first is the plainest.",
    "Most people begin at the wrong end of this.",
    "It is best told with an example.",
    "The usual account is nearly right.",
    "Let us take it one step at a time.",
    "Here is what can be said with some certainty.",
];

const SENTENCES: [&str; 16] = [
    "A small change at the start makes a large one at the end.",
    "The figures from last year point the same way.",
    "What looks like noise is often a pattern seen too close.",
    "Nobody had written it down until somebody asked.",
    "The old method still works, only slower.",
    "In practice the two differ by less than one part in ten.",
    "It helps to keep the pieces apart and name each of them.",
    "Warm air rises, cold air sinks, and the rest follows.",
    "The cost is paid once, the gain comes every day.",
    "Most of the work is in the last few cases.",
    "Two of the five examples do not fit, and that is worth knowing.",
    "A careful reader will notice what has been left out.",
    "The river takes the longer way and arrives all the same.",
    "Counting first and arguing later saves an afternoon.",
    "It was tried in three places and held in all of them.",
    "The exception is rare but it is the one people remember.",
];

/// A stream of numbers that a seed fixes (`SplitMix64`).
pub(super) struct Draw(u64);

impl Draw {
    /// The stream that belongs to a prompt and one of its choices.
    pub(super) fn new(prompt: u64, choice: usize) -> Self {
        Self(prompt ^ (choice as u64).wrapping_mul(0xA24B_AED4_963E_E407))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound as u64)).unwrap_or(0)
    }

    /// One of the items.
    pub(super) fn pick(&mut self, items: &[&'static str]) -> &'static str {
        items[self.below(items.len())]
    }
}

/// A hash of named fields, cut to 64 bits.
pub(super) fn short_hash(hasher: &IdentityHasher) -> u64 {
    hasher.finish().iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

/// The first words of a text, on one line.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::new();
    let mut words = text.split_whitespace();
    for word in words.by_ref().take(QUOTED_WORDS) {
        if !quoted.is_empty() {
            quoted.push(' ');
        }
        quoted.push_str(word);
        if quoted.len() > QUOTED_CHARACTERS
            && let Some((end, _)) = quoted.char_indices().nth(QUOTED_CHARACTERS)
        {
            quoted.truncate(end);
            return quoted + "…";
        }
    }
    if words.next().is_some() {
        quoted.push('…');
    }
    quoted
}

/// One sentence.
pub(super) fn sentence(draw: &mut Draw) -> &'static str {
    draw.pick(&SENTENCES)
}

/// An answer of three to five sentences, some 40 to 80 tokens, that quotes the prompt and leads to the suffix.
pub(super) fn compose(prompt: &str, suffix: Option<&str>, draw: &mut Draw) -> String {
    let mut text = format!("On \"{}\": {}", quote(prompt), draw.pick(&OPENINGS));
    let mut at = draw.below(SENTENCES.len());
    for _ in 0..=1 + draw.below(3) {
        text.push(' ');
        text.push_str(SENTENCES[at]);
        // Steps of 1 to 5 never meet the same sentence twice in one answer.
        at = (at + 1 + draw.below(5)) % SENTENCES.len();
    }
    if let Some(suffix) = suffix {
        text.extend([" Which leads to \"", &quote(suffix), "\": "]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::count_tokens;

    #[test]
    fn a_quote_is_short_and_on_one_line() {
        assert_eq!(quote(" Say\n hello "), "Say hello");
        assert_eq!(quote("one two three four five six seven"), "one two three four five six…");
        assert_eq!(quote(&"ü".repeat(1000)), format!("{}…", "ü".repeat(QUOTED_CHARACTERS)));
        assert_eq!(quote(""), "");
    }

    #[test]
    fn answers_differ_by_prompt_and_choice_and_keep_their_length() {
        let answer = |prompt, choice| compose("Why is the sky blue?", None, &mut Draw::new(prompt, choice));
        assert_eq!(answer(1, 0), answer(1, 0));
        assert_ne!(answer(1, 0), answer(1, 1));
        assert_ne!(answer(1, 0), answer(2, 0));
        assert!(answer(1, 0).starts_with("On \"Why is the sky blue?\": "));
        assert!((0..1000).all(|prompt| (35..=100).contains(&count_tokens(&answer(prompt, 0)))));
    }
}
