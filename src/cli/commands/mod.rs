//! The commands, one file each.

pub(crate) mod answer;
pub(crate) mod budget;
pub(crate) mod calls;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod files;
pub(crate) mod forget;
mod goal_batch;
mod goal_input;
pub(crate) mod goals;
pub(crate) mod head;
pub(crate) mod logs;
mod notes;
pub(crate) mod rebuild;
pub(crate) mod remember;
pub(crate) mod replay;
pub(crate) mod resolve;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod search;
pub(crate) mod sessions;
pub(crate) mod show;
pub(crate) mod snapshot;
pub(crate) mod submit;
pub(crate) mod tail;
pub(crate) mod up;
pub(crate) mod verify;

use std::io::Read as _;

use ai_factory_schemas::{
    encoding::{BYTE_ORDER_MARK, decode_text},
    time::Timestamp,
};

use super::{context::CommandContext, exit::CommandError};
use crate::wiring;

/// A time as shown in tables, in UTC: `2026-01-31 12:00:00`.
fn clock(at: Timestamp) -> String {
    at.to_string().chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// The heading of a column of [`clock`] times.
const TIME: &str = "TIME (UTC)";
/// Listed part of a goal, in characters.
const GOAL_CHARS_MAX: usize = 200;

/// Timeout for the supervisor to record a decision, in milliseconds.
pub(super) const REQUEST_MS_MAX: u64 = 30_000;

/// Fails if another process works with the journal: `what` cannot be done beside it.
fn refuse_if_held(context: &CommandContext, what: &str) -> Result<(), CommandError> {
    match wiring::holder(context.settings()) {
        None => Ok(()),
        Some(holder) => Err(CommandError::in_use(format_args!(
            "{what}: {holder} has the journal open; if it is `ai-factory up`, add --server with its \
             address"
        ))),
    }
}

/// Reads `what` from standard input, without a byte order mark.
fn standard_input(what: &str, bytes_max: usize) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    std::io::stdin()
        // A byte order mark does not count towards the limit.
        .take((bytes_max + BYTE_ORDER_MARK.len_utf8()) as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            CommandError::usage(format_args!("standard input cannot be read: {error}"))
        })?;
    let too_long = || {
        CommandError::usage(format_args!(
            "{what} on standard input is too long: at most {bytes_max} bytes"
        ))
    };
    if bytes.len() > bytes_max + BYTE_ORDER_MARK.len_utf8() {
        return Err(too_long());
    }
    let text = decode_text(bytes).map_err(|error| {
        CommandError::usage(format_args!("{what} on standard input cannot be read: {error}"))
    })?;
    if text.len() > bytes_max { Err(too_long()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_tables_are_plain() {
        assert_eq!(clock(Timestamp::from_micros(1_780_000_000_000_000)), "2026-05-28 20:26:40");
    }
}
