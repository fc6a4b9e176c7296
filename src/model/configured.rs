//! The model of the settings: the port.

use std::collections::HashMap;

use ai_factory_ports::model::{Model, ModelAnswer, ModelCall, ModelError, ModelFacts, TokenSink};
use ai_factory_schemas::{
    chat::ChatMessage,
    limit::MODEL_ANSWER_BYTES_MAX,
    model::{ModelEndpoint, ModelErrorClass, ModelProtocol, ToolProtocol},
};
use hyper::Method;
use parking_lot::Mutex;
use serde_json::Value;
use url::Url;

use super::{
    chat_completions::ChatCompletions,
    client::{ModelClient, Outgoing, Response},
    dialect::{Dialect, StreamDecoder, StreamState},
    draft::{cut, malformed},
    errors::{Asked, hide, refusal, reported, retry_after},
    facts::FactsServer,
    key_policy::{Keys, own},
    messages::Messages,
    patience::TimeLimits,
    recording::Recording,
    settings::{ModelSettings, Resolved, check_name, is_none, resolve},
    sse::EventReader,
    text_protocol::{self, ProseSink},
};

/// Size limit of a stream, in bytes: an answer in the smallest parts, and signs of life.
const STREAM_BYTES_MAX: usize = 256 * MODEL_ANSWER_BYTES_MAX;
/// Part of a refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request that are one token at most: a server that reports fewer tokens has not read
/// all of it.
const BYTES_A_TOKEN_MAX: u64 = 12;

/// The model of the settings.
pub struct ConfiguredModel {
    endpoint: Option<ModelEndpoint>,
    recording: Option<Recording>,
    keys: Keys,
    limits: TimeLimits,
    client: ModelClient,
    /// What servers told, by address and model.
    facts: Mutex<HashMap<(String, String), ModelFacts>>,
}

impl ConfiguredModel {
    /// Reads the settings, and the recording if they name one. No connection is made.
    ///
    /// # Errors
    /// A sentence that says which setting to correct.
    pub fn new(settings: &ModelSettings) -> Result<Self, String> {
        let Resolved { endpoint, recording, keys } = resolve(settings)?;
        Ok(Self {
            endpoint,
            recording: recording.as_deref().map(Recording::open).transpose()?,
            keys,
            limits: TimeLimits {
                connect: settings.connect_max,
                first_byte: settings.first_byte_max,
                idle: settings.idle_max,
            },
            client: ModelClient::default(),
            facts: Mutex::default(),
        })
    }

    /// The failure without any key in it.
    fn hidden(&self, mut error: ModelError) -> ModelError {
        error.reason = hide(&error.reason, self.keys.all());
        error
    }

    fn is_configured(&self) -> Result<(), ModelError> {
        if self.endpoint.is_some() {
            return Ok(());
        }
        Err(ModelError::new(
            ModelErrorClass::NoSuchModel,
            "no model is configured: set `model`, such as `ollama/qwen3`",
        ))
    }

    /// One attempt over HTTP.
    async fn ask(
        &self,
        dialect: &dyn Dialect,
        call: &ModelCall,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        let endpoint = &call.endpoint;
        let base = parsed(endpoint)?;
        let key = self.keys.key(endpoint, &base)?;
        let own = own(endpoint, &base);
        let asked = Asked::new(endpoint, own.map(|(_, variable)| variable));
        let body = dialect.body(call, own.is_some()).to_string();
        let url = parsed_url(&format!("{}{}", endpoint.url, dialect.path()))?;
        let mut outgoing = Outgoing::new(Method::POST, url, body.into());
        for (name, value) in dialect.headers() {
            outgoing.header(name, value);
        }
        if let Some((name, value)) = key.map(|key| dialect.key_header(key)) {
            outgoing.secret(name, &value)?;
        }
        let response = self.client.send(outgoing, self.limits).await?;
        let status = response.status;
        if (201..300).contains(&status) {
            return Err(malformed(&format!("{} sends status {status}", asked.host)));
        }
        if status != 200 {
            let wait = retry_after(response.header("retry-after"), Some(response.header("date")));
            let body = response.beginning(REFUSAL_BYTES_MAX).await;
            return Err(refusal(&asked, status, &body, wait, self.keys.all()));
        }
        let content = response.header("content-type");
        if !content.is_empty() && !content.starts_with("text/event-stream") {
            let reason = format!("{} does not stream it", asked.host);
            let body = response.beginning(REFUSAL_BYTES_MAX).await;
            let value = serde_json::from_slice::<Value>(&body).unwrap_or_default();
            let error = reported(&asked, &value, self.keys.all());
            return Err(error.unwrap_or_else(|| malformed(&reason)));
        }
        let answer = self.read(&asked, response, dialect.decoder(call), sink).await?;
        whole(call, &asked, answer)
    }

