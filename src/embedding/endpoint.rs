//! A model behind an OpenAI-compatible API: `POST {url}/embeddings`.
//!
//! *Promises.* Vectors come in the order of their texts, whatever order they are answered in, and with length 1. The key is sent
//! to the API and shown nowhere. Nobody is called who is not configured.
//!
//! *Limits.* A vector has [`DIMENSIONS_MAX`] numbers at most.
//!
//! *Not here.* When a failed call is made again is the caller's.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use ai_factory_actors::ports::embedder::{EmbedError, ModelIdentity, NextTry, SlowEmbedder};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    api::{Answered, Api, CallError},
    normalise,
};

/// The longest vector that is taken.
pub const DIMENSIONS_MAX: usize = 8_192;
/// The longest piece of a text, in bytes: the smaller models behind such APIs read 512 word pieces.
const TEXT_BYTES_MAX: usize = 1_280;
/// How much of what an API says about an error is passed on, in characters.
const SAID_CHARS_MAX: usize = 200;
/// What stands where a model whose files are at hand has a checksum.
const CHECKSUM: &str = "endpoint";

/// Where a model is and how it is asked.
#[derive(Clone)]
pub struct EndpointSettings {
    /// The base of the API, such as `http://127.0.0.1:11434/v1`; without a user or password.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// What the API knows us by.
    pub key: Option<String>,
    /// The file with the certificates (PEM) of who may vouch for it, beside those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The length of vectors, asked for and checked; `None` takes the first answer's.
    pub dimensions: Option<usize>,
    /// How many texts one call has.
    pub texts_max: usize,
    /// How long a call may take.
    pub call_max: Duration,
}

/// A model behind an OpenAI-compatible API.
pub struct Endpoint {
    settings: EndpointSettings,
    api: Api,
    dimensions: OnceLock<usize>,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Datum>,
}

#[derive(Deserialize)]
struct Datum {
    index: Option<usize>,
    embedding: Vec<Option<f32>>,
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RefusalError {
    Object { message: String },
    Text(String),
}

impl Endpoint {
    /// Calls nobody yet. An error is a sentence.
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
            // An API may repeat what it does not like.
            reason = reason.replace(key, "(hidden)");
        }
        EmbedError { model: self.settings.model.clone(), reason, next }
    }

    fn unreached(&self, error: &CallError) -> EmbedError {
        let url = &self.settings.url;
        let reason = match error {
            CallError::TimedOut => {
                format!("{url} did not answer within {} ms", self.settings.call_max.as_millis())
            }
            CallError::TooLarge => error.to_string(),
            CallError::NobodyTrusted(reason) => format!(
                "{url} cannot prove who it is, for nobody is trusted here to vouch for it ({reason}): install the certificates of the \
                 system (`ca-certificates`), or set AI_FACTORY_EMBEDDING_CA"
            ),
            CallError::Untrusted(reason) => format!(
                "{url} does not prove who it is ({reason}): correct AI_FACTORY_EMBEDDING_URL, or set AI_FACTORY_EMBEDDING_CA to the \
                 certificates of who vouches for it"
            ),
            CallError::Unreached(cause) => format!(
                "{url} cannot be reached ({cause}): start it, or correct AI_FACTORY_EMBEDDING_URL"
            ),
        };
        self.failed(reason, NextTry::Later)
    }

    fn refused(&self, answered: &Answered) -> EmbedError {
        let (status, url) = (answered.status, &self.settings.url);
        let later = answered.retry_after.map_or(NextTry::Later, NextTry::After);
        let said = match serde_json::from_slice(&answered.body) {
            Ok(Refusal {
                error: RefusalError::Object { message: text } | RefusalError::Text(text),
            }) => text.chars().take(SAID_CHARS_MAX).collect(),
            Err(_) => String::new(),
        };
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let code = status.as_u16();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.failed(
                format!("{url} does not let us in ({code}): correct AI_FACTORY_EMBEDDING_KEY"),
                later,
            ),
            StatusCode::NOT_FOUND => self.failed(
                format!(
                    "{url}/embeddings or the model is not there ({code}{said}): correct AI_FACTORY_EMBEDDING_URL, which often ends \
                     in /v1, or AI_FACTORY_EMBEDDING_MODEL"
                ),
                later,
            ),
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => {
                self.failed(format!("{url} refuses what it is asked ({code}{said})"), NextTry::OtherTexts)
            }
            _ if status.is_redirection() => self.failed(
                format!("{url} sends us elsewhere ({code}): set AI_FACTORY_EMBEDDING_URL to where the API is"),
                later,
            ),
            _ => self.failed(format!("{url} answered {code}{said}"), later),
        }
    }

    /// The vectors in an answer, in the order of the texts.
    fn vectors(&self, body: &[u8], texts: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
        let url = &self.settings.url;
        let answer: Answer = serde_json::from_slice(body).map_err(|error| {
            let reason = format!("what {url} answers is no list of embeddings ({error})");
            self.failed(reason, NextTry::Later)
        })?;
        let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
        for (place, datum) in answer.data.into_iter().enumerate() {
            // `null` is how some write a number that is none.
            let numbers = datum.embedding.into_iter().map(|number| number.unwrap_or(f32::NAN));
            if let Some(vector) = vectors.get_mut(datum.index.unwrap_or(place)) {
                *vector = Some(normalise(numbers.collect()));
            }
        }
        let found = vectors.iter().flatten().count();
        let vectors: Option<Vec<_>> = vectors.into_iter().collect();
        let vectors = vectors.ok_or_else(|| {
            let reason = format!("{url} answered {found} vectors to {texts} texts");
            self.failed(reason, NextTry::Later)
        })?;
        vectors.iter().try_for_each(|vector| self.fits(vector.len()))?;
        Ok(vectors)
    }

    fn fits(&self, found: usize) -> Result<(), EmbedError> {
        if !(1..=DIMENSIONS_MAX).contains(&found) {
            let reason =
                format!("its vectors have {found} numbers; from 1 to {DIMENSIONS_MAX} are taken");
            return Err(self.failed(reason, NextTry::Later));
        }
        let wanted = *self.dimensions.get_or_init(|| found);
        if wanted == found {
            return Ok(());
        }
        let reason = format!(
            "its vectors have {found} numbers, not {wanted}: it is another model than the one that was asked before, or is not made \
             for that. AI_FACTORY_EMBEDDING_DIMENSIONS={found} makes all vectors anew"
        );
        Err(self.failed(reason, NextTry::Later))
    }
}

#[async_trait::async_trait]
impl SlowEmbedder for Endpoint {
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
        let request =
            Request { model, input: texts, encoding_format: "float", dimensions: *dimensions };
        let request = serde_json::to_vec(&request)
            .map_err(|error| self.failed(error.to_string(), NextTry::OtherTexts))?;
        let answered = self.api.post(request).await.map_err(|error| self.unreached(&error))?;
        if !answered.status.is_success() {
            return Err(self.refused(&answered));
        }
        self.vectors(&answered.body, texts.len())
    }
}
