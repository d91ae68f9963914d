//! The simulator's tokenizer: a rule simple enough to be checked by hand, near enough to real ones to make sensible bills.

/// The most bytes of a word that make one token.
const WORD_BYTES: usize = 6;

/// How many tokens the simulator bills for a text.
///
/// A token is up to 6 bytes of letters and digits, or one other character; the space in front of it belongs to it.
/// `Hello, simulated world` is `Hello` `,` ` simula` `ted` ` world`: 5 tokens.
#[must_use]
pub fn count_tokens(text: &str) -> u64 {
    pieces(text).count() as u64
}

/// The tokens of a text. Put together again they are the text, and a prefix of them has the same tokens.
pub(super) fn pieces(text: &str) -> Pieces<'_> {
    Pieces { rest: text }
}

/// Iterates over the tokens of a text.
pub(super) struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let space = usize::from(self.rest.len() > 1 && self.rest.starts_with(' '));
        let length = token_length(&self.rest[space..])?;
        let (piece, rest) = self.rest.split_at(space + length);
        self.rest = rest;
        Some(piece)
    }
}

/// The bytes of the first token of a text that has no space in front.
fn token_length(text: &str) -> Option<usize> {
    // Nearly all words are ASCII, and all that is said here goes through this.
    let bytes = text.as_bytes();
    let ascii = bytes.iter().take(WORD_BYTES).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if ascii == WORD_BYTES || (ascii > 0 && bytes.get(ascii).is_none_or(u8::is_ascii)) {
        return Some(ascii);
    }
    let mut characters = text.chars();
    let first = characters.next()?;
    let mut length = first.len_utf8();
    if first.is_alphanumeric() {
        for next in characters {
            if !next.is_alphanumeric() || length + next.len_utf8() > WORD_BYTES {
                break;
            }
            length += next.len_utf8();
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_of_a_text_are_the_text() {
        let text = "Hello, simulated world";
        assert_eq!(pieces(text).collect::<Vec<_>>(), ["Hello", ",", " simula", "ted", " world"]);
        for text in ["", " ", "  a ", "日本語のテキスト", "ünï côdé\r\n\t x", "1234567890"] {
            assert_eq!(pieces(text).collect::<String>(), text);
        }
        assert_eq!(count_tokens("日本語"), 2);
        assert_eq!(pieces("abüdefg").collect::<Vec<_>>(), ["abüde", "fg"]);
    }

    #[test]
    fn a_prefix_of_the_tokens_has_the_same_tokens() {
        let text = "one  two, threefourfive — “six” 7";
        let all: Vec<_> = pieces(text).collect();
        for length in 0..=all.len() {
            assert_eq!(count_tokens(&all[..length].concat()), length as u64);
        }
    }
}
