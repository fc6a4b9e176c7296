//! A model behind an OpenAI-compatible API: `POST {url}/embeddings`.
//!
//! *Promises.* Vectors are returned in the order of their texts, whatever the order in the answer,
//! and with length 1. The key is sent to the API and shown nowhere. Only the configured address is
//! called.
//!
//! *Limits.* A vector has at most [`DIMENSIONS_MAX`] components.
//!
//! *Not here.* Retries: the caller decides when to repeat a failed call.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use ai_factory_ports::embedder::{AsyncEmbedder, EmbedError, ModelIdentity, NextTry};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    api::{Api, ApiResponse, CallError},
    normalise::normalise,
};

/// Limit of a vector's length, in components.
pub const DIMENSIONS_MAX: usize = 8_192;
/// Length limit of a text's chunk, in bytes: the smaller models behind such APIs read 512 word
/// pieces.
const TEXT_BYTES_MAX: usize = 1_280;
/// Length limit of an API's error message in ours, in characters.
const SAID_CHARS_MAX: usize = 200;
/// Stands in for the checksum, which only models with local files have.
const CHECKSUM: &str = "endpoint";

/// Address of a model and parameters of its calls.
#[derive(Clone)]
pub struct EndpointSettings {
    /// Base of the API, such as `http://127.0.0.1:11434/v1`; without a user or password.
    pub url: String,
    /// The API's name of the model.
    pub model: String,
    /// The API key.
    pub key: Option<String>,
    /// A PEM file with trusted root certificates beside the system's.
    pub ca: Option<PathBuf>,
    /// Length of vectors, sent with a call and checked; `None` takes that of the first answer.
    pub dimensions: Option<usize>,
    /// Texts per call.
    pub texts_max: usize,
    /// Timeout of a call.
    pub call_max: Duration,
}

/// A model behind an OpenAI-compatible API.
pub struct EmbeddingEndpoint {
    settings: EndpointSettings,
    api: Api,
    dimensions: OnceLock<usize>,
}

#[derive(Serialize)]
struct EmbeddingsRequest<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct EmbeddingsResponse {
    data: Vec<EmbeddingDatum>,
}

#[derive(Deserialize)]
struct EmbeddingDatum {
    index: Option<usize>,
    embedding: Vec<Option<f32>>,
}

#[derive(Deserialize)]
struct ErrorResponse {
    error: ErrorDetail,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorDetail {
    Object { message: String },
    Text(String),
}

impl EmbeddingEndpoint {
    /// Makes the client without connecting. An error is a sentence for a person.
    pub fn new(settings: EndpointSettings) -> Result<Self, String> {
        let uri = format!("{}/embeddings", settings.url.trim_end_matches('/'));
        let api =
            Api::new(&uri, settings.key.as_deref(), settings.ca.as_deref(), settings.call_max)?;
        let dimensions = settings.dimensions.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { settings, api, dimensions })
    }

    fn failed(&self, reason: impl Into<String>, next: NextTry) -> EmbedError {
        let mut reason = reason.into();
        if let Some(key) = &self.settings.key {
            // An API's error message may repeat the key.
            reason = reason.replace(key, "(hidden)");
        }
        EmbedError { model: self.settings.model.clone(), reason, next }
    }

    fn connection_error(&self, error: &CallError) -> EmbedError {
        let url = &self.settings.url;
        let reason = match error {
            CallError::TimedOut => {
                format!("{url} did not answer within {} ms", self.settings.call_max.as_millis())
            }
            CallError::TooLarge => error.to_string(),
            CallError::NobodyTrusted(reason) => format!(
                "{url} cannot be verified without trusted root certificates ({reason}): install those of the \
                 system (`ca-certificates`), or set AI_FACTORY_EMBEDDING_CA"
            ),
            CallError::Untrusted(reason) => format!(
                "the certificate of {url} was refused ({reason}): correct AI_FACTORY_EMBEDDING_URL, or set \
                 AI_FACTORY_EMBEDDING_CA to its root certificate"
            ),
            CallError::Unreached(cause) => format!(
                "{url} cannot be reached ({cause}): start it, or correct AI_FACTORY_EMBEDDING_URL"
            ),
        };
        self.failed(reason, NextTry::Later)
    }

