//! One attempt of a model call, asked of the actor `model`.

use std::{future::pending, time::Duration};

use ai_factory_ports::{
    bus::{Headers, header},
    request_reply,
};
use ai_factory_schemas::{
    answer::{CallEnd, Completed},
    call::CallAnswered,
    chat::{ChatMessage, StopReason},
    id::{CallId, SessionId},
    model::{Charge, ModelErrorClass, SessionModel},
    plan::Plan,
    problem::Problem,
    subject::MODEL_COMPLETE,
    turn::{TurnFailed, TurnFinished, TurnPurpose},
};
use tokio::time::sleep;

use super::message;
use crate::{
    agent::{plan::plan_of, tools::finish::finish_of, turn::Turn},
    deps::Deps,
    session::{departure::Departure, pause::pause, state::Session},
};

/// The end of an attempt.
pub enum TurnEnd {
    /// The model answered.
    Answered {
        /// The answer.
        finished: Box<TurnFinished>,
        /// The plan that it is, if one was asked for and it is one.
        plan: Option<Plan>,
    },
    /// There is no answer.
    Failed(TurnFailed),
}

/// An attempt that ended, and how long it waited for its place.
pub struct TurnAsked {
    /// Its end.
    pub end: TurnEnd,
    /// The wait, which does not count as work of the session.
    pub waited: Duration,
}

/// Asks the model, after a wait. Refusals of a moment are tried again: the actor of the model knows
/// the attempt. The session's deadline ends the wait. An attempt that is held back is not made, and
/// has no end.
pub async fn ask(
    deps: &Deps,
    mut headers: Headers,
    id: SessionId,
    session: &Session,
    terms: &SessionModel,
    (call_id, attempt, (delay, departure)): (CallId, u32, (Duration, &Departure)),
) -> Result<TurnAsked, Problem> {
    let turn = session.conversation().and_then(|conversation| conversation.turn());
    let turn = turn.filter(|turn| (turn.call_id, turn.attempt) == (call_id, attempt));
    let asked = turn.and_then(|turn| Some((turn, session.request_of(turn.number, id)?)));
    let Some((turn, asked)) = asked else {
        return Err(Problem::internal(format!("the call {call_id} is not under way")));
    };
    sleep(delay).await;
    if !departure.leave() {
        // The session is over: nobody waits for the answer.
        return pending().await;
    }
    headers.set(header::OUTPUTS, header::RECORDED);
    let wait_max = Duration::from_millis(terms.limits.session_ms_max);
    let completed: Completed = loop {
        let asking = request_reply::call(
            &*deps.bus,
            &deps.subjects,
            MODEL_COMPLETE,
            &asked,
            headers.clone(),
            wait_max,
        );
        match asking.await {
            Err(problem) if problem.is_transient() => {
                pause(&problem).await;
            }
            Err(problem) => {
                let end = TurnEnd::Failed(not_asked(turn, problem.sentence()));
                return Ok(TurnAsked { end, waited: Duration::ZERO });
            }
            Ok(completed) => break completed,
        }
    };
    let waited = Duration::from_millis(completed.waited_ms);
    let end = match completed.end {
        CallEnd::Answered(answered) => answer(deps, session, terms, turn, *answered).await?,
        CallEnd::Failed(failed) => TurnEnd::Failed(TurnFailed {
            turn: turn.number,
            call_id,
            attempt: failed.attempt,
            class: failed.class,
            reason: failed.reason,
            retry_after_ms: failed.retry_after_ms,
            charged: failed.charged,
        }),
    };
    Ok(TurnAsked { end, waited })
}

/// The failure of an attempt of which the actor of the model knows nothing more: how it ended is
/// unknown, so all of it is charged.
fn not_asked(turn: &Turn, reason: String) -> TurnFailed {
    TurnFailed {
        turn: turn.number,
        call_id: turn.call_id,
        attempt: turn.attempt,
        class: ModelErrorClass::Unknown,
        reason,
        retry_after_ms: None,
        charged: Charge::whole(&turn.reserved),
    }
}

async fn answer(
    deps: &Deps,
    session: &Session,
    terms: &SessionModel,
    turn: &Turn,
    answered: CallAnswered,
) -> Result<TurnEnd, Problem> {
    let said = message(&*deps.journal, answered.message.hash).await?;
    let is_complete = matches!(answered.stop, StopReason::End | StopReason::ToolCalls);
    let (mut plan, mut fault, mut finish) = (None, None, None);
    match turn.purpose {
        TurnPurpose::Plan => match plan_in(session, terms, &said, answered.stop) {
            Ok(made) => plan = Some(made),
            Err(why) => fault = Some(why),
        },
        TurnPurpose::Work if is_complete => finish = finish_of(&said),
        TurnPurpose::Work => {}
    }
    let finished = TurnFinished {
        turn: turn.number,
        call_id: turn.call_id,
        attempt: answered.attempt,
        message: answered.message,
        stop: answered.stop,
        tool_calls: answered.tool_calls,
        usage: answered.usage,
        charged: answered.charged,
        finish,
        fault,
    };
    Ok(TurnEnd::Answered { finished: Box::new(finished), plan })
}

/// The plan that an answer is, or why it is none.
fn plan_in(
    session: &Session,
    terms: &SessionModel,
    said: &ChatMessage,
    stop: StopReason,
) -> Result<Plan, String> {
    match stop {
        StopReason::End | StopReason::ToolCalls => {}
        StopReason::Length => return Err("it was cut at the limit of tokens.".to_owned()),
        StopReason::Refusal => return Err("it is a refusal.".to_owned()),
    }
    let ChatMessage::Assistant { text, .. } = said else {
        return Err("it has no text.".to_owned());
    };
    let opened = session.opened();
    let goal = opened.map_or("", |opened| opened.goal.as_str());
    let task_type = opened.map(|opened| opened.task_type).unwrap_or_default();
    plan_of(text, goal, task_type, &terms.endpoint.model)
}
