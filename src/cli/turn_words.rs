//! Turns, tools, calls and questions of a session with a model, as short phrases.

use ai_factory_actors::agent::retry;
use ai_factory_schemas::{
    call::CallEvent,
    chat::StopReason,
    model::Charge,
    session::SessionEvent,
    turn::{ToolFinished, ToolOutcome, TurnDispatched, TurnFailed, TurnFinished, TurnPurpose},
};

use super::{
    budget_words::{count, money},
    line_words::{changed, duration, quote},
    text::short,
};

/// Length of a reason in a line, in characters.
const REASON_CHARS_MAX: usize = 200;
/// The shortest wait for an attempt that is told, in milliseconds.
const WAIT_MS_TOLD: u64 = 2_000;
/// Tools of one answer that are named.
const TOOLS_SHOWN_MAX: usize = 6;

/// An event of a turn; `None` for an event of another kind.
pub(super) fn narrate_turn(event: &SessionEvent) -> Option<String> {
    Some(match event {
        SessionEvent::TurnDispatched(turn) => dispatched(turn),
        SessionEvent::TurnFinished(turn) => finished(turn),
        SessionEvent::TurnFailed(turn) => failed(turn),
        SessionEvent::ToolDispatched(tool) if tool.attempt > 1 => {
            format!("turn {}: its run begins again, attempt {}", tool.turn, tool.attempt)
        }
        SessionEvent::ToolDispatched(tool) => format!("turn {}: its run begins", tool.turn),
        SessionEvent::ToolFinished(tool) => tool_finished(tool),
        SessionEvent::QuestionAsked(asked) => {
            format!("turn {}: asks {}", asked.turn, quote(&asked.question))
        }
        SessionEvent::QuestionAnswered(answered) => match &answered.answer {
            Some(answer) => format!("was answered {}", quote(answer.head())),
            None => "nobody answered its question in time".to_owned(),
        },
        SessionEvent::BudgetChanged(changed) => {
            let cost = changed.budget.cost_micros_max;
            let cost = cost.map(|most| format!(" and cost {}", money(most))).unwrap_or_default();
            format!("may spend {} tokens{cost}", count(changed.budget.tokens_max))
        }
        SessionEvent::Compacted(compacted) => match compacted.replaced.len() {
            1 => "its conversation was shortened: 1 message".to_owned(),
            n => format!("its conversation was shortened: {n} messages"),
        },
        _ => return None,
    })
}

fn dispatched(turn: &TurnDispatched) -> String {
    let what = match turn.purpose {
        TurnPurpose::Plan => "asks the model for a plan",
        TurnPurpose::Work => "asks the model",
    };
    let again = match turn.attempt {
        1 => String::new(),
        attempt => format!(" again, attempt {attempt}"),
    };
    format!("turn {}: {what}{again}, at most {} tokens", turn.turn, count(turn.reserved.tokens()))
}

fn finished(turn: &TurnFinished) -> String {
    let what = match (&turn.fault, &turn.finish, turn.stop) {
        (Some(fault), ..) => format!("no plan, {}", short(fault, REASON_CHARS_MAX)),
        (None, _, StopReason::Length) => "the answer was cut at its longest".to_owned(),
        (None, _, StopReason::Refusal) => "the model refused".to_owned(),
        (None, Some(finish), _) => {
            format!("says {}: {}", finish.status.as_str(), quote(&finish.summary))
        }
        (None, None, _) if turn.tool_calls.is_empty() => "answered".to_owned(),
        (None, None, _) => {
            let calls = turn.tool_calls.iter().map(|call| short(&call.name, REASON_CHARS_MAX));
            let mut named: Vec<_> = calls.take(TOOLS_SHOWN_MAX).collect();
            if let more @ 1.. = turn.tool_calls.len().saturating_sub(TOOLS_SHOWN_MAX) {
                named.push(format!("{more} more"));
            }
            format!("calls {}", named.join(", "))
        }
    };
    format!("turn {}: {what} ({})", turn.turn, charge(&turn.charged))
}

fn failed(turn: &TurnFailed) -> String {
    let class = turn.class.as_str().replace('_', " ");
    let wait = retry::delay_ms(
        turn.call_id,
        turn.attempt.saturating_add(1),
        turn.attempt,
        turn.retry_after_ms,
    );
    let after = turn.class.is_retried().then(|| match wait {
        0..WAIT_MS_TOLD => String::new(),
        wait => format!("; a further attempt waits {}", duration(wait)),
    });
    let charged = match turn.charged.tokens {
        0 => String::new(),
        _ => format!(" ({})", charge(&turn.charged)),
    };
    format!(
        "turn {}: attempt {} failed, {class}: {}{}{charged}",
        turn.turn,
        turn.attempt,
        short(&turn.reason, REASON_CHARS_MAX),
        after.unwrap_or_default()
    )
}

