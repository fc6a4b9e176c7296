//! What is sent.

use ai_factory_schemas::{chat::ToolCall, id::ToolCallId, model::ToolProtocol};
use serde_json::Value;
use uuid::Uuid;

use super::*;

fn id(number: u128) -> ToolCallId {
    ToolCallId(Uuid::from_u128(number))
}

/// A conversation with all kinds of messages, some of them ill.
fn conversation() -> Vec<ChatMessage> {
    let tool_call = |number, provider_id: Option<&str>, name: &str, arguments: &str| ToolCall {
        id: id(number),
        provider_id: provider_id.map(str::to_owned),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    let result = |number, text: &str, is_error| ChatMessage::Tool {
        call: id(number),
        text: text.to_owned(),
        is_error,
    };
    vec![
        system("You work."),
        user("Do it."),
        user("There are no files."),
        ChatMessage::Assistant {
            text: "I write.".to_owned(),
            tool_calls: vec![
                tool_call(1, Some("call_a"), "write_file", r#"{"path":"a"}"#),
                tool_call(2, None, "what is this", "{never"),
            ],
        },
        result(1, "Written.", false),
        result(2, "No such tool.", true),
        ChatMessage::Assistant { text: "Done.".to_owned(), tool_calls: Vec::new() },
        user("The check fails."),
    ]
}

/// The body of the request that a call becomes.
async fn body(model: &str, change: impl FnOnce(&mut ModelCall)) -> Value {
    let server = ModelServer::start([Reply::text("{}")]);
    let configured = configured(model, &server);
    let mut asked = call(&configured, conversation());
    change(&mut asked);
    // An answer that has not the form of a schema is malformed; here only the request counts.
    let _ = configured.complete(asked, &mut Parts::default()).await;
    server.requests().remove(0).body
}

#[tokio::test]
async fn chat_completions_are_asked_for_as_documented() {
    let body = body(CHAT, |_| {}).await;
    assert_eq!(body["model"], "some");
    assert_eq!(
        (&body["stream"], &body["stream_options"]["include_usage"]),
        (&json!(true), &json!(true))
    );
    assert_eq!((&body["temperature"], &body["seed"]), (&json!(0.25), &json!(7)));
    assert_eq!((&body["max_tokens"], &body["response_format"]), (&json!(100), &Value::Null));
    assert_eq!(body["tools"][0]["type"], "function");
    assert_eq!(body["tools"][0]["function"]["parameters"]["required"][1], "content");
    let own = id(2).to_string();
    let expected = json!([
        { "role": "system", "content": "You work." },
        { "role": "user", "content": "Do it.\n\nThere are no files." },
        {
            "role": "assistant",
            "content": "I write.",
            "tool_calls": [
                { "id": "call_a", "type": "function", "function": { "name": "write_file", "arguments": "{\"path\":\"a\"}" } },
                { "id": own, "type": "function", "function": { "name": "what_is_this", "arguments": "{\"unreadable\":\"{never\"}" } },
            ],
        },
        { "role": "tool", "tool_call_id": "call_a", "content": "Written." },
        { "role": "tool", "tool_call_id": own, "content": "No such tool." },
        { "role": "assistant", "content": "Done." },
        { "role": "user", "content": "The check fails." },
    ]);
    assert_eq!(body["messages"], expected);
}

#[tokio::test]
async fn messages_are_asked_for_as_documented_and_marked_for_the_cache() {
    let server = ModelServer::start([Reply::text("x")]);
    let configured = configured(MODELS[1], &server);
    let asked = call(&configured, conversation());
    configured.complete(asked, &mut Parts::default()).await.unwrap();
    let request = server.requests().remove(0);
    assert_eq!(request.header("anthropic-version"), "2023-06-01");
    assert_eq!((&*request.method, &*request.path), ("POST", "/v1/messages"));
    let body = request.body;
    let kept = json!({ "type": "ephemeral" });
    let own = id(2).to_string();
    assert_eq!(
        body["system"],
        json!([{ "type": "text", "text": "You work.", "cache_control": kept }])
    );
    assert_eq!((&body["max_tokens"], &body["stream"]), (&json!(100), &json!(true)));
    assert_eq!((&body["temperature"], &body["seed"]), (&json!(0.25), &Value::Null));
    assert_eq!(body["tools"][0]["input_schema"]["type"], "object");
    let text = |text: &str| json!({ "type": "text", "text": text });
    let expected = json!([
        { "role": "user", "content": [text("Do it."), text("There are no files.")] },
        { "role": "assistant", "content": [
            text("I write."),
            { "type": "tool_use", "id": "call_a", "name": "write_file", "input": { "path": "a" } },
            { "type": "tool_use", "id": own, "name": "what_is_this", "input": { "unreadable": "{never" } },
        ] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "call_a", "is_error": false, "content": [text("Written.")] },
            { "type": "tool_result", "tool_use_id": own, "is_error": true, "content": [text("No such tool.")] },
        ] },
        { "role": "assistant", "content": [text("Done.")] },
        { "role": "user", "content": [
            { "type": "text", "text": "The check fails.", "cache_control": kept },
        ] },
    ]);
    assert_eq!(body["messages"], expected);
}

