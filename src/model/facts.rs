//! What a server tells about a model without being asked to complete anything.
//!
//! *Promises.* What a server does not tell is unknown, and no failure; a server that
//! cannot answer yet is one. Only servers that people run
//! themselves are asked: Ollama, llama.cpp and vLLM.
//!
//! *Limits.* [`ASK_MAX`] for a question, [`FACTS_BYTES_MAX`] for its answer.

use std::time::Duration;

use ai_factory_ports::model::{ModelError, ModelFacts};
use ai_factory_schemas::model::{ModelEndpoint, ModelErrorClass};
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use url::Url;

use super::{
    client::{ModelClient, Outgoing},
    patience::TimeLimits,
};

/// Time limit of each step of a question.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Size limit of an answer, in bytes.
const FACTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A server that can be asked.
pub(crate) struct FactsServer<'a> {
    pub(crate) client: &'a ModelClient,
    pub(crate) limits: TimeLimits,
    /// The base of the API.
    pub(crate) url: Url,
    /// The header with the key.
    pub(crate) key: Option<(&'static str, String)>,
}

impl FactsServer<'_> {
    /// What it tells.
    pub(crate) async fn facts(&self, endpoint: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
        match endpoint.provider() {
            "ollama" => self.ollama(endpoint.name()).await,
            "llamacpp" => self.llama_cpp().await,
            "vllm" => self.vllm(endpoint.name()).await,
            _ => Ok(ModelFacts { is_final: true, ..ModelFacts::default() }),
        }
    }

    /// Of a loaded model the window in force; of another one what it will be at most.
    async fn ollama(&self, name: &str) -> Result<ModelFacts, ModelError> {
        let running = self.ask("/api/ps", None).await?;
        let shown = self.ask("/api/show", Some(json!({ "model": name }))).await?;
        let version = self.ask("/api/version", None).await?;
        let is_it = |model: &&Value| {
            let names = [model["name"].as_str(), model["model"].as_str()];
            let latest = format!("{name}:latest");
            names.into_iter().flatten().any(|found| found == name || found == latest)
        };
        let loaded = running["models"].as_array().and_then(|models| models.iter().find(is_it));
        let in_force = loaded.and_then(|model| model["context_length"].as_u64());
        Ok(ModelFacts {
            context_tokens: in_force.or_else(|| set_window(&shown)).or_else(|| window(&shown)),
            calls_tools: shown["capabilities"]
                .as_array()
                .map(|all| all.iter().any(|capability| capability == "tools")),
            server: version["version"].as_str().map(|version| format!("Ollama {version}")),
            is_final: in_force.is_some(),
        })
    }

    async fn llama_cpp(&self) -> Result<ModelFacts, ModelError> {
        let props = self.ask("/props", None).await?;
        let settings = &props["default_generation_settings"];
        let build = props["build_info"].as_str();
        Ok(ModelFacts {
            context_tokens: settings["n_ctx"].as_u64().or_else(|| props["n_ctx"].as_u64()),
            calls_tools: props["chat_template_caps"]["supports_tool_calls"].as_bool(),
            server: build.map(|build| format!("llama.cpp {build}")),
            is_final: true,
        })
    }

    async fn vllm(&self, name: &str) -> Result<ModelFacts, ModelError> {
        let (models, version) =
            (self.ask("/v1/models", None).await?, self.ask("/version", None).await?);
        let data = models["data"].as_array();
        let model = data.and_then(|data| data.iter().find(|model| model["id"] == name));
        Ok(ModelFacts {
            context_tokens: model.and_then(|model| model["max_model_len"].as_u64()),
            calls_tools: None,
            server: version["version"].as_str().map(|version| format!("vLLM {version}")),
            is_final: true,
        })
    }

    /// What a path answers; null if it does not exist, or is not JSON.
    async fn ask(&self, path: &str, body: Option<Value>) -> Result<Value, ModelError> {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').trim_end_matches("/v1").to_owned();
        url.set_path(&format!("{base}{path}"));
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let mut outgoing = Outgoing::new(method, url, body);
        if let Some((name, key)) = &self.key {
            outgoing.secret(name, key)?;
        }
        let limits = TimeLimits {
            connect: self.limits.connect.min(ASK_MAX),
            first_byte: self.limits.first_byte.min(ASK_MAX),
            idle: self.limits.idle.min(ASK_MAX),
        };
        let response = self.client.send(outgoing, limits).await?;
        // Also a server that loads the model has no answer yet.
        if response.status >= 500 || response.status == 429 {
            let reason = format!("{path} answers status {}: try again later", response.status);
            return Err(ModelError::new(ModelErrorClass::Overloaded, reason));
        }
        if response.status != 200 {
            return Ok(Value::Null);
        }
        let body = response.beginning(FACTS_BYTES_MAX).await;
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

/// The window that a model of Ollama sets.
fn set_window(shown: &Value) -> Option<u64> {
    let parameters = shown["parameters"].as_str()?.lines();
    let mut values = parameters.filter_map(|line| line.trim().strip_prefix("num_ctx"));
    values.next()?.trim().parse().ok()
}

/// The window that a model was made for.
fn window(shown: &Value) -> Option<u64> {
    let mut info = shown["model_info"].as_object()?.iter();
    info.find_map(|(name, value)| {
        name.ends_with(".context_length").then(|| value.as_u64()).flatten()
    })
}
