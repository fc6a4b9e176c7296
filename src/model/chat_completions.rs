//! OpenAI chat completions, as the many servers that imitate them speak it.
//!
//! *Promises.* An answer is complete if a `finish_reason` came and the stream ended in good order
//! or with `[DONE]`.

use ai_factory_ports::model::{ModelAnswer, ModelCall, ModelError, TokenSink};
use ai_factory_schemas::{chat::StopReason, model::TokenUsage};
use serde::Deserialize;
use serde_json::Value;

use super::{
    chat_body::body,
    dialect::{Dialect, StreamDecoder, StreamState},
    draft::{AnswerDraft, cut, malformed},
};

/// The protocol.
pub(crate) struct ChatCompletions;

impl Dialect for ChatCompletions {
    fn path(&self) -> &'static str {
        "/chat/completions"
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn key_header(&self, key: &str) -> (&'static str, String) {
        ("authorization", format!("Bearer {key}"))
    }

    fn body(&self, call: &ModelCall, is_own: bool) -> Value {
        body(call, is_own)
    }

    fn decoder(&self, _: &ModelCall) -> Box<dyn StreamDecoder> {
        Box::<ChatDecoder>::default()
    }
}

#[derive(Deserialize)]
struct ChatChunk {
    id: Option<String>,
    model: Option<String>,
    #[serde(default)]
    choices: Option<Vec<ChatChoice>>,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct ChatChoice {
    index: Option<u64>,
    #[serde(default)]
    delta: Option<ChatDelta>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct ChatDelta {
    content: Option<String>,
    refusal: Option<String>,
    #[serde(default)]
    reasoning_content: Value,
    #[serde(default)]
    reasoning: Value,
    tool_calls: Option<Vec<ChatCallDelta>>,
}

#[derive(Deserialize)]
struct ChatCallDelta {
    index: Option<u64>,
    id: Option<String>,
    #[serde(default)]
    function: Option<ChatFunctionDelta>,
}

#[derive(Default, Deserialize)]
struct ChatFunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Default)]
struct ChatDecoder {
    draft: AnswerDraft,
    has_choice: bool,
    has_refused: bool,
    is_done: bool,
}

impl StreamDecoder for ChatDecoder {
    fn event(&mut self, data: &str, sink: &mut dyn TokenSink) -> Result<StreamState, ModelError> {
        if data.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(StreamState::Ended);
        }
        let chunk: ChatChunk = serde_json::from_str(data)
            .map_err(|error| malformed(&format!("an event is no completion ({error})")))?;
        self.draft.named(chunk.id.as_deref(), chunk.model.as_deref());
        if let Some(usage) = usage(&chunk.usage) {
            self.draft.usage = Some(usage);
        }
        for choice in
            chunk.choices.into_iter().flatten().filter(|choice| choice.index.unwrap_or(0) == 0)
        {
            self.has_choice = true;
            self.delta(choice.delta.unwrap_or_default(), sink)?;
            if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
                self.draft.stop = Some(self.stop(&reason)?);
            }
        }
        Ok(StreamState::Open)
    }

    fn outputs(&self) -> u64 {
        self.draft.outputs()
    }

    fn finish(self: Box<Self>) -> Result<ModelAnswer, ModelError> {
        if !self.has_choice && (self.is_done || self.draft.usage.is_some()) {
            let usage = self.draft.usage;
            return Err(ModelError { usage, ..malformed("its list of choices is empty") });
        }
        self.draft.complete()
    }
}

impl ChatDecoder {
    fn delta(&mut self, delta: ChatDelta, sink: &mut dyn TokenSink) -> Result<(), ModelError> {
        let reasoning = [delta.reasoning, delta.reasoning_content];
        if reasoning.iter().any(|said| !said.is_null() && said != "") {
            self.draft.begin();
        }
        self.draft.say(delta.content.as_deref().unwrap_or_default(), sink)?;
        if let Some(refusal) = delta.refusal.filter(|refusal| !refusal.is_empty()) {
            self.has_refused = true;
            self.draft.say(&refusal, sink)?;
        }
        delta.tool_calls.into_iter().flatten().try_for_each(|call| self.call(call))
    }

    /// Joins the parts of a tool call by its number. Some servers give none, or the same one to all
    /// calls: then an id that is new begins a call.
    fn call(&mut self, delta: ChatCallDelta) -> Result<(), ModelError> {
        let function = delta.function.unwrap_or_default();
        let (id, name) = (delta.id.unwrap_or_default(), function.name.unwrap_or_default());
        let found = self.draft.place(delta.index).filter(|place| {
            id.is_empty() || name.is_empty() || self.draft.call_id(*place) == Some(&*id)
        });
        let place = match found {
            Some(place) => place,
            None => self.draft.begin_call(delta.index, Some(&id), &name)?,
        };
        self.draft.name_call(place, &name)?;
        self.draft.argue(place, &function.arguments.unwrap_or_default())
    }

    fn stop(&self, reason: &str) -> Result<StopReason, ModelError> {
        match reason {
            _ if self.has_refused => Ok(StopReason::Refusal),
            "stop" | "eos" | "stop_sequence" | "end_turn" => Ok(StopReason::End),
            "tool_calls" | "function_call" => Ok(StopReason::ToolCalls),
            "length" | "max_tokens" => Ok(StopReason::Length),
            "content_filter" | "refusal" | "safety" => Ok(StopReason::Refusal),
            "error" => Err(cut("the server failed")),
            other => Err(malformed(&format!(
                "it ended for the unknown reason `{}`",
                other.chars().take(40).collect::<String>()
            ))),
        }
    }
}

