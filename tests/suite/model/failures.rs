//! Everything that a server can do wrong, each with its one outcome.

use ai_factory_schemas::{
    limit::{MODEL_ANSWER_BYTES_MAX, TOOL_CALLS_READ_MAX},
    model::ModelErrorClass,
};

use super::*;
use crate::support::{certificates::certificate, embeddings::Embeddings};

fn write() -> Reply {
    Reply::tool("write_file", json!({ "path": "a.py", "content": "print(1)\n" }))
}

fn error(kind: &str, message: &str) -> String {
    json!({ "type": "error", "error": { "type": kind, "message": message } }).to_string()
}

#[tokio::test]
async fn a_refusal_has_a_class_and_says_what_to_do() {
    for model in MODELS {
        for (reply, class, parts) in [
            (Reply::status(401), ModelErrorClass::Credentials, ["401", "`model_key`"]),
            (Reply::status(403), ModelErrorClass::Credentials, ["403", "`model_key`"]),
            (
                Reply::status(404).body(error("not_found_error", "model: some")),
                ModelErrorClass::NoSuchModel,
                ["`some`", "correct `model`"],
            ),
            (
                Reply::status(400)
                    .body(error("invalid_request_error", "prompt is too long: 9 > 8")),
                ModelErrorClass::ContextTooLong,
                ["9 > 8", "`model_context_tokens`"],
            ),
            (
                Reply::status(400).body(error("invalid_request_error", "temperature: no")),
                ModelErrorClass::Refused,
                ["temperature: no", "settings"],
            ),
            (Reply::status(429), ModelErrorClass::RateLimited, ["429", "wait"]),
            (
                Reply::status(500).body("<html>oh"),
                ModelErrorClass::Overloaded,
                ["<html>oh", "later"],
            ),
            (
                Reply::status(529).body(error("overloaded_error", "Overloaded")),
                ModelErrorClass::Overloaded,
                ["529: Overloaded", "later"],
            ),
            (
                Reply::status(200).body(error("overloaded_error", "Overloaded")),
                ModelErrorClass::Overloaded,
                ["Overloaded", "later"],
            ),
            (
                Reply::status(200).body("{\"choices\":[]}"),
                ModelErrorClass::Malformed,
                ["does not stream", "another server"],
            ),
            (Reply::status(204), ModelErrorClass::Malformed, ["204", "another server"]),
        ] {
            let said = format!("{model} {reply:?}");
            let found = failed(model, reply).await;
            assert_eq!(found.class, class, "{said}: {found}");
            assert!(parts.iter().all(|part| found.reason.contains(part)), "{said}: {found}");
            assert_eq!((found.retry_after, found.usage), (None, None), "{said}");
        }
    }
}