    fn refused(&self, answered: &ApiResponse) -> EmbedError {
        let (status, url) = (answered.status, &self.settings.url);
        let later = answered.retry_after.map_or(NextTry::Later, NextTry::After);
        let said = match serde_json::from_slice(&answered.body) {
            Ok(ErrorResponse {
                error: ErrorDetail::Object { message: text } | ErrorDetail::Text(text),
            }) => text.chars().take(SAID_CHARS_MAX).collect(),
            Err(_) => String::new(),
        };
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let code = status.as_u16();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.failed(
                format!("{url} refuses the key ({code}): correct AI_FACTORY_EMBEDDING_KEY"),
                later,
            ),
            StatusCode::NOT_FOUND => self.failed(
                format!(
                    "{url}/embeddings or the model does not exist ({code}{said}): correct AI_FACTORY_EMBEDDING_URL, which often ends \
                     in /v1, or AI_FACTORY_EMBEDDING_MODEL"
                ),
                later,
            ),
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => {
                self.failed(format!("{url} refuses the request ({code}{said})"), NextTry::OtherTexts)
            }
            _ if status.is_redirection() => self.failed(
                format!("{url} redirects ({code}): set AI_FACTORY_EMBEDDING_URL to the API's own address"),
                later,
            ),
            _ => self.failed(format!("{url} answered {code}{said}"), later),
        }
    }

    /// The vectors of an answer, in the order of the texts.
    fn vectors(&self, body: &[u8], texts: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
        let url = &self.settings.url;
        let answer: EmbeddingsResponse = serde_json::from_slice(body).map_err(|error| {
            let reason = format!("the answer of {url} is no list of embeddings ({error})");
            self.failed(reason, NextTry::Later)
        })?;
        let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
        for (place, datum) in answer.data.into_iter().enumerate() {
            // Some APIs write NaN as `null`.
            let numbers = datum.embedding.into_iter().map(|number| number.unwrap_or(f32::NAN));
            if let Some(vector) = vectors.get_mut(datum.index.unwrap_or(place)) {
                *vector = Some(normalise(numbers.collect()));
            }
        }
        let found = vectors.iter().flatten().count();
        let vectors: Option<Vec<_>> = vectors.into_iter().collect();
        let vectors = vectors.ok_or_else(|| {
            let reason = format!("{url} returned {found} vectors for {texts} texts");
            self.failed(reason, NextTry::Later)
        })?;
        vectors.iter().try_for_each(|vector| self.fits(vector.len()))?;
        Ok(vectors)
    }

    fn fits(&self, found: usize) -> Result<(), EmbedError> {
        if !(1..=DIMENSIONS_MAX).contains(&found) {
            let reason = format!(
                "its vectors have {found} numbers; from 1 to {DIMENSIONS_MAX} are supported"
            );
            return Err(self.failed(reason, NextTry::Later));
        }
        let wanted = *self.dimensions.get_or_init(|| found);
        if wanted == found {
            return Ok(());
        }
        let reason = format!(
            "its vectors have {found} numbers, not {wanted}: it is another model than before, or \
             does not support this length. AI_FACTORY_EMBEDDING_DIMENSIONS={found} makes all vectors again"
        );
        Err(self.failed(reason, NextTry::Later))
    }
}

#[async_trait::async_trait]
impl AsyncEmbedder for EmbeddingEndpoint {
    fn name(&self) -> &str {
        &self.settings.model
    }

    fn identity(&self) -> Option<ModelIdentity> {
        let dimensions = *self.dimensions.get()?;
        let (name, checksum) = (self.settings.model.clone(), CHECKSUM.to_owned());
        Some(ModelIdentity { name, dimensions, checksum })
    }

    fn recognises(&self, found: &ModelIdentity) -> bool {
        found.name == self.settings.model
            && found.checksum == CHECKSUM
            && (1..=DIMENSIONS_MAX).contains(&found.dimensions)
            && *self.dimensions.get_or_init(|| found.dimensions) == found.dimensions
    }

    fn text_bytes_max(&self) -> usize {
        TEXT_BYTES_MAX
    }

    fn texts_max(&self) -> usize {
        self.settings.texts_max
    }

    async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let EndpointSettings { model, dimensions, .. } = &self.settings;
        let request = EmbeddingsRequest {
            model,
            input: texts,
            encoding_format: "float",
            dimensions: *dimensions,
        };
        let request = serde_json::to_vec(&request)
            .map_err(|error| self.failed(error.to_string(), NextTry::OtherTexts))?;
        let answered =
            self.api.post(request).await.map_err(|error| self.connection_error(&error))?;
        if !answered.status.is_success() {
            return Err(self.refused(&answered));
        }
        self.vectors(&answered.body, texts.len())
    }
}
