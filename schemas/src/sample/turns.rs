//! Samples of the events of turns and model calls.

use uuid::Uuid;

use super::parts::{RUN, SESSION, changes};
use crate::{
    call::{CallAbandoned, CallAnswered, CallFailed, CallRequested, ToolCallHead},
    chat::{MessageRef, StopReason},
    event::Event,
    id::{CallId, ToolCallId},
    model::{
        Budget, Charge, ModelEndpoint, ModelErrorClass, ModelParameters, ModelProtocol,
        Reservation, SessionModel, TokenPrices, TokenUsage, ToolProtocol, TurnLimits,
    },
    session::{Ingress, SessionStatus, Submitter},
    text::{BlobHash, Text},
    time::Timestamp,
    turn::{
        BudgetChanged, Compacted, FinishCall, MessageReplaced, QuestionAnswered, QuestionAsked,
        ToolDispatched, ToolFinished, ToolOutcome, TurnDispatched, TurnFailed, TurnFinished,
        TurnPurpose,
    },
    workspace::WorkspaceEnd,
};

const CALL: CallId = CallId(Uuid::from_u128(0x0198_c0de_0000_8001_8000_0000_0000_0005));
const TOOL_CALL: ToolCallId =
    ToolCallId(Uuid::from_u128(0x0198_c0de_0000_8001_8040_0000_0000_0006));

fn message(text: &[u8]) -> MessageRef {
    MessageRef { hash: BlobHash::of(text), bytes: text.len() as u64 }
}

fn reserved() -> Reservation {
    Reservation { input_tokens: 1_200, output_tokens: 4_096, cost_micros: Some(65_040) }
}

fn usage() -> TokenUsage {
    TokenUsage { input: 700, cache_read: 200, cache_write: 100, output: 50, reasoning: Some(10) }
}

fn charged() -> Charge {
    Charge { tokens: 1_050, cost_micros: Some(3_285), estimated: false, overrun: false }
}

fn tool_call_head() -> ToolCallHead {
    ToolCallHead { id: TOOL_CALL, name: "run".to_owned(), fingerprint: BlobHash::of(b"run {}") }
}

fn endpoint() -> ModelEndpoint {
    ModelEndpoint {
        model: "anthropic/claude-x".to_owned(),
        url: "https://api.example.com/v1".to_owned(),
        protocol: ModelProtocol::Messages,
        tools: ToolProtocol::Native,
    }
}

fn parameters() -> ModelParameters {
    ModelParameters {
        temperature_milli: Some(200),
        seed: Some(7),
        output_tokens_max: 4_096,
        context_tokens: 32_768,
    }
}

fn prices() -> TokenPrices {
    TokenPrices {
        input: 3_000_000,
        cache_read: Some(300_000),
        cache_write: Some(3_750_000),
        output: 15_000_000,
    }
}

pub(super) fn session_model() -> SessionModel {
    SessionModel {
        endpoint: endpoint(),
        parameters: parameters(),
        prices: Some(prices()),
        budget: Budget { tokens_max: 1_000_000, cost_micros_max: Some(5_000_000) },
        limits: TurnLimits {
            turns_max: 100,
            retries_max: 4,
            tool_wall_ms_max: 60_000,
            ask_ms_max: 86_400_000,
            session_ms_max: 14_400_000,
        },
        prompts: BlobHash::of(b"prompts"),
        prompts_bytes: 8_192,
        tools: BlobHash::of(b"tools"),
        tools_bytes: 4_096,
        plan_schema: BlobHash::of(b"schema"),
        plan_schema_bytes: 512,
        may_ask: true,
    }
}