    /// Reads a stream up to its end mark, or its end.
    async fn read(
        &self,
        asked: &Asked,
        mut response: Response,
        mut decoder: Box<dyn StreamDecoder>,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        let mut reader = EventReader::default();
        let mut bytes = 0_usize;
        while let Some(part) = response.part().await? {
            bytes = bytes.saturating_add(part.len());
            if bytes > STREAM_BYTES_MAX {
                return Err(malformed(&format!("its stream exceeds {STREAM_BYTES_MAX} bytes")));
            }
            let events = reader.take(&part).map_err(|error| malformed(&error.to_string()))?;
            let outputs = decoder.outputs();
            for data in events {
                if let Some(error) = self.failure(asked, &data, decoder.outputs() > 0) {
                    return Err(error);
                }
                if decoder.event(&data, sink)? == StreamState::Ended {
                    return decoder.finish();
                }
            }
            if decoder.outputs() > outputs {
                response.progressed();
            }
        }
        decoder.finish()
    }

    /// The error that an event reports. After the first output it is an answer that broke off: the
    /// provider bills it.
    fn failure(&self, asked: &Asked, data: &str, has_begun: bool) -> Option<ModelError> {
        if !data.contains("\"error\"") {
            return None;
        }
        let value: Value = serde_json::from_str(data).ok()?;
        let error = reported(asked, &value, self.keys.all())?;
        Some(if has_begun { cut(&error.reason) } else { error })
    }

    async fn attempt(
        &self,
        call: ModelCall,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        self.is_configured()?;
        let Some(dialect) = dialect(call.endpoint.protocol) else {
            let answer = self.play(&call)?;
            sink.text(&answer.text);
            return Ok(answer);
        };
        if call.endpoint.tools == ToolProtocol::Native {
            return self.ask(dialect, &call, sink).await;
        }
        let rewritten = text_protocol::rewritten(&call);
        let mut prose = ProseSink::new(sink);
        let answer = self.ask(dialect, &rewritten, &mut prose).await?;
        prose.finish();
        Ok(text_protocol::read(answer, &call.tools))
    }

    fn play(&self, call: &ModelCall) -> Result<ModelAnswer, ModelError> {
        let recording = self.recording.as_ref();
        let configured = self.endpoint.as_ref().map(|endpoint| &endpoint.model);
        match recording.filter(|_| configured == Some(&call.endpoint.model)) {
            Some(recording) => recording.play(call),
            None => Err(ModelError::new(
                ModelErrorClass::NotRecorded,
                format!("`{0}` is not configured: set `model` to `{0}`", call.endpoint.model),
            )),
        }
    }

    async fn told(&self, endpoint: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
        self.is_configured()?;
        let Some(dialect) = dialect(endpoint.protocol) else {
            return Ok(ModelFacts { is_final: true, ..ModelFacts::default() });
        };
        let url = parsed(endpoint)?;
        let key = self.keys.key(endpoint, &url)?.map(|key| dialect.key_header(key));
        let place = (endpoint.url.clone(), endpoint.model.clone());
        let known = self.facts.lock().get(&place).cloned();
        if let Some(facts) = known {
            return Ok(facts);
        }
        let server = FactsServer { client: &self.client, limits: self.limits, url, key };
        let facts = server.facts(endpoint).await?;
        if facts.is_final {
            self.facts.lock().insert(place, facts.clone());
        }
        Ok(facts)
    }
}

