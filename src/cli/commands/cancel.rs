//! `cancel`: ends an open session.

use ai_factory_schemas::{request::SessionSelector, subject::operation};
use clap::Args;

use crate::{
    cli::{
        context::CommandContext,
        exit::{CommandError, Exit},
        follow,
        output::Output,
        session_lookup,
    },
    wiring,
};

/// Cancel a session.
#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// The session: its id, its request's id, its key, or the beginning of either id
    #[arg(value_name = "ID")]
    session: String,
}

impl CancelArgs {
    /// Waits until it has ended. If it had already ended, the command fails and changes nothing.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let row = context
            .peek(output, async |reader, _, _| session_lookup::only(reader, &self.session).await)?;
        let id = row.session_id;
        if row.end.is_some() {
            return Err(CommandError::failed(format_args!(
                "session {id} is over already ({}): there is nothing to cancel",
                row.status
            )));
        }
        if let Some(holder) = wiring::holder(context.settings()) {
            return Err(CommandError::in_use(format_args!(
                "session {id} cannot be cancelled from here: {holder} has the journal open; \
                 Ctrl-C there cancels the sessions that it runs"
            )));
        }
        let which = SessionSelector::id(id);
        follow::request_and_follow(context, output, operation::SUPERVISOR_CANCEL, &which, id)?;
        Ok(Exit::DONE)
    }
}
