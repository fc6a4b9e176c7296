//! Answers as the events of the two protocols.

use ai_factory_schemas::chat::StopReason;
use serde_json::{Value, json};

use super::{
    ModelRequest,
    answer::{Answer, Cut, Told},
};

/// The events of an answer, and whether the connection breaks after the last one.
pub(super) fn frames(answer: &Answer, request: &ModelRequest) -> (Vec<Vec<u8>>, bool) {
    let is_chat = request.path.ends_with("/chat/completions");
    let (mut frames, end) = if is_chat {
        chat(answer, request)
    } else {
        messages(answer, request)
    };
    match answer.cut {
        Some(Cut::BeforeEnd) => return (frames, false),
        Some(Cut::Inside) => {
            if let Some(last) = frames.last_mut() {
                last.truncate(last.len() / 2);
            }
            return (frames, true);
        }
        None => {}
    }
    if !answer.raw.is_empty() {
        frames.push(answer.raw.clone());
    }
    frames.extend(end);
    (frames, false)
}

type Frames = (Vec<Vec<u8>>, Vec<Vec<u8>>);

fn chat(answer: &Answer, request: &ModelRequest) -> Frames {
    let model = &request.body["model"];
    let frame = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "model": model,
            "choices": choices,
            "usage": usage,
        });
        format!("data: {chunk}\n\n").into_bytes()
    };
    let delta = |delta: Value, finish: Value| {
        frame(
            json!([{ "index": 0, "delta": delta, "finish_reason": finish }]),
            Value::Null,
        )
    };
    let mut body = vec![delta(
        json!({ "role": "assistant", "content": "" }),
        Value::Null,
    )];
    body.extend(
        answer
            .texts
            .iter()
            .map(|text| delta(json!({ "content": text }), Value::Null)),
    );
    let refusals = answer.refusal.iter();
    body.extend(refusals.map(|text| delta(json!({ "refusal": text }), Value::Null)));
    for (index, call) in answer.calls.iter().enumerate() {
        let function = json!({ "name": call.name, "arguments": "" });
        let begin =
            json!({ "index": index, "id": call.id, "type": "function", "function": function });
        body.push(delta(json!({ "tool_calls": [begin] }), Value::Null));
        for part in answer.parts(&call.arguments) {
            let part = json!({ "index": index, "function": { "arguments": part } });
            body.push(delta(json!({ "tool_calls": [part] }), Value::Null));
        }
    }
    let finish = match answer.stop_reason() {
        StopReason::End => "stop",
        StopReason::ToolCalls => "tool_calls",
        StopReason::Length => "length",
        StopReason::Refusal if answer.refusal.is_some() => "stop",
        StopReason::Refusal => "content_filter",
    };
    let mut end = vec![
        delta(json!({}), json!(finish)),
        b"data: [DONE]\n\n".to_vec(),
    ];
    let usage = match answer.tokens(request.bytes) {
        Told::Tokens {
            input,
            output,
            read,
            written,
        } => Some(json!({
            "prompt_tokens": input + read + written,
            "completion_tokens": output,
            "total_tokens": input + read + written + output,
            "prompt_tokens_details": { "cached_tokens": read },
        })),
        Told::Value(value) => Some(value),
        Told::Nothing | Told::Plausible => None,
    };
    if let Some(usage) = usage {
        let place = if answer.usage_is_late { 2 } else { 1 };
        end.insert(place, frame(json!([]), usage));
    }
    (body, end)
}

fn messages(answer: &Answer, request: &ModelRequest) -> Frames {
    let frame = |data: Value| {
        let kind = data["type"].as_str().unwrap();
        format!("event: {kind}\ndata: {data}\n\n").into_bytes()
    };
    let (at_first, at_last) = match answer.tokens(request.bytes) {
        Told::Tokens {
            input,
            output,
            read,
            written,
        } => (
            json!({
                "input_tokens": input,
                "cache_creation_input_tokens": written,
                "cache_read_input_tokens": read,
                "output_tokens": 1,
            }),
            json!({ "output_tokens": output }),
        ),
        Told::Value(value) => (value.clone(), value),
        Told::Nothing | Told::Plausible => (Value::Null, Value::Null),
    };
    let message = json!({
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request.body["model"],
        "content": [],
        "stop_reason": null,
        "usage": at_first,
    });
    let mut body = vec![
        frame(json!({ "type": "message_start", "message": message })),
        frame(json!({ "type": "ping" })),
    ];
    let mut index = 0;
    let mut block = |content: Value, deltas: Vec<Value>| {
        let start =
            json!({ "type": "content_block_start", "index": index, "content_block": content });
        let deltas = deltas
            .into_iter()
            .map(|delta| json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        body.push(frame(start));
        body.extend(deltas.map(frame));
        body.push(frame(
            json!({ "type": "content_block_stop", "index": index }),
        ));
        index += 1;
    };
    let texts: Vec<_> = answer.texts.iter().chain(&answer.refusal).collect();
    if !texts.is_empty() {
        let deltas = texts
            .iter()
            .map(|text| json!({ "type": "text_delta", "text": text }));
        block(json!({ "type": "text", "text": "" }), deltas.collect());
    }
    for call in &answer.calls {
        let parts = answer.parts(&call.arguments);
        let deltas = parts
            .iter()
            .map(|part| json!({ "type": "input_json_delta", "partial_json": part }))
            .collect();
        let content = json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
        block(content, deltas);
    }
    if matches!(answer.cut, Some(Cut::Inside)) {
        // The last event is one of the block, not its end.
        body.pop();
    }
    let stop = match answer.stop_reason() {
        StopReason::End => "end_turn",
        StopReason::ToolCalls => "tool_use",
        StopReason::Length => "max_tokens",
        StopReason::Refusal => "refusal",
    };
    let delta = |usage: &Value| {
        let delta = json!({ "stop_reason": stop, "stop_sequence": null });
        frame(json!({ "type": "message_delta", "delta": delta, "usage": usage }))
    };
    let stopped = frame(json!({ "type": "message_stop" }));
    let end = if answer.usage_is_late {
        vec![delta(&Value::Null), stopped, delta(&at_last)]
    } else {
        vec![delta(&at_last), stopped]
    };
    (body, end)
}
