//! The one effect of a call: a request to the model, and what is recorded of its answer.

use std::time::Duration;

use ai_factory_ports::model::{ModelAnswer, ModelCall, ModelError};
use ai_factory_schemas::{
    call::{CallAnswered, ToolCallHead},
    chat::{ChatMessage, MessageRef, ToolCall},
    id::{CallId, EffectPlace, SessionId, ToolCallId},
    limit::{BLOB_BYTES_MAX, TOOL_CALLS_READ_MAX, TOOL_NAME_CHARS_MAX},
    model::{Charge, ModelErrorClass},
    quote::printable,
    text::Blob,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    decider::CallOutcome,
    live::{LiveSink, LiveText},
};
use crate::{deps::Deps, mask::Mask, spans};

/// The longest reason of a failure, in characters.
const REASON_CHARS_MAX: usize = 2_000;
/// The longest name that a provider gives an answer or a model, in characters.
const PROVIDER_NAME_CHARS_MAX: usize = 256;

/// Whose tool calls an answer has.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerPlace {
    /// The call.
    pub(super) call_id: CallId,
    /// The session, if there is one.
    pub(super) session_id: Option<SessionId>,
    /// The turn.
    pub(super) turn: u32,
}

impl AnswerPlace {
    /// The id of a tool call of the answer, equal for all attempts.
    fn tool(&self, index: usize) -> ToolCallId {
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        let session = self.session_id.unwrap_or(SessionId(self.call_id.0));
        ToolCallId(EffectPlace::tool(self.turn, index).id(session))
    }
}

/// Asks the model once, until it answers or the call is cancelled, and publishes its text
/// meanwhile. Returns the outcome, and the blob that its record refers to if there is one.
pub(super) async fn perform(
    deps: &Deps,
    place: AnswerPlace,
    call: ModelCall,
    (mut sink, live): (LiveSink, &mut LiveText),
    cancel: &CancellationToken,
) -> (CallOutcome, Option<Blob>) {
    let span = spans::chat(&call);
    let began = Instant::now();
    let asking = async {
        tokio::select! {
            biased;
            answered = deps.model.complete(call, &mut sink) => Some(answered),
            () = cancel.cancelled() => None,
            never = live.follow() => match never {},
        }
    };
    let answered = asking.instrument(span.clone()).await;
    let duration_ms = millis(began.elapsed());
    match answered {
        Some(Ok(answer)) => {
            spans::answered(&span, &answer);
            let first_at = live.first_at().map(|at| millis(at.duration_since(began)));
            let usage = answer.usage;
            match record(&deps.mask, place, answer) {
                Ok((mut answered, blob)) => {
                    (answered.first_token_ms, answered.duration_ms) = (first_at, duration_ms);
                    (CallOutcome::Answered(Box::new(answered)), Some(blob))
                }
                Err(reason) => {
                    spans::not_answered(&span, ModelErrorClass::Malformed);
                    let class = ModelErrorClass::Malformed;
                    let retry_after_ms = None;
                    let failed =
                        CallOutcome::Failed { class, reason, retry_after_ms, usage, duration_ms };
                    (failed, None)
                }
            }
        }
        Some(Err(ModelError { class, reason, retry_after, usage })) => {
            spans::not_answered(&span, class);
            let reason = printable(&deps.mask.apply(&reason), REASON_CHARS_MAX);
            let retry_after_ms = retry_after.map(millis);
            (CallOutcome::Failed { class, reason, retry_after_ms, usage, duration_ms }, None)
        }
        None => {
            let class = ModelErrorClass::Cancelled;
            spans::not_answered(&span, class);
            let reason = "cancelled while it was under way: what the provider bills is unknown";
            let failed = CallOutcome::Failed {
                class,
                reason: reason.to_owned(),
                retry_after_ms: None,
                usage: None,
                duration_ms,
            };
            (failed, None)
        }
    }
}

