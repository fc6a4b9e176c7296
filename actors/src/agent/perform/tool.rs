//! One tool call of an answer.

use std::time::Duration;

use ai_factory_ports::bus::Headers;
use ai_factory_schemas::{
    call::ToolCallHead,
    chat::{ChatMessage, MessageRef, ToolCall},
    id::{RunId, SessionId},
    model::SessionModel,
    problem::Problem,
    time::Timestamp,
    turn::QuestionAsked,
};

use super::message;
use crate::{
    agent::{
        conversation::ToolResult,
        results::{ToolDone, ToolPlace},
        tools::{self, EarlierResult, ToolPerformed, ToolTerms},
    },
    deps::Deps,
    session::state::Session,
};

/// What became of a tool call.
pub enum ToolUsed {
    /// It has its result.
    Done(Box<ToolDone>),
    /// It asks a person.
    Asks(QuestionAsked),
}

impl From<&ToolResult> for EarlierResult {
    fn from(result: &ToolResult) -> Self {
        Self {
            place: ToolPlace { turn: result.turn, index: result.index },
            result: result.result,
            complete: result.complete,
        }
    }
}

/// Carries out a tool call; one that cannot be carried out has a result that says so.
pub async fn carry_out(
    deps: &Deps,
    headers: Headers,
    id: SessionId,
    session: &Session,
    terms: &SessionModel,
    (place, run_id): (ToolPlace, Option<RunId>),
) -> Result<ToolUsed, Problem> {
    let conversation = session.conversation();
    let found =
        conversation.and_then(|conversation| conversation.tool_call(place.turn, place.index));
    let Some((said, head)) = found else {
        return Err(Problem::internal(format!("the tool call {place} is not under way")));
    };
    let used = match terms_of(deps, headers, id, session, terms, (place, run_id)).await {
        Ok(tool_terms) => use_tool(deps, &tool_terms, said, head).await,
        Err(problem) => Err(problem),
    };
    match used {
        Ok(ToolPerformed::Done(done)) => Ok(ToolUsed::Done(done)),
        Ok(ToolPerformed::Asks(question)) => Ok(ToolUsed::Asks(QuestionAsked {
            turn: place.turn,
            index: place.index,
            question_id: head.id,
            question,
            expires: expiry(deps.clock.now(), terms.limits.ask_ms_max),
        })),
        Err(problem) => {
            tracing::warn!(%problem, %id, %place, "a tool call could not be carried out");
            let reason = problem.sentence();
            let done = tools::not_executed(place, head.id, &reason, &deps.mask)?;
            Ok(ToolUsed::Done(Box::new(done)))
        }
    }
}

async fn terms_of(
    deps: &Deps,
    headers: Headers,
    id: SessionId,
    session: &Session,
    terms: &SessionModel,
    (place, run_id): (ToolPlace, Option<RunId>),
) -> Result<ToolTerms, Problem> {
    let files = match session.workspace() {
        Some(workspace) => workspace.tree(&*deps.journal).await.map_err(Problem::internal)?.now,
        None => Default::default(),
    };
    let conversation = session.conversation();
    let answer = conversation.and_then(|conversation| conversation.answer());
    let results = conversation.map(|conversation| conversation.results()).unwrap_or_default();
    Ok(ToolTerms {
        session: id,
        place,
        alone: answer.is_some_and(|answer| answer.finished().tool_calls.len() == 1),
        may_ask: terms.may_ask,
        run_id,
        tool_wall_ms_max: terms.limits.tool_wall_ms_max,
        files,
        earlier: results.iter().map(EarlierResult::from).collect(),
        headers,
    })
}

async fn use_tool(
    deps: &Deps,
    terms: &ToolTerms,
    said: MessageRef,
    head: &ToolCallHead,
) -> Result<ToolPerformed, Problem> {
    let call = call_of(deps, said, head).await?;
    tools::perform(deps, terms, &call).await
}

/// The call in the answer, with its arguments.
async fn call_of(deps: &Deps, said: MessageRef, head: &ToolCallHead) -> Result<ToolCall, Problem> {
    let ChatMessage::Assistant { tool_calls, .. } = message(&*deps.journal, said.hash).await?
    else {
        return Err(Problem::internal(format!("the message {} is no answer", said.hash)));
    };
    let call = tool_calls.into_iter().find(|call| call.id == head.id);
    call.ok_or_else(|| Problem::internal(format!("the answer lacks the tool call {}", head.id)))
}

fn expiry(now: Timestamp, ask_ms_max: u64) -> Timestamp {
    let micros = Duration::from_millis(ask_ms_max).as_micros();
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_add(micros))
}
