//! A model that answers by a script: what it says depends on how often it has spoken in the
//! conversation, so that a repeated call is answered as the first one.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use ai_factory_ports::model::{
    AnsweredToolCall, Model, ModelAnswer, ModelCall, ModelError, ModelFacts, TokenSink,
};
use ai_factory_schemas::{
    chat::{ChatMessage, StopReason},
    model::{ModelEndpoint, ModelErrorClass, ModelProtocol, TokenUsage, ToolProtocol},
};
use serde_json::Value;
use tokio::sync::Semaphore;

/// Its name.
pub(crate) const NAME: &str = "scripted/model";

/// What the model says.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// A text without tool calls.
    Text(String),
    /// Tool calls: name and arguments.
    Calls(Vec<(&'static str, Value)>),
    /// Tool calls of an answer that was cut at the limit of tokens.
    Cut(Vec<(&'static str, Value)>),
    /// A failure.
    Fails(ModelErrorClass),
    /// Nothing, for ever.
    Hangs,
}

/// A plan of one step.
pub(crate) fn plan() -> Said {
    Said::Text(r#"{"steps": [{"action": "Do it", "rationale": "It was asked for"}]}"#.to_owned())
}

/// One tool call.
pub(crate) fn tool(name: &'static str, arguments: Value) -> Said {
    Said::Calls(vec![(name, arguments)])
}

/// The end, as a success.
pub(crate) fn finish(result: &str) -> Said {
    tool("finish", serde_json::json!({ "result": result, "status": "success" }))
}

pub(crate) struct ConversingModel {
    script: Vec<Said>,
    /// The window that it tells.
    window: Option<u64>,
    /// How often it was asked.
    pub(crate) asked: AtomicUsize,
    /// The last call.
    pub(crate) last: Mutex<Option<ModelCall>>,
    /// A permit for each call that began.
    pub(crate) begun: Semaphore,
}

impl ConversingModel {
    pub(crate) fn new(script: Vec<Said>) -> Self {
        Self {
            script,
            window: None,
            asked: AtomicUsize::new(0),
            last: Mutex::new(None),
            begun: Semaphore::new(0),
        }
    }

    pub(crate) fn with_window(self, tokens: u64) -> Self {
        Self { window: Some(tokens), ..self }
    }

    /// Waits until so many calls have begun.
    pub(crate) async fn begun(&self, calls: u32) {
        let waiting = self.begun.acquire_many(calls);
        tokio::time::timeout(std::time::Duration::from_secs(20), waiting)
            .await
            .expect("the model is asked")
            .unwrap()
            .forget();
    }

    /// The texts of the last call's messages.
    pub(crate) fn heard(&self) -> Vec<String> {
        let last = self.last.lock().unwrap();
        let messages = last.iter().flat_map(|call| &call.messages);
        messages.map(|message| text(message).to_owned()).collect()
    }
}

fn text(message: &ChatMessage) -> &str {
    match message {
        ChatMessage::System { text }
        | ChatMessage::User { text }
        | ChatMessage::Assistant { text, .. }
        | ChatMessage::Tool { text, .. } => text,
    }
}

#[async_trait::async_trait]
impl Model for ConversingModel {
    fn endpoint(&self, named: Option<&str>) -> Result<Option<ModelEndpoint>, String> {
        match named {
            Some(name) if name != NAME => Err(format!("`{name}` is not configured")),
            _ => Ok(Some(ModelEndpoint {
                model: NAME.to_owned(),
                url: "http://127.0.0.1:1/v1".to_owned(),
                protocol: ModelProtocol::ChatCompletions,
                tools: ToolProtocol::Native,
            })),
        }
    }

    async fn facts(&self, _: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
        Ok(ModelFacts { context_tokens: self.window, is_final: true, ..ModelFacts::default() })
    }

    async fn complete(
        &self,
        call: ModelCall,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let is_own = |message: &&std::sync::Arc<ChatMessage>| {
            matches!(&***message, ChatMessage::Assistant { .. })
        };
        let spoken = call.messages.iter().filter(is_own).count();
        let bytes: usize = call.messages.iter().map(|message| text(message).len()).sum();
        *self.last.lock().unwrap() = Some(call);
        self.begun.add_permits(1);
        let said = self.script.get(spoken).or(self.script.last()).cloned();
        let (text, calls, stop) = match said.expect("the script has an answer") {
            Said::Text(text) => (text, Vec::new(), StopReason::End),
            Said::Calls(calls) => (String::new(), calls, StopReason::ToolCalls),
            Said::Cut(calls) => (String::new(), calls, StopReason::Length),
            Said::Fails(class) => return Err(ModelError::new(class, "the script says so")),
            Said::Hangs => std::future::pending().await,
        };
        sink.text(&text);
        let tool_calls =
            calls.into_iter().enumerate().map(|(at, (name, arguments))| AnsweredToolCall {
                provider_id: Some(format!("call_{at}")),
                name: name.to_owned(),
                arguments: arguments.to_string(),
            });
        Ok(ModelAnswer {
            text,
            tool_calls: tool_calls.collect(),
            stop,
            usage: Some(TokenUsage {
                input: bytes as u64 / 4 + 1,
                output: 10,
                ..TokenUsage::default()
            }),
            answered_by: None,
            provider_id: None,
        })
    }
}