/// The events of a session's turns.
pub(super) fn of_turns() -> Vec<Event> {
    vec![
        TurnDispatched {
            turn: 1,
            call_id: CALL,
            attempt: 1,
            purpose: TurnPurpose::Plan,
            request_hash: BlobHash::of(b"request"),
            appended: vec![message(b"system"), message(b"goal")],
            reserved: reserved(),
        }
        .into(),
        TurnFinished {
            turn: 1,
            call_id: CALL,
            attempt: 1,
            message: message(b"answer"),
            stop: StopReason::ToolCalls,
            tool_calls: vec![tool_call_head()],
            usage: Some(usage()),
            charged: charged(),
            finish: Some(FinishCall {
                status: SessionStatus::Success,
                summary: "done".to_owned(),
                files: vec!["a.txt".to_owned()],
            }),
            fault: Some("it is no JSON".to_owned()),
        }
        .into(),
        TurnFailed {
            turn: 1,
            call_id: CALL,
            attempt: 1,
            class: ModelErrorClass::RateLimited,
            reason: "too many requests".to_owned(),
            retry_after_ms: Some(2_000),
            charged: Charge::nothing(),
        }
        .into(),
        ToolDispatched { turn: 1, index: 0, run_id: RUN, attempt: 1 }.into(),
        ToolFinished {
            turn: 1,
            index: 0,
            outcome: ToolOutcome::Failed,
            result: message(b"exit code 1"),
            complete: Some(message(b"exit code 1 and more")),
            run_id: Some(RUN),
            failure: Some(BlobHash::of(b"failure")),
            workspace: Some(WorkspaceEnd {
                changes: Some(changes()),
                refused: None,
                left_out: Vec::new(),
            }),
        }
        .into(),
        QuestionAsked {
            turn: 1,
            index: 0,
            question_id: TOOL_CALL,
            question: "Which?".to_owned(),
            expires: Timestamp::from_micros(1_780_000_000_000_000),
        }
        .into(),
        QuestionAnswered {
            question_id: TOOL_CALL,
            answer: Some(Text::from("This.")),
            by: Some(Submitter {
                ingress: Ingress::Http,
                claims_to_be: Some("alice".to_owned()),
                proven_to_be: None,
            }),
        }
        .into(),
        BudgetChanged {
            budget: Budget { tokens_max: 2_000_000, cost_micros_max: Some(6_000_000) },
            by: Some(Submitter { ingress: Ingress::Cli, claims_to_be: None, proven_to_be: None }),
        }
        .into(),
        Compacted {
            turn: 2,
            replaced: vec![MessageReplaced { at: 3, message: message(b"shorter") }],
        }
        .into(),
    ]
}

/// The events of a model call.
pub(super) fn of_calls() -> Vec<Event> {
    vec![
        CallRequested {
            session_id: Some(SESSION),
            turn: 1,
            attempt: 1,
            endpoint: endpoint(),
            parameters: parameters(),
            request: BlobHash::of(b"request"),
            predecessor: Some(CALL),
            kept: 2,
            appended: vec![message(b"system"), message(b"goal")],
            tools: Some(BlobHash::of(b"tools")),
            schema: Some(BlobHash::of(b"schema")),
            reserved: reserved(),
            prices: Some(prices()),
            day: "2026-12-01".to_owned(),
        }
        .into(),
        CallAnswered {
            attempt: 1,
            message: message(b"answer"),
            stop: StopReason::ToolCalls,
            tool_calls: vec![tool_call_head()],
            usage: Some(usage()),
            charged: charged(),
            answered_by: Some("claude-x-2".to_owned()),
            provider_id: Some("msg_1".to_owned()),
            first_token_ms: Some(210),
            duration_ms: 1_400,
        }
        .into(),
        CallFailed {
            attempt: 1,
            class: ModelErrorClass::Cut,
            reason: "the answer broke off".to_owned(),
            retry_after_ms: Some(1_000),
            usage: Some(usage()),
            charged: Charge::whole(&reserved()),
            duration_ms: 1_400,
        }
        .into(),
        CallAbandoned {
            attempt: 1,
            reason: "nobody waits for it".to_owned(),
            charged: Charge::whole(&reserved()),
        }
        .into(),
    ]
}
