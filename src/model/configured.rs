//! The model of the settings, and those that sessions recorded: the port.

use std::{collections::HashMap, path::Path, sync::Arc};

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
    settings::{ModelSettings, Resolved, check_name, is_none, recording_of, resolve},
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

/// The model of the settings. Serves every model that a session recorded, too, whether or not one
/// is set.
pub struct ConfiguredModel {
    endpoint: Option<ModelEndpoint>,
    /// Recordings that were read, by the names of their models.
    recordings: Mutex<HashMap<String, Arc<Recording>>>,
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
        let Resolved { endpoint, keys } = resolve(settings)?;
        let configured = Self {
            endpoint,
            recordings: Mutex::default(),
            keys,
            limits: TimeLimits {
                connect: settings.connect_max,
                first_byte: settings.first_byte_max,
                idle: settings.idle_max,
            },
            client: ModelClient::default(),
            facts: Mutex::default(),
        };
        configured.endpoint.iter().try_for_each(|endpoint| configured.check(endpoint))?;
        Ok(configured)
    }

    /// The failure without any key in it.
    fn hidden(&self, mut error: ModelError) -> ModelError {
        error.reason = hide(&error.reason, self.keys.all());
        error
    }

    /// The recording of that name, read at its first use.
    fn recording(&self, model: &str) -> Result<Arc<Recording>, String> {
        if let Some(known) = self.recordings.lock().get(model) {
            return Ok(Arc::clone(known));
        }
        let recording = Arc::new(Recording::open(Path::new(recording_of(model)?))?);
        self.recordings.lock().insert(model.to_owned(), Arc::clone(&recording));
        Ok(recording)
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
        let recording = self.recording(&call.endpoint.model);
        recording
            .map_err(|reason| ModelError::new(ModelErrorClass::NotRecorded, reason))?
            .play(call)
    }

    async fn told(&self, endpoint: &ModelEndpoint) -> Result<ModelFacts, ModelError> {
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

    fn check(&self, endpoint: &ModelEndpoint) -> Result<(), String> {
        if endpoint.protocol == ModelProtocol::Recording {
            return self.recording(&endpoint.model).map(|_| ());
        }
        let url = parsed(endpoint).map_err(|error| error.reason)?;
        self.keys.check(endpoint, &url).map_err(|error| error.reason)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(model: &str, url: &str) -> ModelEndpoint {
        let protocol = match url {
            "" => ModelProtocol::Recording,
            _ => ModelProtocol::ChatCompletions,
        };
        let (model, url) = (model.to_owned(), url.to_owned());
        ModelEndpoint { model, url, protocol, tools: ToolProtocol::Native }
    }

    fn checked(settings: ModelSettings, model: &str, url: &str) -> Result<(), String> {
        ConfiguredModel::new(&settings).unwrap().check(&endpoint(model, url))
    }

    fn keyed(model: &str, url: Option<&str>, key: Option<&str>) -> ModelSettings {
        ModelSettings {
            model: model.to_owned(),
            url: url.map(str::to_owned),
            key: key.map(str::to_owned),
            ..ModelSettings::default()
        }
    }

    #[test]
    fn a_recorded_model_is_asked_without_a_configured_one_if_its_key_is_known() {
        let none = || keyed("", None, None);
        assert!(ConfiguredModel::new(&none()).unwrap().endpoint(None).unwrap().is_none());
        checked(none(), "ollama/x", "http://127.0.0.1:11434/v1").unwrap();
        let own = "https://api.openai.com/v1";
        let said = checked(none(), "openai/x", own).unwrap_err();
        assert!(said.contains("OPENAI_API_KEY") && said.contains("`model_key`"), "{said}");
        let usual_keys = [("OPENAI_API_KEY".to_owned(), "usual".to_owned())].into();
        checked(ModelSettings { usual_keys, ..none() }, "openai/x", own).unwrap();
        // A key without a host is no key for this one.
        assert!(checked(keyed("", None, Some("key")), "openai/x", own).is_err());
        checked(keyed("", Some(own), Some("key")), "openai/x", own).unwrap();
        checked(keyed("openai/y", None, Some("key")), "openai/x", own).unwrap();
    }

    #[test]
    fn another_host_is_asked_only_if_it_is_configured() {
        let other = "https://models.example/v1";
        for settings in [keyed("", None, None), keyed("openai/y", None, Some("key"))] {
            let said = checked(settings, "openai/x", other).unwrap_err();
            assert!(said.contains("`model_url` to https://models.example/v1"), "{said}");
        }
        checked(keyed("", Some(other), None), "openai/x", other).unwrap();
        checked(keyed("openai/y", Some(other), Some("key")), "openai/x", other).unwrap();
    }

    #[test]
    fn a_recorded_recording_is_refused_if_it_cannot_be_played() {
        let said = checked(keyed("", None, None), "recording:/no/file.jsonl", "").unwrap_err();
        assert!(said.contains("/no/file.jsonl"), "{said}");
    }
}
