//! Anthropic messages.
//!
//! *Promises.* An answer is complete if its reason to stop and `message_stop` came.

use ai_factory_ports::model::{ModelAnswer, ModelCall, ModelError, NoSink, TokenSink};
use ai_factory_schemas::{chat::StopReason, limit::MODEL_ANSWER_BYTES_MAX, model::TokenUsage};
use serde::Deserialize;
use serde_json::Value;

use super::{
    dialect::{Dialect, StreamDecoder, StreamState},
    draft::{AnswerDraft, CallPlace, cut, malformed},
    messages_body::{ANSWER, body},
};

/// The version of the protocol.
const VERSION: &str = "2023-06-01";

/// The protocol.
pub(crate) struct Messages;

impl Dialect for Messages {
    fn path(&self) -> &'static str {
        "/messages"
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", VERSION)]
    }

    fn key_header(&self, key: &str) -> (&'static str, String) {
        ("x-api-key", key.to_owned())
    }

    fn body(&self, call: &ModelCall, _: bool) -> Value {
        body(call)
    }

    fn decoder(&self, call: &ModelCall) -> Box<dyn StreamDecoder> {
        Box::new(MessagesDecoder { has_schema: call.schema.is_some(), ..Default::default() })
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum MessagesEvent {
    MessageStart {
        message: MessageHead,
    },
    ContentBlockStart {
        index: u64,
        content_block: ContentBlock,
    },
    ContentBlockDelta {
        index: u64,
        delta: BlockDelta,
    },
    MessageDelta {
        delta: MessageDelta,
        #[serde(default)]
        usage: Value,
    },
    MessageStop,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct MessageHead {
    id: Option<String>,
    model: Option<String>,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ContentBlock {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: Option<String>,
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockDelta {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct MessageDelta {
    stop_reason: Option<String>,
}

/// The tokens that have been said so far; later events say some of them anew.
#[derive(Default)]
struct SaidTokens {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    /// Of the last event that says it: the one of the first is no total.
    output: Option<u64>,
}

impl SaidTokens {
    fn take(&mut self, usage: &Value) {
        let said = |name: &str| usage[name].as_u64();
        self.input = said("input_tokens").or(self.input);
        self.cache_read = said("cache_read_input_tokens").or(self.cache_read);
        self.cache_write = said("cache_creation_input_tokens").or(self.cache_write);
    }

    fn usage(&self) -> Option<TokenUsage> {
        Some(TokenUsage {
            input: self.input?,
            cache_read: self.cache_read.unwrap_or(0),
            cache_write: self.cache_write.unwrap_or(0),
            output: self.output?,
            reasoning: None,
        })
    }
}

#[derive(Default)]
struct MessagesDecoder {
    draft: AnswerDraft,
    tokens: SaidTokens,
    has_schema: bool,
    is_stopped: bool,
    /// The answer of a call with a schema, which is a tool's input on the wire.
    answer: Option<u64>,
    has_answered: bool,
    /// The text of a call with a schema: the answer if the tool is not called.
    aside: String,
}

impl StreamDecoder for MessagesDecoder {
    fn event(&mut self, data: &str, sink: &mut dyn TokenSink) -> Result<StreamState, ModelError> {
        let event: MessagesEvent = serde_json::from_str(data)
            .map_err(|error| malformed(&format!("an event is no part of a message ({error})")))?;
        match event {
            MessagesEvent::MessageStart { message } => {
                self.draft.named(message.id.as_deref(), message.model.as_deref());
                self.tokens.take(&message.usage);
            }
            MessagesEvent::ContentBlockStart { index, content_block } => {
                self.begin_block(index, content_block, sink)?;
            }
            MessagesEvent::ContentBlockDelta { index, delta } => self.delta(index, delta, sink)?,
            MessagesEvent::MessageDelta { delta, usage } => {
                self.tokens.take(&usage);
                self.tokens.output = usage["output_tokens"].as_u64().or(self.tokens.output);
                self.draft.usage = self.tokens.usage();
                if let Some(reason) = delta.stop_reason {
                    self.draft.stop = Some(self.stop(&reason)?);
                }
            }
            MessagesEvent::MessageStop => {
                self.is_stopped = true;
                return Ok(StreamState::Ended);
            }
            MessagesEvent::Other => {}
        }
        Ok(StreamState::Open)
    }

    fn outputs(&self) -> u64 {
        self.draft.outputs()
    }

    fn finish(mut self: Box<Self>) -> Result<ModelAnswer, ModelError> {
        if !self.is_stopped {
            return Err(cut("it ended without `message_stop`"));
        }
        let has_ended = self.draft.stop == Some(StopReason::End);
        if !self.has_answered && !self.aside.trim().is_empty() {
            let aside = std::mem::take(&mut self.aside);
            self.draft.say(&aside, &mut NoSink)?;
        } else if self.has_schema && !self.has_answered && has_ended {
            let usage = self.draft.usage;
            let error = malformed("it does not have the form that was asked for");
            return Err(ModelError { usage, ..error });
        }
        self.draft.complete()
    }
}

impl MessagesDecoder {
    fn begin_block(
        &mut self,
        index: u64,
        block: ContentBlock,
        sink: &mut dyn TokenSink,
    ) -> Result<(), ModelError> {
        match block {
            ContentBlock::Text { text } => self.say(&text, sink),
            ContentBlock::ToolUse { name, input, .. } if self.has_schema => {
                if name == ANSWER && !self.has_answered {
                    (self.answer, self.has_answered) = (Some(index), true);
                    return self.draft.say(&whole(&input), sink);
                }
                Err(malformed("it calls a tool in place of an answer"))
            }
            ContentBlock::ToolUse { id, name, input } => {
                let place = self.draft.begin_call(Some(index), id.as_deref(), &name)?;
                self.draft.argue(place, &whole(&input))
            }
            ContentBlock::Other => {
                self.draft.begin();
                Ok(())
            }
        }
    }

    fn delta(
        &mut self,
        index: u64,
        delta: BlockDelta,
        sink: &mut dyn TokenSink,
    ) -> Result<(), ModelError> {
        match delta {
            BlockDelta::TextDelta { text } => self.say(&text, sink),
            BlockDelta::InputJsonDelta { partial_json } if self.answer == Some(index) => {
                self.draft.say(&partial_json, sink)
            }
            BlockDelta::InputJsonDelta { partial_json } => {
                let place: Option<CallPlace> = self.draft.place(Some(index));
                // Without a place it belongs to a tool of the provider.
                place.map_or(Ok(()), |place| self.draft.argue(place, &partial_json))
            }
            BlockDelta::Other => {
                self.draft.begin();
                Ok(())
            }
        }
    }

    /// Text beside an answer with a schema is none, and not told while it arrives.
    fn say(&mut self, text: &str, sink: &mut dyn TokenSink) -> Result<(), ModelError> {
        if !self.has_schema {
            return self.draft.say(text, sink);
        }
        self.draft.begin();
        if self.aside.len().saturating_add(text.len()) > MODEL_ANSWER_BYTES_MAX {
            return Err(malformed(&format!("it is longer than {MODEL_ANSWER_BYTES_MAX} bytes")));
        }
        self.aside.push_str(text);
        Ok(())
    }

    fn stop(&self, reason: &str) -> Result<StopReason, ModelError> {
        match reason {
            "tool_use" if self.has_schema => Ok(StopReason::End),
            "tool_use" => Ok(StopReason::ToolCalls),
            "end_turn" | "stop_sequence" => Ok(StopReason::End),
            "max_tokens" | "model_context_window_exceeded" => Ok(StopReason::Length),
            "refusal" => Ok(StopReason::Refusal),
            other => Err(malformed(&format!(
                "it ended for the unknown reason `{}`",
                other.chars().take(40).collect::<String>()
            ))),
        }
    }
}

/// Input that a block brings as a whole; empty if it comes in parts.
fn whole(input: &Value) -> String {
    match input {
        Value::Object(fields) if !fields.is_empty() => input.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(has_schema: bool, events: &[Value]) -> Result<ModelAnswer, ModelError> {
        let mut decoder = Box::new(MessagesDecoder { has_schema, ..Default::default() });
        for event in events {
            decoder.event(&event.to_string(), &mut NoSink)?;
        }
        decoder.finish()
    }

    fn start(index: u64, block: Value) -> Value {
        json!({ "type": "content_block_start", "index": index, "content_block": block })
    }

    fn input(index: u64, part: &str) -> Value {
        let delta = json!({ "type": "input_json_delta", "partial_json": part });
        json!({ "type": "content_block_delta", "index": index, "delta": delta })
    }

    fn end(reason: &str, usage: Value) -> [Value; 2] {
        let delta = json!({ "stop_reason": reason });
        [
            json!({ "type": "message_delta", "delta": delta, "usage": usage }),
            json!({ "type": "message_stop" }),
        ]
    }

    #[test]
    fn tools_of_the_provider_and_thoughts_are_no_part_of_an_answer() {
        let thought = json!({ "type": "thinking_delta", "thinking": "hm" });
        let mut events = vec![
            start(0, json!({ "type": "thinking", "thinking": "" })),
            json!({ "type": "content_block_delta", "index": 0, "delta": thought }),
            start(1, json!({ "type": "server_tool_use", "id": "s", "name": "web", "input": {} })),
            input(1, "{\"query\":"),
            start(2, json!({ "type": "tool_use", "id": "t", "name": "run", "input": {} })),
            input(2, "{\"x\":"),
            input(2, "1}"),
            json!({ "type": "something_new" }),
        ];
        events.extend(end("tool_use", json!(null)));
        let answer = answer(false, &events).unwrap();
        assert_eq!(answer.tool_calls.len(), 1);
        assert_eq!(answer.tool_calls[0].arguments, r#"{"x":1}"#);
        assert_eq!((answer.stop, answer.usage), (StopReason::ToolCalls, None));
    }

    #[test]
    fn an_answer_with_a_schema_is_the_input_of_its_tool() {
        let mut events = vec![
            start(0, json!({ "type": "text", "text": "Here it is:" })),
            start(1, json!({ "type": "tool_use", "id": "t", "name": "answer", "input": {} })),
            input(1, "{\"steps\":"),
            input(1, "[]}"),
        ];
        events.extend(end("tool_use", json!(null)));
        let found = answer(true, &events).unwrap();
        assert_eq!((&*found.text, found.stop), (r#"{"steps":[]}"#, StopReason::End));
        assert!(found.tool_calls.is_empty());

        let unformed = end("end_turn", json!(null));
        assert!(answer(true, &unformed).unwrap_err().reason.contains("form"));
    }

    #[test]
    fn a_text_is_the_answer_with_a_schema_if_its_tool_is_not_called() {
        let part = |text: &str| {
            let delta = json!({ "type": "text_delta", "text": text });
            json!({ "type": "content_block_delta", "index": 0, "delta": delta })
        };
        let mut events =
            vec![start(0, json!({ "type": "text", "text": "" })), part("{\"steps\":"), part("[]}")];
        events.extend(end("end_turn", json!(null)));
        let found = answer(true, &events).unwrap();
        assert_eq!((&*found.text, found.stop), (r#"{"steps":[]}"#, StopReason::End));
    }

    #[test]
    fn a_usage_joins_what_the_first_and_the_last_event_say() {
        let head = |usage: Value| json!({ "type": "message_start", "message": { "id": "m", "model": "x", "usage": usage } });
        let all = json!({ "input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 1 });
        let mut events = vec![head(all)];
        events.extend(end("end_turn", json!({ "output_tokens": 9 })));
        let usage = answer(false, &events).unwrap().usage.unwrap();
        let expected =
            TokenUsage { input: 5, cache_read: 100, cache_write: 20, output: 9, reasoning: None };
        assert_eq!((usage, usage.input_total()), (expected, 125));

        let mut half = vec![head(json!({ "input_tokens": 5, "output_tokens": 1 }))];
        half.extend(end("end_turn", json!({})));
        assert_eq!(answer(false, &half).unwrap().usage, None, "the total of the output is unsaid");
    }

    #[test]
    fn a_message_that_never_stops_is_cut_and_an_unknown_reason_malformed() {
        let [delta, _] = end("end_turn", json!(null));
        let error = answer(false, &[delta]).unwrap_err();
        assert!(error.reason.contains("message_stop"), "{error}");
        let error = answer(false, &end("pause_turn", json!(null))).unwrap_err();
        assert!(error.reason.contains("pause_turn"), "{error}");
    }
}