/// The usage, if it is said as whole numbers.
fn usage(value: &Value) -> Option<TokenUsage> {
    let (prompt, completion) =
        (value["prompt_tokens"].as_u64()?, value["completion_tokens"].as_u64()?);
    let details = &value["prompt_tokens_details"];
    let cache_read = details["cached_tokens"].as_u64().unwrap_or(0).min(prompt);
    let fresh = prompt - cache_read;
    let cache_write = details["cache_write_tokens"].as_u64().unwrap_or(0).min(fresh);
    // Some count reasoning in the total only.
    let total = value["total_tokens"].as_u64().unwrap_or(0);
    let output = completion.max(total.saturating_sub(prompt));
    let reasoning = value["completion_tokens_details"]["reasoning_tokens"].as_u64();
    Some(TokenUsage {
        input: fresh - cache_write,
        cache_read,
        cache_write,
        output,
        reasoning: reasoning.map(|tokens| tokens.min(output)),
    })
}

#[cfg(test)]
mod tests {
    use ai_factory_ports::model::NoSink;
    use serde_json::json;

    use super::*;

    fn answer(chunks: &[Value]) -> Result<ModelAnswer, ModelError> {
        let mut decoder = Box::<ChatDecoder>::default();
        for chunk in chunks {
            decoder.event(&chunk.to_string(), &mut NoSink)?;
        }
        decoder.finish()
    }

    fn delta(delta: Value) -> Value {
        json!({ "choices": [{ "delta": delta }] })
    }

    fn call(index: Value, id: &str, name: &str, arguments: &str) -> Value {
        let function = json!({ "name": name, "arguments": arguments });
        delta(json!({ "tool_calls": [{ "index": index, "id": id, "function": function }] }))
    }

    fn end(reason: &str) -> Value {
        json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
    }

    fn calls(chunks: &[Value]) -> Vec<(Option<String>, String, String)> {
        let calls = answer(chunks).unwrap().tool_calls.into_iter();
        calls.map(|call| (call.provider_id, call.name, call.arguments)).collect()
    }

    #[test]
    fn tool_calls_are_joined_by_number_and_told_apart_by_id_where_numbers_fail() {
        let expected = [
            (Some("a".to_owned()), "run".to_owned(), r#"{"x":1}"#.to_owned()),
            (Some("b".to_owned()), "read".to_owned(), "{}".to_owned()),
        ];
        let far = u64::MAX;
        for chunks in [
            vec![
                call(json!(0), "a", "run", ""),
                call(json!(far), "b", "read", "{"),
                call(json!(0), "", "", r#"{"x""#),
                call(json!(far), "", "", "}"),
                call(json!(0), "", "", ":1}"),
                end("tool_calls"),
            ],
            vec![
                call(json!(0), "a", "run", r#"{"x":1}"#),
                call(json!(0), "b", "read", ""),
                end("stop"),
            ],
            vec![
                call(Value::Null, "a", "run", r#"{"x":"#),
                call(Value::Null, "", "", "1}"),
                call(Value::Null, "b", "read", "{}"),
                end("tool_calls"),
            ],
            vec![
                call(json!(0), "a", "run", r#"{"x":"#),
                call(json!(0), "a", "run", "1}"),
                call(json!(1), "b", "read", ""),
                end("tool_calls"),
            ],
        ] {
            assert_eq!(calls(&chunks), expected, "{chunks:?}");
        }
    }

    #[test]
    fn an_id_that_a_server_leaves_out_is_absent() {
        let chunks = [call(json!(0), "", "run", "{}"), end("tool_calls")];
        assert_eq!(calls(&chunks), [(None, "run".to_owned(), "{}".to_owned())]);
    }

    #[test]
    fn an_answer_ends_as_its_content_says() {
        let ends = |chunks: &[Value]| answer(chunks).unwrap().stop;
        assert_eq!(ends(&[call(json!(0), "a", "run", ""), end("stop")]), StopReason::ToolCalls);
        assert_eq!(ends(&[delta(json!({ "content": "x" })), end("tool_calls")]), StopReason::End);
        assert_eq!(ends(&[call(json!(0), "a", "run", "{"), end("length")]), StopReason::Length);
        let refused = [delta(json!({ "refusal": "no" })), end("stop")];
        assert_eq!(ends(&refused), StopReason::Refusal);
        assert!(answer(&[end("who knows")]).unwrap_err().reason.contains("who knows"));
    }

    #[test]
    fn a_usage_is_normalised_and_what_is_not_said_stays_absent() {
        let said = json!({
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 125,
            "prompt_tokens_details": { "cached_tokens": 60, "cache_write_tokens": 30 },
            "completion_tokens_details": { "reasoning_tokens": 7 },
        });
        let expected = TokenUsage {
            input: 10,
            cache_read: 60,
            cache_write: 30,
            output: 25,
            reasoning: Some(7),
        };
        assert_eq!(usage(&said), Some(expected));
        let zero = json!({ "prompt_tokens": 0, "completion_tokens": 0 });
        assert_eq!(usage(&zero), Some(TokenUsage::default()));
        for unsaid in [
            json!(null),
            json!({}),
            json!({ "prompt_tokens": 5 }),
            json!({ "prompt_tokens": -5, "completion_tokens": 1 }),
            json!({ "prompt_tokens": "5", "completion_tokens": 1 }),
        ] {
            assert_eq!(usage(&unsaid), None, "{unsaid}");
        }
        let more = json!({ "prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": { "cached_tokens": 9 } });
        assert_eq!(usage(&more).map(|usage| usage.input_total()), Some(5));
    }
}
