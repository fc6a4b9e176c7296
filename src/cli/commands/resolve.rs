//! `resolve`: what to do with a step whose end is unknown.

use std::time::Duration;

use ai_factory_actors::ports::bus::Headers;
use ai_factory_schemas::{answer::SessionTold, request, session::Resolution, subject::operation};
use clap::{Args, ValueEnum};

use super::TELL_MS_MAX;
use crate::cli::{
    context::{Context, unless_interrupted},
    exit::{Exit, Failure},
    find, follow,
    output::Output,
};
use crate::wiring::Unfinished;

/// Decide what to do with a step whose end is unknown.
#[derive(Args, Debug)]
pub(crate) struct Resolve {
    /// The session: its id, or the beginning of it
    #[arg(value_name = "ID")]
    session: String,
    /// Run the step again, or count it as failed and go on
    #[arg(value_enum)]
    decision: Decision,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Decision {
    Repeat,
    Skip,
}

impl Resolve {
    /// Follows the session to its end.
    pub(crate) fn run(&self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        let row = context.look(output, async |reader, _, _| {
            find::session(reader.views.as_ref(), &self.session).await
        })?;
        let id = row.session_id;
        let resolution = match self.decision {
            Decision::Repeat => Resolution::Repeat,
            Decision::Skip => Resolution::Skip,
        };
        let rows =
            context.work(output, Unfinished::LeftAlone, async |factory, output, settings| {
                unless_interrupted(async {
                    let wait = Duration::from_millis(TELL_MS_MAX);
                    let body = request::Resolve { id, resolution };
                    let headers = Headers::default();
                    let _: SessionTold =
                        factory.call(operation::SUPERVISOR_RESOLVE, &body, headers, wait).await?;
                    follow::until_ended(factory, output, settings, &[id]).await
                })
                .await
            })?;
        if output.json {
            output.json(&rows)?;
        } else {
            for row in &rows {
                output.line(&follow::ending(row))?;
            }
        }
        Ok(rows.iter().map(follow::exit_of).fold(Exit::DONE, Exit::and))
    }
}
