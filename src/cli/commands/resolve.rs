//! `resolve`: what to do with a step whose end is unknown.

use ai_factory_schemas::{request, session::Resolution, subject::operation};
use clap::{Args, ValueEnum};

use crate::cli::{
    context::Context,
    exit::{Exit, Failure},
    find, follow,
    output::Output,
};

/// Decide what to do with a step whose end is unknown.
#[derive(Args, Debug)]
pub(crate) struct Resolve {
    /// The session: its id, its request's id, its key, or the beginning of either id
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
        let row =
            context.look(output, async |reader, _, _| find::only(reader, &self.session).await)?;
        let id = row.session_id;
        let resolution = match self.decision {
            Decision::Repeat => Resolution::Repeat,
            Decision::Skip => Resolution::Skip,
        };
        let body = request::Resolve { id: id.into(), resolution };
        let rows = follow::tell(context, output, operation::SUPERVISOR_RESOLVE, &body, id)?;
        Ok(rows.iter().map(follow::exit_of).fold(Exit::DONE, Exit::and))
    }
}