/// An answer as it is recorded, and its message: exact, but for values that are known as secret.
/// The times are left at zero.
///
/// # Errors
/// A sentence, if it is larger than an answer may be.
fn record(
    mask: &Mask,
    place: AnswerPlace,
    answer: ModelAnswer,
) -> Result<(CallAnswered, Blob), String> {
    let calls = answer.tool_calls.len();
    if calls > TOOL_CALLS_READ_MAX {
        return Err(format!("the answer has {calls} tool calls: at most {TOOL_CALLS_READ_MAX}"));
    }
    let numbered = answer.tool_calls.into_iter().enumerate();
    let tool_calls: Vec<_> = numbered
        .map(|(index, call)| ToolCall {
            id: place.tool(index),
            provider_id: call.provider_id,
            name: call.name,
            arguments: mask.apply_known(&call.arguments),
        })
        .collect();
    let heads = tool_calls
        .iter()
        .map(|call| ToolCallHead {
            id: call.id,
            name: call.name.chars().take(TOOL_NAME_CHARS_MAX).collect(),
            fingerprint: call.fingerprint(),
        })
        .collect();
    let message = ChatMessage::Assistant { text: mask.apply_known(&answer.text), tool_calls };
    let blob = message.to_blob().map_err(|fault| format!("the answer cannot be kept: {fault}"))?;
    let bytes = blob.bytes().len();
    if bytes > BLOB_BYTES_MAX {
        return Err(format!("the answer takes {bytes} bytes: at most {BLOB_BYTES_MAX}"));
    }
    let named = |name: Option<String>| name.map(|name| printable(&name, PROVIDER_NAME_CHARS_MAX));
    let answered = CallAnswered {
        attempt: 0,
        message: MessageRef::from(&blob),
        stop: answer.stop,
        tool_calls: heads,
        usage: answer.usage,
        charged: Charge::nothing(),
        answered_by: named(answer.answered_by),
        provider_id: named(answer.provider_id),
        first_token_ms: None,
        duration_ms: 0,
    };
    Ok((answered, blob))
}

/// A duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ai_factory_ports::model::AnsweredToolCall;
    use ai_factory_schemas::chat::StopReason;
    use uuid::Uuid;

    use super::*;

    fn answer(tool_calls: Vec<AnsweredToolCall>) -> ModelAnswer {
        ModelAnswer {
            text: "it is api_key=a1b2c3d4e5f6a7b8, not known-a-secret".into(),
            tool_calls,
            stop: StopReason::ToolCalls,
            usage: None,
            answered_by: Some("m\n".into()),
            provider_id: None,
        }
    }

    fn call(name: &str) -> AnsweredToolCall {
        AnsweredToolCall {
            provider_id: Some("call_7".into()),
            name: name.into(),
            arguments: r#"{"code":"password='a1b2c3d4e5f6a7b8'; known-a-secret"}"#.into(),
        }
    }

    fn place(session: u128) -> AnswerPlace {
        let session_id = Some(SessionId(Uuid::from_u128(session)));
        AnswerPlace { call_id: CallId(Uuid::nil()), session_id, turn: 3 }
    }

    #[test]
    fn an_answer_is_kept_exact_without_known_secrets_and_with_ids_of_our_own() {
        let name = "n".repeat(TOOL_NAME_CHARS_MAX + 1);
        let mask = Mask::new(vec!["known-a-secret".to_owned()]);
        let recorded = record(&mask, place(5), answer(vec![call(&name), call("run")]));
        let (answered, blob) = recorded.unwrap();
        let kept = ChatMessage::from_bytes(blob.bytes()).unwrap();
        let ChatMessage::Assistant { text, tool_calls } = kept else { panic!("{kept:?}") };
        assert_eq!(text, "it is api_key=a1b2c3d4e5f6a7b8, not [masked]");
        assert_eq!(tool_calls[1].arguments, r#"{"code":"password='a1b2c3d4e5f6a7b8'; [masked]"}"#);
        assert_eq!(tool_calls[1].provider_id.as_deref(), Some("call_7"));
        let session = SessionId(Uuid::from_u128(5));
        let expected = [0, 1].map(|index| ToolCallId(EffectPlace::tool(3, index).id(session)));
        assert_eq!([tool_calls[0].id, tool_calls[1].id], expected);
        assert_eq!(answered.tool_calls[0].name.len(), TOOL_NAME_CHARS_MAX);
        assert_eq!(answered.answered_by.as_deref(), Some("m\\n"));
    }

    #[test]
    fn too_many_tool_calls_are_no_answer() {
        let calls = vec![call("run"); TOOL_CALLS_READ_MAX + 1];
        let refused = record(&Mask::default(), place(5), answer(calls)).unwrap_err();
        assert!(refused.contains("65 tool calls"), "{refused}");
    }
}
