//! A call as the body of a request for Anthropic messages.

use std::collections::HashMap;

use ai_factory_ports::model::ModelCall;
use ai_factory_schemas::{
    chat::{ChatMessage, ToolCall},
    id::ToolCallId,
};
use serde_json::{Map, Value, json};

use super::wire_text::{sayable_arguments, sayable_name, wire_ids};

/// The tool whose input is the answer of a call with a schema.
pub(crate) const ANSWER: &str = "answer";
/// Stands for a text that is empty: the API takes none.
const EMPTY: &str = "(empty)";

/// The body. The end of the system prompt, which does not change from call to call, and the end of
/// the conversation so far are marked for the provider's cache.
pub(crate) fn body(call: &ModelCall) -> Value {
    let (mut system, mut messages) = conversation(call);
    mark(&mut system);
    if let Some(blocks) = messages.last_mut().and_then(|last| last["content"].as_array_mut()) {
        mark(blocks);
    }
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(call.endpoint.name()));
    body.insert("max_tokens".to_owned(), json!(call.parameters.output_tokens_max));
    body.insert("messages".to_owned(), Value::Array(messages));
    body.insert("stream".to_owned(), json!(true));
    if !system.is_empty() {
        body.insert("system".to_owned(), Value::Array(system));
    }
    if let Some(milli) = call.parameters.temperature_milli {
        body.insert("temperature".to_owned(), json!(f64::from(milli) / 1_000.0));
    }
    if let Some(schema) = &call.schema {
        let description = "Gives the answer. It is called exactly once.";
        let tool = json!({ "name": ANSWER, "description": description, "input_schema": **schema });
        body.insert("tools".to_owned(), json!([tool]));
        body.insert("tool_choice".to_owned(), json!({ "type": "tool", "name": ANSWER }));
    } else if !call.tools.is_empty() {
        let tools = call.tools.iter().map(|tool| {
            json!({
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.parameters,
            })
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    Value::Object(body)
}

fn mark(blocks: &mut [Value]) {
    if let Some(Value::Object(block)) = blocks.last_mut() {
        block.insert("cache_control".to_owned(), json!({ "type": "ephemeral" }));
    }
}

/// The blocks of the system prompt, and the messages, whose roles alternate.
fn conversation(call: &ModelCall) -> (Vec<Value>, Vec<Value>) {
    let ids = wire_ids(&call.messages);
    let (mut system, mut messages) = (Vec::new(), Vec::new());
    for message in &call.messages {
        match &**message {
            ChatMessage::System { text } => system.push(text_block(text)),
            ChatMessage::User { text } => push(&mut messages, "user", [text_block(text)]),
            ChatMessage::Assistant { text, tool_calls } => {
                push(&mut messages, "assistant", assistant(text, tool_calls, &ids));
            }
            ChatMessage::Tool { call, text, is_error } => {
                let block = match ids.get(call) {
                    Some(id) => json!({
                        "type": "tool_result",
                        "tool_use_id": id,
                        "content": [text_block(text)],
                        "is_error": is_error,
                    }),
                    // Its call is not in the conversation, so it would not be taken as a result.
                    None => text_block(text),
                };
                push(&mut messages, "user", [block]);
            }
        }
    }
    (system, messages)
}

fn push(messages: &mut Vec<Value>, role: &str, blocks: impl IntoIterator<Item = Value>) {
    if let Some(last) = messages.last_mut().filter(|last| last["role"] == role)
        && let Value::Array(before) = &mut last["content"]
    {
        before.extend(blocks);
        return;
    }
    let blocks: Vec<_> = blocks.into_iter().collect();
    messages.push(json!({ "role": role, "content": blocks }));
}

fn text_block(text: &str) -> Value {
    let text = if text.trim().is_empty() { EMPTY } else { text };
    json!({ "type": "text", "text": text })
}

fn assistant(text: &str, calls: &[ToolCall], ids: &HashMap<ToolCallId, String>) -> Vec<Value> {
    let text = Some(text).filter(|text| calls.is_empty() || !text.trim().is_empty());
    let calls = calls.iter().map(|call| {
        json!({
            "type": "tool_use",
            "id": ids.get(&call.id),
            "name": sayable_name(&call.name),
            "input": sayable_arguments(&call.arguments),
        })
    });
    text.map(text_block).into_iter().chain(calls).collect()
}
