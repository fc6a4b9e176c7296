//! Embedding models: texts to vectors, for the vector index.
//!
//! *Promises.* A vector has [`ModelIdentity::dimensions`] components and length 1, so that the
//! cosine of two vectors is their dot product; a text that the model knows nothing about has the
//! zero vector. For one identity a text always has the same vector, except for rounding; vectors of
//! different identities are never compared.

use std::{sync::Arc, time::Duration};

/// Identity of a model and its vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Its name, for people.
    pub name: String,
    /// The number of components of its vectors.
    pub dimensions: usize,
    /// Distinguishes it from another model of the same name.
    pub checksum: String,
}

/// Why there is no vector.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the embedding model `{model}` failed: {reason}")]
pub struct EmbedError {
    /// The model's name.
    pub model: String,
    /// What is wrong, and what to do.
    pub reason: String,
    /// What may be retried.
    pub next: NextTry,
}

/// What may be retried after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// The same texts, later.
    Later,
    /// The same texts, not before this time has passed.
    After(Duration),
    /// Other texts: these, or some of them, will never get a vector.
    OtherTexts,
}

/// A local model: microseconds per text. The module's documentation has the promises of an
/// implementation.
pub trait Embedder: Send + Sync + 'static {
    /// The model's identity.
    fn identity(&self) -> &ModelIdentity;

    /// The longest text that is read to its end, in bytes; longer texts must be split into chunks.
    fn text_bytes_max(&self) -> usize;

    /// The vectors of `blobs`, in their order. Blocks the thread.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// A remote or large model: slow, and possibly failing for minutes. The module's documentation has
/// the promises of an implementation.
#[async_trait::async_trait]
pub trait AsyncEmbedder: Send + Sync + 'static {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// The model's identity; `None` until the first [`Self::embed`] has found it out.
    fn identity(&self) -> Option<ModelIdentity>;

    /// Whether the vectors of this identity are its own. If they are, it makes no others from then
    /// on.
    fn recognises(&self, found: &ModelIdentity) -> bool;

    /// The longest text that is read to its end, in bytes; longer texts must be split into chunks.
    fn text_bytes_max(&self) -> usize;

    /// The most texts per call.
    fn texts_max(&self) -> usize;

    /// The vectors of `blobs`, in their order. Cancel-safe: dropping the future stops the request.
    async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// The embedding models of a factory.
#[derive(Clone)]
pub struct Models {
    /// The built-in model, always available.
    pub built_in: Arc<dyn Embedder>,
    /// The configured model that replaces it, if there is one.
    pub configured: Option<Arc<dyn AsyncEmbedder>>,
}

impl From<Arc<dyn Embedder>> for Models {
    fn from(built_in: Arc<dyn Embedder>) -> Self {
        Self { built_in, configured: None }
    }
}
