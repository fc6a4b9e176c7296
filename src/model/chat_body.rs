//! A call as the body of a request for chat completions.

use std::collections::HashMap;

use ai_factory_ports::model::ModelCall;
use ai_factory_schemas::{
    chat::{ChatMessage, ToolCall},
    id::ToolCallId,
};
use serde_json::{Map, Value, json};

use super::wire_text::{sayable_arguments, sayable_name, wire_ids};

/// The name of the schema of an answer.
pub(crate) const ANSWER: &str = "answer";

/// The body. The limit of the answer's tokens has another name at the provider's own host.
pub(crate) fn body(call: &ModelCall, is_own: bool) -> Value {
    let mut body = Map::new();
    let limit = if is_own && call.endpoint.provider() == "openai" {
        "max_completion_tokens"
    } else {
        "max_tokens"
    };
    body.insert("model".to_owned(), json!(call.endpoint.name()));
    body.insert("messages".to_owned(), Value::Array(messages(call)));
    body.insert("stream".to_owned(), json!(true));
    body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    body.insert(limit.to_owned(), json!(call.parameters.output_tokens_max));
    if let Some(milli) = call.parameters.temperature_milli {
        body.insert("temperature".to_owned(), json!(f64::from(milli) / 1_000.0));
    }
    if let Some(seed) = call.parameters.seed {
        body.insert("seed".to_owned(), json!(seed));
    }
    if let Some(schema) = &call.schema {
        let schema = json!({ "name": ANSWER, "schema": **schema, "strict": false });
        let format = json!({ "type": "json_schema", "json_schema": schema });
        body.insert("response_format".to_owned(), format);
    } else if !call.tools.is_empty() {
        let tools = call.tools.iter().map(|tool| {
            let function = json!({
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            });
            json!({ "type": "function", "function": function })
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    Value::Object(body)
}

/// The messages. Those of the user that follow each other are joined: the templates of some models
/// want the roles to alternate.
fn messages(call: &ModelCall) -> Vec<Value> {
    let ids = wire_ids(&call.messages);
    let mut messages: Vec<Value> = Vec::with_capacity(call.messages.len());
    for message in &call.messages {
        match &**message {
            ChatMessage::System { text } => {
                messages.push(json!({ "role": "system", "content": text }));
            }
            ChatMessage::User { text } => user(&mut messages, text),
            ChatMessage::Assistant { text, tool_calls } => {
                messages.push(assistant(text, tool_calls, &ids));
            }
            ChatMessage::Tool { call, text, .. } => match ids.get(call) {
                Some(id) => {
                    messages.push(json!({ "role": "tool", "tool_call_id": id, "content": text }));
                }
                // Its call is not in the conversation, so no server would take it as a result.
                None => user(&mut messages, text),
            },
        }
    }
    messages
}

fn user(messages: &mut Vec<Value>, text: &str) {
    if let Some(last) = messages.last_mut().filter(|last| last["role"] == "user")
        && let Value::String(before) = &mut last["content"]
    {
        before.push_str("\n\n");
        before.push_str(text);
        return;
    }
    messages.push(json!({ "role": "user", "content": text }));
}

fn assistant(text: &str, calls: &[ToolCall], ids: &HashMap<ToolCallId, String>) -> Value {
    if calls.is_empty() {
        return json!({ "role": "assistant", "content": text });
    }
    let calls = calls.iter().map(|call| {
        let arguments = sayable_arguments(&call.arguments).to_string();
        let function = json!({ "name": sayable_name(&call.name), "arguments": arguments });
        json!({ "id": ids.get(&call.id), "type": "function", "function": function })
    });
    let content = if text.is_empty() { Value::Null } else { json!(text) };
    json!({ "role": "assistant", "content": content, "tool_calls": calls.collect::<Value>() })
}
