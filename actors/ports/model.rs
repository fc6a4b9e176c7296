//! Language models: a conversation in, an answer out.
//!
//! An implementation promises:
//! - without a configured model it opens no socket, and nothing that it is given leaves the
//!   machine, but for a session that recorded a model of its own;
//! - [`Model::complete`] makes one attempt: it repeats nothing, follows no redirect, and uses no
//!   proxy of the environment;
//! - every failure has one class and a sentence that says what to do; an answer that broke off, or
//!   cannot be read as a whole, is a failure and never a shorter answer;
//! - no key is in an error, and no key goes to another host than its own, or in plain text beyond
//!   this machine;
//! - what it reports as used is what the provider says; what the provider does not say is absent,
//!   never 0;
//! - it is cancel-safe: dropping the future closes the connection.

use std::{sync::Arc, time::Duration};

use ai_factory_schemas::{
    chat::{ChatMessage, StopReason, ToolSpec},
    model::{ModelEndpoint, ModelErrorClass, ModelParameters, TokenUsage},
};

/// One call.
#[derive(Clone, Debug)]
pub struct ModelCall {
    /// The model. Its address may differ from the configured one: a session keeps its own.
    pub endpoint: ModelEndpoint,
    /// The parameters.
    pub parameters: ModelParameters,
    /// The conversation.
    pub messages: Vec<Arc<ChatMessage>>,
    /// The tools on offer; none beside a schema.
    pub tools: Arc<[ToolSpec]>,
    /// The JSON Schema of the answer, if it has one: `type`, `properties`, `required`, `enum`,
    /// `description` and `items` alone.
    pub schema: Option<Arc<serde_json::Value>>,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelAnswer {
    /// The text; empty if there is none.
    pub text: String,
    /// The tools that it calls, in their order; at most
    /// [`ai_factory_schemas::limit::TOOL_CALLS_READ_MAX`].
    pub tool_calls: Vec<AnsweredToolCall>,
    /// How it ended.
    pub stop: StopReason,
    /// What it took; absent if the provider does not say.
    pub usage: Option<TokenUsage>,
    /// The model that answered, if the provider names one.
    pub answered_by: Option<String>,
    /// The provider's id of the answer.
    pub provider_id: Option<String>,
}

/// A tool call of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredToolCall {
    /// The provider's id, to be echoed; absent if it gave none.
    pub provider_id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// The arguments as text, complete.
    pub arguments: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ModelError {
    /// The class.
    pub class: ModelErrorClass,
    /// What is wrong, and what to do.
    pub reason: String,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
    /// What it took all the same, if the provider says so.
    pub usage: Option<TokenUsage>,
}

impl ModelError {
    /// A failure without more to tell.
    pub fn new(class: ModelErrorClass, reason: impl Into<String>) -> Self {
        Self { class, reason: reason.into(), retry_after: None, usage: None }
    }
}

/// What a server tells about a model, without being asked to complete anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// The window in force, in tokens, if the server tells it.
    pub context_tokens: Option<u64>,
    /// Whether it can call tools, if the server tells it.
    pub calls_tools: Option<bool>,
    /// The kind and version of the server, if it tells them.
    pub server: Option<String>,
    /// Whether the server will tell the same later. A window that is not in force yet may become
    /// another one.
    pub is_final: bool,
}

/// Takes the text of an answer while it arrives.
pub trait TokenSink: Send {
    /// The next part of the text.
    fn text(&mut self, part: &str);
}

/// Ignores the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl TokenSink for NoSink {
    fn text(&mut self, _: &str) {}
}

/// A language model. The module's documentation has the promises of an implementation.
#[async_trait::async_trait]
pub trait Model: Send + Sync + 'static {
    /// The configured model; `None` if none is configured. With a name, that model.
    ///
    /// # Errors
    /// A sentence, if another model than the named one is configured.
    fn endpoint(&self, named: Option<&str>) -> Result<Option<ModelEndpoint>, String>;

    /// Whether this process can ask that model, which may be one that a session recorded: whether
    /// its address can be read and the key that it needs is known, or its recording can be played.
    /// Opens no connection; may read a file.
    ///
    /// # Errors
    /// A sentence that says what to set.
    fn check(&self, endpoint: &ModelEndpoint) -> Result<(), String> {
        let _ = endpoint;
        Ok(())
    }

    /// What the server tells about the model, asked for until it is final.
    async fn facts(&self, endpoint: &ModelEndpoint) -> Result<ModelFacts, ModelError>;

    /// Makes one attempt of a call.
    async fn complete(
        &self,
        call: ModelCall,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError>;
}

/// No model.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoModel;

#[async_trait::async_trait]
impl Model for NoModel {
    fn endpoint(&self, named: Option<&str>) -> Result<Option<ModelEndpoint>, String> {
        match named {
            None => Ok(None),
            Some(name) => Err(format!(
                "the model `{name}` is not configured: set `model` to it, or leave `model` out of the request"
            )),
        }
    }

    fn check(&self, _: &ModelEndpoint) -> Result<(), String> {
        Err(none().reason)
    }

    async fn facts(&self, _: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
        Err(none())
    }

    async fn complete(
        &self,
        _: ModelCall,
        _: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        Err(none())
    }
}

fn none() -> ModelError {
    ModelError::new(ModelErrorClass::NoSuchModel, "no model is configured: set `model`")
}