/// The dialect of a protocol; `None` if there is no API.
fn dialect(protocol: ModelProtocol) -> Option<&'static dyn Dialect> {
    match protocol {
        ModelProtocol::ChatCompletions => Some(&ChatCompletions),
        ModelProtocol::Messages => Some(&Messages),
        ModelProtocol::Recording => None,
    }
}

fn parsed(endpoint: &ModelEndpoint) -> Result<Url, ModelError> {
    parsed_url(&endpoint.url)
}

fn parsed_url(text: &str) -> Result<Url, ModelError> {
    Url::parse(text).ok().filter(Url::has_host).ok_or_else(|| {
        let reason = "the address of the model cannot be read: set `model_url`, and begin anew";
        ModelError::new(ModelErrorClass::NoSuchModel, reason)
    })
}

/// The answer, if the server has read the whole request.
fn whole(call: &ModelCall, asked: &Asked, answer: ModelAnswer) -> Result<ModelAnswer, ModelError> {
    let sent = call.messages.iter().map(|message| text_bytes(message)).sum::<u64>();
    let read = answer.usage.map_or(0, |usage| usage.input_total());
    // Zero is not a number of tokens, but a server that does not count.
    if read == 0 || read.saturating_mul(BYTES_A_TOKEN_MAX) >= sent {
        return Ok(answer);
    }
    let reason = format!(
        "{} read {read} tokens of a request of {sent} bytes: its window is smaller than `model_context_tokens`, and it \
         cut the request without saying so; enlarge its window (Ollama: OLLAMA_CONTEXT_LENGTH, llama.cpp: \
         --ctx-size), or lower `model_context_tokens`",
        asked.host
    );
    let usage = answer.usage;
    Err(ModelError { usage, ..ModelError::new(ModelErrorClass::Truncated, reason) })
}

fn text_bytes(message: &ChatMessage) -> u64 {
    let bytes = match message {
        ChatMessage::System { text }
        | ChatMessage::User { text }
        | ChatMessage::Tool { text, .. } => text.len(),
        ChatMessage::Assistant { text, tool_calls } => {
            text.len() + tool_calls.iter().map(|call| call.arguments.len()).sum::<usize>()
        }
    };
    bytes as u64
}

#[async_trait::async_trait]
impl Model for ConfiguredModel {
    fn endpoint(&self, named: Option<&str>) -> Result<Option<ModelEndpoint>, String> {
        let Some(named) = named else { return Ok(self.endpoint.clone()) };
        if is_none(named) {
            return Ok(None);
        }
        let configured = self.endpoint.as_ref();
        if configured.is_some_and(|endpoint| endpoint.model == named) {
            return Ok(self.endpoint.clone());
        }
        // A name that no setting could have is told from one that is only not set.
        check_name(named)?;
        Err(match configured {
            Some(endpoint) => format!(
                "the model `{named}` is not configured, but `{}` is: name that one, or set `model` to `{named}`",
                endpoint.model
            ),
            None => format!(
                "the model `{named}` is not configured: set `model` to `{named}`, or leave it out of the request"
            ),
        })
    }

    async fn facts(&self, endpoint: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
        self.told(endpoint).await.map_err(|error| self.hidden(error))
    }

    async fn complete(
        &self,
        call: ModelCall,
        sink: &mut dyn TokenSink,
    ) -> Result<ModelAnswer, ModelError> {
        let mut answer = self.attempt(call, sink).await.map_err(|error| self.hidden(error))?;
        for name in [&mut answer.answered_by, &mut answer.provider_id].into_iter().flatten() {
            *name = hide(name, self.keys.all());
        }
        Ok(answer)
    }
}
