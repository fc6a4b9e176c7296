//! A recording in place of a model.

use std::{fs, path::Path};

use ai_factory_model::{RecordedAnswer, RecordedCall, RecordingLine};
use ai_factory_schemas::{
    call::CallRequest,
    chat::{MessageRef, StopReason, ToolCall},
    id::ToolCallId,
    model::{ModelErrorClass, TokenUsage},
    text::{Blob, BlobHash},
};
use uuid::Uuid;

use super::*;

/// A conversation of a session, whose ids begin at a number: its first request, the answer to it,
/// and the messages after that.
fn turn(first_id: u128, result: &str) -> [ChatMessage; 5] {
    let id = ToolCallId(Uuid::from_u128(first_id));
    let tool_calls = vec![ToolCall {
        id,
        provider_id: Some("call_0".to_owned()),
        name: "write_file".to_owned(),
        arguments: "{\"path\":\"a\"}".to_owned(),
    }];
    [
        system("You work."),
        user("Write a file."),
        ChatMessage::Assistant {
            text: "I write.".to_owned(),
            tool_calls,
        },
        ChatMessage::Tool {
            call: id,
            text: result.to_owned(),
            is_error: false,
        },
        ChatMessage::Assistant {
            text: "Done.".to_owned(),
            tool_calls: Vec::new(),
        },
    ]
}

/// Writes the recording of that conversation: two calls.
fn record(path: &Path) {
    let turn = turn(1, "Written.");
    let mut lines = Vec::new();
    let mut blob = |text: Vec<u8>| {
        lines.push(RecordingLine::Blob(
            String::from_utf8(text.clone()).unwrap(),
        ));
        Blob::new(text)
    };
    let tools = blob(serde_json::to_vec(&*tools()).unwrap()).hash();
    let refs = turn
        .each_ref()
        .map(|message| MessageRef::from(&blob(serde_json::to_vec(message).unwrap())));
    for answer in [2, 4] {
        let request = CallRequest {
            model: "anthropic/some".to_owned(),
            parameters: parameters(),
            tools: Some(tools),
            schema: None,
            messages: refs[..answer].to_vec(),
        };
        let stop = if answer == 2 {
            StopReason::ToolCalls
        } else {
            StopReason::End
        };
        let usage = Some(TokenUsage {
            input: 10,
            output: 5,
            ..TokenUsage::default()
        });
        let (answered_by, provider_id) = (Some("some-1".to_owned()), None);
        let message = refs[answer].hash;
        let answer = RecordedAnswer {
            message,
            stop,
            usage,
            answered_by,
            provider_id,
        };
        lines.push(RecordingLine::Call(Box::new(RecordedCall {
            request,
            answer,
        })));
    }
    let lines = lines
        .iter()
        .map(|line| serde_json::to_string(line).unwrap() + "\n");
    fs::write(path, lines.collect::<String>()).unwrap();
}

fn player(path: &Path) -> Result<ConfiguredModel, String> {
    let model = format!("recording:{}", path.display());
    ConfiguredModel::new(&ModelSettings {
        model,
        ..ModelSettings::default()
    })
}

#[tokio::test]
async fn a_recording_answers_another_session_that_sends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    record(&path);
    let player = player(&path).unwrap();
    let turn = turn(77, "Written.");
    let mut parts = Parts::default();
    let first = player
        .complete(call(&player, turn[..2].to_vec()), &mut parts)
        .await
        .unwrap();
    assert_eq!(
        (&*first.text, first.stop),
        ("I write.", StopReason::ToolCalls)
    );
    assert_eq!(first.tool_calls[0].provider_id.as_deref(), Some("call_0"));
    assert_eq!(first.usage.map(|usage| usage.total()), Some(15));
    assert_eq!(
        (parts.0.concat(), first.answered_by.as_deref()),
        ("I write.".to_owned(), Some("some-1"))
    );
    for _ in 0..2 {
        let second = player
            .complete(call(&player, turn[..4].to_vec()), &mut parts)
            .await
            .unwrap();
        assert_eq!((&*second.text, second.stop), ("Done.", StopReason::End));
    }
}

#[tokio::test]
async fn a_miss_names_the_nearest_requests_first_difference() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    record(&path);
    let player = player(&path).unwrap();
    let miss = async |asked: ModelCall| {
        let error = player
            .complete(asked, &mut Parts::default())
            .await
            .unwrap_err();
        assert_eq!(error.class, ModelErrorClass::NotRecorded, "{error}");
        error.reason
    };
    let changed = miss(call(&player, turn(1, "Wrote 3 bytes.")[..4].to_vec())).await;
    assert!(changed.contains("call 2 of 2"), "{changed}");
    let place = "$.messages[3].text: recorded \"Written.\", asked \"Wrote 3 bytes.\"";
    assert!(changed.contains(place), "{changed}");
    let shorter = miss(call(&player, turn(1, "Written.")[..3].to_vec())).await;
    assert!(shorter.contains("$.messages[3]: recorded {"), "{shorter}");
    let mut asked = call(&player, turn(1, "Written.")[..2].to_vec());
    asked.parameters.seed = None;
    let seed = miss(asked).await;
    assert!(
        seed.contains("call 1 of 2, differs first at $.parameters.seed: recorded 7, asked null"),
        "{seed}"
    );
    let mut asked = call(&player, turn(1, "Written.")[..2].to_vec());
    asked.parameters.context_tokens += 1;
    player.complete(asked, &mut Parts::default()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_recording_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let refused = || player(&path).map(|_| ()).unwrap_err();
    assert!(refused().contains("a.jsonl") && refused().contains("recording:FILE"));
    fs::write(&path, "").unwrap();
    assert!(refused().contains("no calls"), "{}", refused());
    record(&path);
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{{\"call\": 1}}\n")).unwrap();
    assert!(
        refused().contains(&format!("line {}", whole.lines().count() + 1)),
        "{}",
        refused()
    );
    let (_, missing) = whole.split_once('\n').unwrap();
    fs::write(&path, missing).unwrap();
    let tools = BlobHash::of(&serde_json::to_vec(&*tools()).unwrap()).to_string();
    assert!(
        refused().contains(&tools) && refused().contains("missing"),
        "{}",
        refused()
    );
}
