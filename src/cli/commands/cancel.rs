//! `cancel`: ends an open session.

use ai_factory_schemas::{request::WhichSession, subject::operation};
use clap::Args;

use crate::{
    cli::{
        context::Context,
        exit::{Exit, Failure},
        find, follow,
        output::Output,
    },
    wiring,
};

/// Cancel a session.
#[derive(Args, Debug)]
pub(crate) struct Cancel {
    /// The session: its id, its request's id, its key, or the beginning of either id
    #[arg(value_name = "ID")]
    session: String,
}

impl Cancel {
    /// Waits until it has ended. If it had already ended, the command fails and changes nothing.
    pub(crate) fn run(&self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        let row =
            context.look(output, async |reader, _, _| find::only(reader, &self.session).await)?;
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
        let which = WhichSession::id(id);
        follow::tell(context, output, operation::SUPERVISOR_CANCEL, &which, id)?;
        Ok(Exit::DONE)
    }
}
