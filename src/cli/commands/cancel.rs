//! `cancel`: the end of a session that is not over.

use std::time::Duration;

use ai_factory_actors::ports::bus::Headers;
use ai_factory_schemas::{answer::SessionTold, request::WhichSession, subject::operation};
use clap::Args;

use super::TELL_MS_MAX;
use crate::{
    cli::{
        context::{Context, unless_interrupted},
        exit::{Exit, Failure},
        find, follow,
        output::Output,
    },
    wiring::{self, Unfinished},
};

/// End a session.
#[derive(Args, Debug)]
pub(crate) struct Cancel {
    /// The session: its id, or the beginning of it
    #[arg(value_name = "ID")]
    session: String,
}

impl Cancel {
    /// Waits until it is over. A session that is over already is a failure that changes nothing.
    pub(crate) fn run(&self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        let row = context.look(output, async |reader, _, _| {
            find::session(reader.views.as_ref(), &self.session).await
        })?;
        let id = row.session_id;
        if row.end.is_some() {
            return Err(Failure::failed(format_args!(
                "session {id} is over already ({}): there is nothing to cancel",
                row.status
            )));
        }
        if let Some(holder) = wiring::holder(context.settings()) {
            return Err(Failure::in_use(format_args!(
                "session {id} cannot be cancelled from here: {holder} has the journal open; \
                 Ctrl-C there cancels the sessions that it runs"
            )));
        }
        let rows =
            context.work(output, Unfinished::LeftAlone, async |factory, output, settings| {
                unless_interrupted(async {
                    let which = WhichSession { id: Some(id), key: None };
                    let wait = Duration::from_millis(TELL_MS_MAX);
                    let headers = Headers::default();
                    let _: SessionTold =
                        factory.call(operation::SUPERVISOR_CANCEL, &which, headers, wait).await?;
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
        Ok(Exit::DONE)
    }
}
