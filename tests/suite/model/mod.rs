//! The model adapter against a scripted server, in both protocols.

mod answers;
mod failures;
mod keys;
mod playback;
mod requests;
mod told;

use std::{sync::Arc, time::Duration};

use ai_factory_model::{ConfiguredModel, ModelSettings};
use ai_factory_ports::model::{
    Model as _, ModelAnswer, ModelCall, ModelError, ModelFacts, TokenSink,
};
use ai_factory_schemas::{
    chat::{ChatMessage, ToolSpec},
    model::ModelParameters,
};
use serde_json::json;

use crate::support::model_server::{ModelServer, Reply};

/// A model of each protocol.
const MODELS: [&str; 2] = ["openai/some", "anthropic/some"];
const CHAT: &str = MODELS[0];

fn settings(model: &str, server: &ModelServer) -> ModelSettings {
    ModelSettings {
        model: model.to_owned(),
        url: Some(server.url()),
        key: Some("a-key".to_owned()),
        ..ModelSettings::default()
    }
}

fn configured(model: &str, server: &ModelServer) -> ConfiguredModel {
    ConfiguredModel::new(&settings(model, server)).unwrap()
}

/// A model whose patience ends at once.
fn impatient(model: &str, server: &ModelServer) -> ConfiguredModel {
    let soon = Duration::from_millis(40);
    let settings = ModelSettings {
        first_byte_max: soon,
        idle_max: soon,
        ..settings(model, server)
    };
    ConfiguredModel::new(&settings).unwrap()
}

fn system(text: &str) -> ChatMessage {
    ChatMessage::System {
        text: text.to_owned(),
    }
}

fn user(text: &str) -> ChatMessage {
    ChatMessage::User {
        text: text.to_owned(),
    }
}

fn parameters() -> ModelParameters {
    ModelParameters {
        temperature_milli: Some(250),
        seed: Some(7),
        output_tokens_max: 100,
        context_tokens: 8_192,
    }
}

fn tools() -> Arc<[ToolSpec]> {
    let tool = ToolSpec {
        name: "write_file".to_owned(),
        description: "Writes a file.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": { "path": { "type": "string" }, "content": { "type": "string" } },
            "required": ["path", "content"],
        }),
    };
    Arc::new([tool])
}

fn call(model: &ConfiguredModel, messages: impl IntoIterator<Item = ChatMessage>) -> ModelCall {
    ModelCall {
        endpoint: model.endpoint(None).unwrap().unwrap(),
        parameters: parameters(),
        messages: messages.into_iter().map(Arc::new).collect(),
        tools: tools(),
        schema: None,
    }
}

/// The parts of a text as they came.
#[derive(Default)]
struct Parts(Vec<String>);

impl TokenSink for Parts {
    fn text(&mut self, part: &str) {
        self.0.push(part.to_owned());
    }
}

/// What a short conversation is answered, and what was shown of it.
async fn said(model: &ConfiguredModel) -> (Result<ModelAnswer, ModelError>, Parts) {
    let mut parts = Parts::default();
    let call = call(model, [system("You work."), user("Write a file.")]);
    (model.complete(call, &mut parts).await, parts)
}

async fn answered(model: &str, reply: Reply) -> ModelAnswer {
    let server = ModelServer::start([reply]);
    said(&configured(model, &server)).await.0.unwrap()
}

async fn failed(model: &str, reply: Reply) -> ModelError {
    let server = ModelServer::start([reply]);
    let error = said(&configured(model, &server)).await.0.unwrap_err();
    assert_eq!(
        server.requests().len(),
        1,
        "one attempt is one request: {error}"
    );
    error
}
