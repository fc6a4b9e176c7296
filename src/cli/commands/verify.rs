//! `verify`: whether the whole journal is unaltered.

use std::str::FromStr;

use ai_factory_schemas::text::BlobHash;
use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        context::CommandContext,
        exit::{CommandError, Exit},
        output::Output,
    },
    wiring,
};

/// Verify that the whole journal is unaltered.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// A head noted earlier with `ai-factory head`: detects that later events were cut off
    #[arg(long, value_name = "POSITION:HASH")]
    head: Option<NotedHead>,
}

#[derive(Clone, Debug)]
struct NotedHead(u64, String);

impl FromStr for NotedHead {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (position, hash) = text.split_once(':').ok_or("write it as POSITION:HASH")?;
        let position = position.parse().map_err(|_| "the position must be a whole number")?;
        let hash = hash.to_ascii_lowercase();
        hash.parse::<BlobHash>().map_err(|_| "the hash must be 64 hexadecimal digits")?;
        Ok(Self(position, hash))
    }
}

impl VerifyArgs {
    /// Exit code 1 if the journal was altered; the first such position is named.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let expected = self.head.map(|NotedHead(position, hash)| (position, hash));
        match wiring::verify(context.settings(), expected) {
            Ok(report) => {
                let (position, hash) = (report.head.position, report.head.hash.to_string());
                if output.json {
                    output.json(&json!({ "ok": true, "position": position, "hash": hash }))?;
                } else {
                    output.line(&format!(
                        "all {position} events are unaltered; the head is {position}:{hash}"
                    ))?;
                }
                Ok(Exit::DONE)
            }
            Err(fault) => {
                let sentence = fault.to_string();
                if output.json && fault.exit_code == Exit::FAILED.0 {
                    output.json(
                        &json!({ "ok": false, "position": fault.position, "reason": sentence }),
                    )?;
                }
                Err(CommandError::Said { sentence, exit: Exit(fault.exit_code) })
            }
        }
    }
}
