//! `resolve`: the decision about a step with an unknown outcome.

use ai_factory_actors::{
    decider::Decider as _,
    session::{
        state::Session,
        story,
        vocabulary::{NextIds, SessionCommand},
    },
};
use ai_factory_schemas::{
    answer::SessionRow,
    id::{RunId, SessionId},
    request,
    run::IsolationLevel,
    session::{Resolution, SessionEvent, SessionPhase, WaitReason},
    subject::operation,
};
use clap::{Args, ValueEnum};
use uuid::Uuid;

use crate::{
    cli::{
        context::CommandContext,
        exit::{CommandError, Exit},
        follow,
        output::Output,
        session_lookup,
    },
    config::{OnUnknown, Settings},
};

/// Decide whether a step with an unknown outcome is repeated or skipped.
#[derive(Args, Debug)]
pub(crate) struct ResolveArgs {
    /// The session: its id, its request's id, its key, or the beginning of either id
    #[arg(value_name = "ID")]
    session: String,
    /// Run the step again, or count it as failed and continue
    #[arg(value_enum)]
    decision: Decision,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Decision {
    Repeat,
    Skip,
}

impl ResolveArgs {
    /// Follows the session to its end.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let id = context.peek(output, async |reader, _, settings| {
            let row = session_lookup::only(reader, &self.session).await?;
            let folded = story::fold(reader.journal.as_ref(), row.session_id).await?;
            if !folded.is_some_and(|folded| waits(&folded.session, settings)) {
                return Err(nothing_to_resolve(&row));
            }
            Ok(row.session_id)
        })?;
        let resolution = match self.decision {
            Decision::Repeat => Resolution::Repeat,
            Decision::Skip => Resolution::Skip,
        };
        let body = request::Resolve { id: id.into(), resolution };
        follow::request_and_follow(context, output, operation::SUPERVISOR_RESOLVE, &body, id)
    }
}

/// Whether a session waits for a decision, or will once it is resumed. A session that continues
/// without one is not resumed only to report that there is nothing to decide.
fn waits(session: &Session, settings: &Settings) -> bool {
    if session.phase() == SessionPhase::Waiting(WaitReason::Decision) {
        return true;
    }
    let runs_code = settings.sandbox != IsolationLevel::None;
    let repeatable = settings.on_unknown == OnUnknown::Repeat && runs_code;
    // Nothing of what is decided here is recorded, so the ids are never used.
    let next = NextIds { session: SessionId(Uuid::nil()), run: RunId(Uuid::nil()) };
    let resume =
        SessionCommand::Resume { repeatable, after_crash: false, resumes_max: u32::MAX, next };
    session.decide(resume).is_ok_and(|events| {
        events.iter().any(|event| matches!(event, SessionEvent::StepUnknown(_)))
    })
}

fn nothing_to_resolve(row: &SessionRow) -> CommandError {
    let (id, status) = (row.session_id, row.status);
    CommandError::usage(match row.end {
        Some(_) => format!("session {id} is over already ({status}): there is nothing to decide"),
        None => format!(
            "session {id} does not wait for a decision: it is {status}; if no process works on it, `ai-factory resume` \
             finishes it"
        ),
    })
}
