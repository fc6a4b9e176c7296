//! Answers that arrive, however they are divided.

use ai_factory_schemas::{chat::StopReason, model::TokenUsage};

use super::*;

#[tokio::test]
async fn a_text_arrives_in_parts_and_as_a_whole() {
    for model in MODELS {
        let parts = ["The ", "answer", " is ü 42."];
        for pieces in [1, 7, 1_000_000] {
            let reply = Reply::texts(parts).usage(100, 9).in_pieces(pieces);
            let server = ModelServer::start([reply]);
            let (answer, shown) = said(&configured(model, &server)).await;
            let answer = answer.unwrap();
            assert_eq!(
                (answer.text.as_str(), answer.stop),
                ("The answer is ü 42.", StopReason::End)
            );
            assert_eq!(shown.0, parts, "{model}");
            let usage = TokenUsage {
                input: 100,
                output: 9,
                ..TokenUsage::default()
            };
            assert_eq!(answer.usage, Some(usage));
            assert_eq!(answer.answered_by.as_deref(), Some("some"));
            assert!(answer.provider_id.is_some() && answer.tool_calls.is_empty());
        }
    }
}

#[tokio::test]
async fn tool_calls_arrive_whole_and_in_order_although_their_arguments_come_in_pieces() {
    let first = json!({ "path": "a.py", "content": "print(\"{}\")\n\t[1]" });
    let second = json!({ "path": "b.py", "content": "" });
    for model in MODELS {
        for (argument_bytes, pieces) in [(1, 3), (5, 100_000), (1_000, 1)] {
            let calls = [
                ("write_file", first.clone()),
                ("write_file", second.clone()),
            ];
            let reply = Reply::tools(calls)
                .saying("I write.")
                .argument_parts(argument_bytes);
            let answer = answered(model, reply.in_pieces(pieces)).await;
            assert_eq!(
                (answer.text.as_str(), answer.stop),
                ("I write.", StopReason::ToolCalls)
            );
            let arguments: Vec<serde_json::Value> = answer
                .tool_calls
                .iter()
                .map(|call| serde_json::from_str(&call.arguments).unwrap())
                .collect();
            assert_eq!(arguments, [first.clone(), second.clone()], "{model}");
            let ids: Vec<_> = answer
                .tool_calls
                .iter()
                .map(|call| call.provider_id.as_deref())
                .collect();
            assert_eq!(ids, [Some("call_0"), Some("call_1")]);
        }
    }
}

#[tokio::test]
async fn an_answer_says_how_it_ended() {
    for model in MODELS {
        let cut = answered(model, Reply::text("It is").stop(StopReason::Length)).await;
        assert_eq!(cut.stop, StopReason::Length, "{model}");
        let refused = answered(model, Reply::refusal("I will not.")).await;
        assert_eq!(
            (&*refused.text, refused.stop),
            ("I will not.", StopReason::Refusal),
            "{model}"
        );
        let filtered = answered(model, Reply::text("So").stop(StopReason::Refusal)).await;
        assert_eq!(filtered.stop, StopReason::Refusal, "{model}");
    }
}

#[tokio::test]
async fn a_usage_is_what_the_provider_says_and_absent_where_it_says_nothing() {
    for model in MODELS {
        let usage = |reply| async move { answered(model, reply).await.usage };
        let text = || Reply::text("x");
        let cached = TokenUsage {
            input: 10,
            cache_read: 200,
            // Chat completions do not tell what is written to the cache.
            cache_write: if model == CHAT { 0 } else { 30 },
            output: 5,
            reasoning: None,
        };
        let written = if model == CHAT { 0 } else { 30 };
        assert_eq!(
            usage(text().usage(10, 5).cached(200, written)).await,
            Some(cached),
            "{model}"
        );
        assert_eq!(usage(text().no_usage()).await, None, "{model}");
        assert_eq!(usage(text().late_usage()).await, None, "{model}");
        assert_eq!(
            usage(text().usage(0, 0)).await,
            Some(TokenUsage::default()),
            "{model}"
        );
        assert_eq!(usage(text().usage_of(json!("many"))).await, None, "{model}");
        let negative = json!({ "prompt_tokens": -1, "completion_tokens": 1e300, "input_tokens": -1, "output_tokens": 1e300 });
        assert_eq!(usage(text().usage_of(negative)).await, None, "{model}");
        let absurd = usage(text().usage(u64::MAX / 4, u64::MAX / 4))
            .await
            .unwrap();
        assert_eq!(absurd.total(), u64::MAX / 4 * 2, "{model}");
    }
}

#[tokio::test]
async fn reasoning_that_is_told_is_kept() {
    let usage = json!({
        "prompt_tokens": 50,
        "completion_tokens": 20,
        "completion_tokens_details": { "reasoning_tokens": 15 },
    });
    let usage = answered(CHAT, Reply::text("x").usage_of(usage))
        .await
        .usage
        .unwrap();
    assert_eq!((usage.output, usage.reasoning), (20, Some(15)));
}

#[tokio::test]
async fn an_answer_goes_on_after_a_stall_within_patience() {
    for model in MODELS {
        let server = ModelServer::start([Reply::text("late").stalled()]);
        let waiting = configured(model, &server);
        let asked = tokio::spawn(async move { said(&waiting).await.0 });
        server.received(1).await;
        assert!(!asked.is_finished());
        server.go_on();
        assert_eq!(asked.await.unwrap().unwrap().text, "late", "{model}");
    }
}
