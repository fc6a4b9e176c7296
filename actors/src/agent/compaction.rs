//! Compaction: results of tools are shortened when the conversation outgrows the model's window.

use super::{conversation::Conversation, size::RequestParts};

/// The part of the window from which on the conversation is shortened, in percent.
const FULL_PERCENT: u64 = 80;
/// The part of the window that it is shortened to, in percent.
const AIM_PERCENT: u64 = 50;
/// The most bytes that a shortened result has. Shorter ones stay.
pub const SHORTENED_BYTES_MAX: u64 = 1024;

/// What the window asks for before a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// The request fits.
    Fits,
    /// The results at these places of the conversation are to be shortened first.
    Shorten(Vec<u32>),
    /// The request cannot fit, and nothing is left to shorten.
    Full(String),
}

/// What the window asks for before this request of the conversation.
pub fn of(conversation: &Conversation, parts: &RequestParts<'_>) -> Window {
    let parameters = &parts.terms.parameters;
    let window = parameters.context_tokens;
    let settled = conversation.settled();
    let expected = parts.tokens_expected(settled);
    let with_answer = expected.saturating_add(parameters.output_tokens_max);
    if expected < share(window, FULL_PERCENT) && with_answer <= window {
        return Window::Fits;
    }
    let room = window.saturating_sub(parameters.output_tokens_max);
    let at = shortened(conversation, parts, expected, share(window, AIM_PERCENT).min(room));
    if !at.is_empty() {
        return Window::Shorten(at);
    }
    let likely = parts.tokens_likely(settled);
    if likely.saturating_add(parameters.output_tokens_max) > window {
        return Window::Full(format!(
            "context full: about {likely} tokens of conversation and {} of an answer do not fit the \
             window of {window}, and there is no result of a tool left to shorten: use a model with a \
             larger window (`model_context_tokens`), or split the goal",
            parameters.output_tokens_max
        ));
    }
    Window::Fits
}

fn share(window: u64, percent: u64) -> u64 {
    window / 100 * percent + window % 100 * percent / 100
}

/// The places of the results to shorten, oldest first, until `aim` is reached: never the last
/// failing output, and what the model has not seen only if the rest is not enough.
fn shortened(
    conversation: &Conversation,
    parts: &RequestParts<'_>,
    expected: u64,
    aim: u64,
) -> Vec<u32> {
    let settled = conversation.settled();
    let results = conversation.results();
    let kept = results.iter().rposition(|result| result.is_failure());
    let turn = conversation.turns();
    let (seen, unseen): (Vec<_>, Vec<_>) = results
        .iter()
        .enumerate()
        .filter(|(index, result)| {
            let is_long = result.result.bytes > SHORTENED_BYTES_MAX;
            is_long && !result.is_shortened && Some(*index) != kept
        })
        .map(|(_, result)| result)
        .partition(|result| result.turn < turn);
    let mut left = expected;
    let mut at = Vec::new();
    for result in seen {
        if left <= aim {
            return at;
        }
        let freed = result.result.bytes - SHORTENED_BYTES_MAX;
        left = left.saturating_sub(parts.tokens_freed(settled, result.at, freed));
        at.push(result.at);
    }
    let output = parts.terms.parameters.output_tokens_max;
    let likely = parts.tokens_likely(settled).saturating_sub(expected - left);
    if likely.saturating_add(output) > parts.terms.parameters.context_tokens {
        at.extend(unseen.iter().map(|result| result.at));
    }
    at
}
