//! Server-sent events: the same answer however the bytes are cut into pieces, and no count that is not in them.

use promptmill::domain::{Answer, AttemptFailure, Usage};
use promptmill::provider::read_stream;

use super::response_bodies::check_failure;
use super::writing::check_answer_written;

pub fn check(data: &[u8]) {
    let whole = read_stream([data], 200);
    for longest in [1, 2, 7, 64] {
        let cut = read_stream(pieces(data, longest), 200);
        assert_eq!(shown(&cut), shown(&whole), "in pieces of up to {longest} bytes");
    }
    check_usage(usage(&whole), data);
    check_cut_short(&whole, data);
    match whole {
        Ok(answer) => check_answer_written(answer),
        Err(failure) => check_failure(&failure, 200),
    }
}

/// Pieces of 0 to `longest` bytes, in a pattern that the bytes themselves give.
fn pieces(mut data: &[u8], longest: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut state = data.len();
    while !data.is_empty() {
        state = state.wrapping_mul(31).wrapping_add(usize::from(data[0]));
        let length = if longest == 1 { 1 } else { state % (longest + 1) };
        let (piece, rest) = data.split_at(length.min(data.len()));
        pieces.push(piece);
        data = rest;
    }
    pieces
}

/// All but the time to the first token.
fn shown(read: &Result<Answer, AttemptFailure>) -> String {
    match read {
        Ok(answer) => {
            let mut completion = answer.completion.clone();
            completion.ttft = None;
            format!("{completion:?} {:?} {:?}", answer.usage, answer.model)
        }
        Err(failure) => format!("{failure:?}"),
    }
}

fn usage(read: &Result<Answer, AttemptFailure>) -> Usage {
    read.as_ref().map_or_else(|failure| failure.usage, |answer| answer.usage)
}

fn check_usage(usage: Usage, data: &[u8]) {
    let counts = [
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    ];
    for count in counts.into_iter().flatten() {
        let digits = count.to_string();
        for needed in ["tokens", &digits] {
            let found = data.windows(needed.len()).any(|window| window == needed.as_bytes());
            assert!(found, "{count} tokens, but no {needed} in the stream");
        }
    }
}

/// What is cut short gives no answer, or a beginning of the whole one.
fn check_cut_short(whole: &Result<Answer, AttemptFailure>, data: &[u8]) {
    let Ok(whole) = whole else { return };
    for end in [data.len() / 2, data.len() - data.len() / 8] {
        let Ok(cut) = read_stream([&data[..end]], 200) else { continue };
        let (cut, whole) = (&cut.completion.outputs, &whole.completion.outputs);
        if cut.len() == whole.len() {
            let begins = |(cut, whole): (&Option<String>, &Option<String>)| {
                whole.as_deref().unwrap_or_default().starts_with(cut.as_deref().unwrap_or_default())
            };
            assert!(cut.iter().zip(whole).all(begins), "{cut:?} is no beginning of {whole:?}");
        }
    }
}