#[tokio::test]
async fn a_time_to_wait_is_told_where_the_server_tells_it() {
    for model in MODELS {
        for status in [429, 503, 529] {
            let error = failed(model, Reply::status(status).retry_after(7)).await;
            assert_eq!(error.retry_after, Some(Duration::from_secs(7)), "{model} {status}");
            assert!(error.class.is_retried() && error.class.is_free());
        }
        let dated = Reply::status(429)
            .header("date", "Tue, 01 Dec 2026 10:00:00 GMT")
            .header("retry-after", "Tue, 01 Dec 2026 10:01:00 GMT");
        assert_eq!(failed(model, dated).await.retry_after, Some(Duration::from_mins(1)));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_wherever_it_does() {
    for model in MODELS {
        for reply in [
            Reply::text("The answer").cut(),
            Reply::text("The answer").cut_inside(),
            write().cut(),
            write().cut_inside(),
            write().argument_parts(3).cut_inside(),
            Reply::stream(""),
            Reply::hang_up(),
        ] {
            let said = format!("{model} {reply:?}");
            let error = failed(model, reply).await;
            assert_eq!(error.class, ModelErrorClass::Cut, "{said}: {error}");
            assert!(error.reason.contains("broke off") && error.usage.is_none(), "{said}: {error}");
        }
    }
}

/// A stream with a text and a tool call in each protocol.
const STREAMS: [&str; 2] = [
    "data: {\"choices\":[{\"delta\":{\"content\":\"Sü\"}}]}\r\n\r\n: alive\r\n\r\n\
     data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"run\"}}]}}]}\r\n\r\n\
     data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}}]}\r\n\r\n\
     data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\r\n\r\n\
     data: [DONE]\r\n\r\n",
    "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n\
     data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"Sü\"}}\n\n\
     data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"run\"}}\n\n\
     data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n\
     data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\n\n\
     data: {\"type\":\"message_stop\"}\n\n",
];

#[tokio::test]
async fn the_beginning_of_an_answer_is_never_an_answer_wherever_it_ends() {
    for (model, stream) in MODELS.into_iter().zip(STREAMS) {
        let whole = answered(model, Reply::stream(stream)).await;
        assert_eq!((&*whole.text, whole.tool_calls.len()), ("Sü", 1), "{model}");
        let server = ModelServer::answering(|end, _| Reply::stream(&stream.as_bytes()[..end]));
        let configured = configured(model, &server);
        let mut complete = 0;
        for end in 0..stream.len() {
            match said(&configured).await.0 {
                Ok(answer) => {
                    assert_eq!(answer, whole, "{model} {end}");
                    complete += 1;
                }
                Err(error) => assert_eq!(error.class, ModelErrorClass::Cut, "{end}: {error}"),
            }
        }
        // A completion is complete with its reason to finish, a message with its last byte.
        assert!(complete <= if model == CHAT { "data: [DONE]\r\n\r\n".len() + 2 } else { 1 });
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_malformed() {
    let endless = json!("{\"path\": \"a.py\", \"content\": \"pri");
    let many = (0..200).map(|_| ("write_file", json!({})));
    let part = "x".repeat(1_000);
    let texts = std::iter::repeat_n(&*part, 10_000);
    for model in MODELS {
        for (reply, part) in [
            (Reply::text("x").raw("data: {\"choices\": [\n\n"), "an event is no"),
            (Reply::text("x").raw("data: [1]\n\n"), "an event is no"),
            (Reply::text("x").raw(b"data: {\"a\": \"\xff\xfe\"}\n\n".to_vec()), "UTF-8"),
            (Reply::tool("write_file", endless.clone()), "never end"),
            (Reply::tool("", json!({})), "no name"),
            (Reply::tools(many.clone()), "more than 64 tools"),
            (Reply::text(&"x".repeat(10 << 20)), "a line of it is longer"),
            (Reply::texts(texts.clone()), "it is longer than"),
            (Reply::stream(vec![b'x'; 10 << 20]), "a line of it is longer"),
        ] {
            let error = failed(model, reply).await;
            assert_eq!(error.class, ModelErrorClass::Malformed, "{model} {part}: {error}");
            assert!(error.reason.contains(part), "{model} {part}: {error}");
        }
        let most = (0..TOOL_CALLS_READ_MAX).map(|_| ("write_file", json!({})));
        assert_eq!(answered(model, Reply::tools(most)).await.tool_calls.len(), TOOL_CALLS_READ_MAX);
        let longest = "x".repeat(MODEL_ANSWER_BYTES_MAX / 2);
        let answer = answered(model, Reply::texts([&*longest, &*longest])).await;
        assert_eq!(answer.text.len(), MODEL_ANSWER_BYTES_MAX, "{model}");
    }
}

#[tokio::test]
async fn a_list_of_choices_that_is_empty_is_malformed() {
    for stream in [
        "data: {\"choices\":[]}\n\ndata: [DONE]\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n",
    ] {
        let error = failed(CHAT, Reply::stream(stream)).await;
        assert_eq!(error.class, ModelErrorClass::Malformed, "{stream}: {error}");
        assert!(error.reason.contains("list of choices is empty"), "{error}");
    }
}

#[tokio::test]
async fn the_end_of_a_completion_is_its_reason_to_finish() {
    let finish =
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n";
    assert_eq!(answered(CHAT, Reply::stream(finish)).await.text, "x");
    let unfinished = format!("{}data: [DONE]\n\n", finish.replace("\"stop\"", "null"));
    let error = failed(CHAT, Reply::stream(unfinished)).await;
    assert_eq!(error.class, ModelErrorClass::Cut, "{error}");
}

#[tokio::test]
async fn a_server_whose_certificate_nobody_vouches_for_gets_no_request() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "server", None);
    let server = Embeddings::start_with_tls(dir.path(), "server");
    for model in MODELS {
        let (url, key) = (Some(server.url()), Some("a-key".to_owned()));
        let settings =
            ModelSettings { model: model.to_owned(), url, key, ..ModelSettings::default() };
        let error = said(&ConfiguredModel::new(&settings).unwrap()).await.0.unwrap_err();
        assert_eq!(error.class, ModelErrorClass::Unreachable, "{error}");
        assert!(error.reason.contains("certificate"), "{error}");
    }
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn arguments_that_are_wrong_but_complete_are_the_models_affair() {
    for model in MODELS {
        let reply = Reply::tool("write_file", json!("{'path': 'a.py'}"));
        assert_eq!(answered(model, reply).await.tool_calls[0].arguments, "{'path': 'a.py'}");
        let unknown = answered(model, Reply::tool("fly", json!({}))).await;
        assert_eq!(unknown.tool_calls[0].name, "fly", "{model}");
    }
}

#[tokio::test]
async fn an_error_within_a_stream_is_one_before_output_and_a_cut_answer_after_it() {
    let overloaded = format!("data: {}\n\n", error("overloaded_error", "Overloaded"));
    for model in MODELS {
        let before = failed(model, Reply::stream(overloaded.clone())).await;
        assert_eq!(before.class, ModelErrorClass::Overloaded, "{model}: {before}");
        let after = failed(model, Reply::text("The").raw(overloaded.clone())).await;
        assert_eq!(after.class, ModelErrorClass::Cut, "{model}: {after}");
        assert!(after.reason.contains("Overloaded"), "{after}");
    }
}

#[tokio::test]
async fn a_request_that_was_read_in_part_is_truncated() {
    for model in MODELS {
        let text = "word ".repeat(1_000);
        let server =
            ModelServer::start([Reply::text("x").usage(400, 1), Reply::text("x").usage(420, 1)]);
        let configured = configured(model, &server);
        let asked = || call(&configured, [user(&text)]);
        let error = configured.complete(asked(), &mut Parts::default()).await.unwrap_err();
        assert_eq!(error.class, ModelErrorClass::Truncated, "{model}: {error}");
        assert!(error.reason.contains("`model_context_tokens`"), "{error}");
        assert_eq!(error.usage.map(|usage| usage.total()), Some(401), "{model}");
        configured.complete(asked(), &mut Parts::default()).await.unwrap();
    }
}

#[tokio::test]
async fn patience_ends_before_the_head_before_the_first_byte_and_within_the_stream() {
    for model in MODELS {
        for (reply, part) in [
            (write().stalled(), "did not begin to answer within 40 ms"),
            (write().stall_before(0), "did not begin to answer within 40 ms"),
            (write().stall_before(1), "did not begin to answer within 40 ms"),
            (write().stall_before(3), "sent nothing more for 40 ms"),
        ] {
            let server = ModelServer::start([reply]);
            let error = said(&impatient(model, &server)).await.0.unwrap_err();
            assert_eq!(error.class, ModelErrorClass::TimedOut, "{model}: {error}");
            assert!(error.reason.contains(part), "{model}: {error}");
            server.hung_up(1).await;
        }
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_closes_its_connection() {
    for model in MODELS {
        for reply in [write().stalled(), write().stall_before(2)] {
            let server = ModelServer::start([reply]);
            let waiting = configured(model, &server);
            let asked = tokio::spawn(async move { said(&waiting).await.0 });
            server.received(1).await;
            asked.abort();
            server.hung_up(1).await;
        }
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_nothing_was_sent() {
    let server = ModelServer::start([]);
    let settings = settings(CHAT, &server);
    drop(server);
    let model = ConfiguredModel::new(&settings).unwrap();
    let error = said(&model).await.0.unwrap_err();
    assert_eq!(error.class, ModelErrorClass::Unreachable, "{error}");
    assert!(error.reason.contains("`model_url`") && error.class.is_free(), "{error}");
}