fn tool_finished(tool: &ToolFinished) -> String {
    let what = match tool.outcome {
        ToolOutcome::Done => "done",
        ToolOutcome::Failed => "failed",
        ToolOutcome::Invalid => "refused: its name or its arguments are wrong",
        ToolOutcome::NotExecuted => "not carried out",
    };
    let number = tool.index.saturating_add(1);
    format!("turn {}: tool {number} {what}{}", tool.turn, changed(tool.workspace.as_ref()))
}

/// What an attempt is charged.
fn charge(charged: &Charge) -> String {
    let cost = charged.cost_micros.map(|micros| format!(", {}", money(micros))).unwrap_or_default();
    let how = match (charged.overrun, charged.estimated) {
        (true, _) => ", more than was set aside",
        (_, true) => " as set aside",
        _ => "",
    };
    format!("{} tokens{how}{cost}", count(charged.tokens))
}

/// An event of a call.
pub(super) fn narrate_call(event: &CallEvent) -> String {
    match event {
        CallEvent::Requested(call) => {
            let at = call.endpoint.host();
            let at = if at.is_empty() { String::new() } else { format!(" at {}", short(at, 80)) };
            format!("attempt {} asks {}{at}", call.attempt, short(&call.endpoint.model, 80))
        }
        CallEvent::Answered(call) => format!(
            "attempt {} was answered in {} ({})",
            call.attempt,
            duration(call.duration_ms),
            charge(&call.charged)
        ),
        CallEvent::Failed(call) => format!(
            "attempt {} failed, {}: {}",
            call.attempt,
            call.class.as_str().replace('_', " "),
            short(&call.reason, REASON_CHARS_MAX)
        ),
        CallEvent::Abandoned(call) => {
            format!("abandoned: {}", short(&call.reason, REASON_CHARS_MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        call::ToolCallHead,
        chat::MessageRef,
        id::{CallId, ToolCallId},
        model::ModelErrorClass,
        session::SessionStatus,
        text::BlobHash,
        turn::FinishCall,
    };
    use uuid::Uuid;

    use super::*;

    fn answered(tools: &[&str]) -> TurnFinished {
        let head = |name: &&str| ToolCallHead {
            id: ToolCallId(Uuid::nil()),
            name: (*name).to_owned(),
            fingerprint: BlobHash::of(b"x"),
        };
        TurnFinished {
            turn: 3,
            call_id: CallId(Uuid::nil()),
            attempt: 1,
            message: MessageRef { hash: BlobHash::of(b"x"), bytes: 1 },
            stop: StopReason::ToolCalls,
            tool_calls: tools.iter().map(head).collect(),
            usage: None,
            charged: Charge { tokens: 1_234, ..Charge::default() },
            finish: None,
            fault: None,
        }
    }

    #[test]
    fn a_turn_tells_what_the_model_wants_and_what_it_took() {
        let told = |turn: TurnFinished| narrate_turn(&turn.into()).unwrap();
        assert_eq!(
            told(answered(&["run", "write_file"])),
            "turn 3: calls run, write_file (1,234 tokens)"
        );
        assert_eq!(
            told(answered(&["run"; 9])),
            "turn 3: calls run, run, run, run, run, run, 3 more (1,234 tokens)"
        );
        let cut = TurnFinished { stop: StopReason::Length, ..answered(&["run"]) };
        assert_eq!(told(cut), "turn 3: the answer was cut at its longest (1,234 tokens)");
        let finish = FinishCall {
            status: SessionStatus::Success,
            summary: "It \u{1b}[31mworks".to_owned(),
            files: Vec::new(),
        };
        let told = told(TurnFinished { finish: Some(finish), ..answered(&["finish"]) });
        assert!(told.starts_with("turn 3: says success: \"It "), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
    }

    #[test]
    fn an_attempt_that_failed_tells_why_and_what_is_charged_for_it() {
        let failed = TurnFailed {
            turn: 2,
            call_id: CallId(Uuid::nil()),
            attempt: 1,
            class: ModelErrorClass::RateLimited,
            reason: "too many requests".to_owned(),
            retry_after_ms: Some(30_000),
            charged: Charge::nothing(),
        };
        let told = |failed: &TurnFailed| narrate_turn(&failed.clone().into()).unwrap();
        let plain = "turn 2: attempt 1 failed, rate limited: too many requests";
        assert_eq!(told(&failed), format!("{plain}; a further attempt waits 30.0 s"));
        // What a provider asks for is followed up to ten minutes, and a short wait is not told.
        let long = TurnFailed { retry_after_ms: Some(3_600_000), ..failed.clone() };
        assert_eq!(told(&long), format!("{plain}; a further attempt waits {}", duration(600_000)));
        assert_eq!(told(&TurnFailed { retry_after_ms: None, ..failed }), plain);
        let whole = Charge { tokens: 9_000, estimated: true, ..Charge::default() };
        assert_eq!(charge(&whole), "9,000 tokens as set aside");
    }
}