#[tokio::test]
async fn a_schema_is_asked_for_without_tools() {
    let schema = json!({ "type": "object", "properties": { "steps": { "type": "array" } } });
    let with_schema = |call: &mut ModelCall| call.schema = Some(Arc::new(schema.clone()));
    let chat = body(CHAT, with_schema).await;
    let expected = json!({ "name": "answer", "schema": schema, "strict": false });
    assert_eq!(chat["response_format"], json!({ "type": "json_schema", "json_schema": expected }));
    assert_eq!(chat["tools"], Value::Null);
    let messages = body(MODELS[1], with_schema).await;
    assert_eq!(messages["tool_choice"], json!({ "type": "tool", "name": "answer" }));
    assert_eq!(messages["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!(messages["tools"][0]["input_schema"], schema);
}

#[tokio::test]
async fn an_answer_under_a_schema_is_its_json() {
    let steps = json!({ "steps": [] });
    for (model, reply) in [
        (MODELS[0], Reply::texts(["{\"steps\"", ":[]}"])),
        (MODELS[1], Reply::tool("answer", steps.clone()).argument_parts(4)),
    ] {
        let server = ModelServer::start([reply]);
        let configured = configured(model, &server);
        let mut asked = call(&configured, [user("Plan.")]);
        (asked.schema, asked.tools) = (Some(Arc::new(json!({ "type": "object" }))), Arc::new([]));
        let mut parts = Parts::default();
        let answer = configured.complete(asked, &mut parts).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&answer.text).unwrap(), steps, "{model}");
        assert_eq!(parts.0.concat(), answer.text);
        assert!(answer.tool_calls.is_empty(), "{model}");
    }
}

#[tokio::test]
async fn what_is_not_set_is_not_sent() {
    for model in MODELS {
        let body = body(model, |call| {
            (call.parameters.temperature_milli, call.parameters.seed) = (None, None);
            call.tools = Arc::new([]);
        });
        let body = body.await;
        for name in ["temperature", "seed", "tools", "tool_choice", "response_format"] {
            assert_eq!(body.get(name), None, "{model} {name}");
        }
    }
}

#[tokio::test]
async fn a_model_without_tool_calls_calls_them_in_its_text() {
    for model in MODELS {
        let written = "I write.\n\n```tool\n{\"tool\": \"write_file\", \"arguments\": {\"path\": \"a\"}}\nx = 1\n```\nThen I stop.";
        let server = ModelServer::start([
            Reply::texts([&written[..14], &written[14..]]),
            Reply::text("```tool\n{\"tool\": \"wri")
                .stop(ai_factory_schemas::chat::StopReason::Length),
        ]);
        let tools = Some(ToolProtocol::Text);
        let settings = ModelSettings { tools, ..settings(model, &server) };
        let configured = ConfiguredModel::new(&settings).unwrap();
        let mut parts = Parts::default();
        let asked = || call(&configured, conversation());
        let answer = configured.complete(asked(), &mut parts).await.unwrap();
        assert_eq!((&*answer.text, parts.0.concat().trim_end()), ("I write.", "I write."));
        let arguments: Value = serde_json::from_str(&answer.tool_calls[0].arguments).unwrap();
        assert_eq!(arguments, json!({ "path": "a", "content": "x = 1\n" }), "{model}");
        let body = server.requests().remove(0).body;
        assert_eq!(body.get("tools"), None);
        assert!(body.to_string().contains("## write_file"), "{body}");
        assert!(body.to_string().contains("Result of the tool `write_file`"), "{body}");
        let cut = configured.complete(asked(), &mut parts).await.unwrap();
        assert!(cut.tool_calls.is_empty(), "nothing of a cut answer is carried out");
    }
}

#[tokio::test]
async fn without_a_model_none_is_offered_and_only_one_that_a_session_recorded_is_asked() {
    let server = ModelServer::start([Reply::text("Hello.")]);
    let none = ConfiguredModel::new(&ModelSettings::default()).unwrap();
    assert_eq!(none.endpoint(None), Ok(None));
    assert!(none.endpoint(Some(CHAT)).unwrap_err().contains("set `model`"));
    let asked = call(&configured(CHAT, &server), [user("Hello.")]);
    assert!(server.requests().is_empty() && server.others().is_empty());
    none.check(&asked.endpoint).unwrap();
    let answer = none.complete(asked, &mut Parts::default()).await.unwrap();
    assert_eq!((&*answer.text, server.requests().len()), ("Hello.", 1));
}

#[tokio::test]
async fn only_the_configured_model_can_be_named() {
    let server = ModelServer::start([]);
    let model = configured(CHAT, &server);
    assert_eq!(model.endpoint(Some(CHAT)), model.endpoint(None));
    assert_eq!(model.endpoint(Some("none")), Ok(None));
    let other = model.endpoint(Some("ollama/x")).unwrap_err();
    assert!(other.contains("`openai/some`"), "{other}");
    let unknown = model.endpoint(Some("nobody/x")).unwrap_err();
    assert!(unknown.contains("openai, anthropic, ollama, llamacpp, vllm"), "{unknown}");
}

#[tokio::test]
async fn calls_at_once_are_answered_each_by_its_own() {
    let server = ModelServer::answering(|number, request| {
        let asked = request.body["messages"][0]["content"].as_str().unwrap_or_default();
        Reply::text(&format!("{asked}!")).usage(100 + number as u64, 1)
    });
    server.then([Reply::text("first")]);
    let model = Arc::new(configured(CHAT, &server));
    let ask = |text: String| {
        let model = Arc::clone(&model);
        let asked = call(&model, [user(&text)]);
        tokio::spawn(async move { model.complete(asked, &mut Parts::default()).await })
    };
    assert_eq!(ask("0".to_owned()).await.unwrap().unwrap().text, "first");
    let asked: Vec<_> = (1..20).map(|number| ask(number.to_string())).collect();
    for (number, asked) in (1..).zip(asked) {
        assert_eq!(asked.await.unwrap().unwrap().text, format!("{number}!"));
    }
    assert_eq!(server.requests().len(), 20);
}
