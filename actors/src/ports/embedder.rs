//! Meaning as a vector: what search by meaning needs of a model.
//!
//! *Promises.* A vector has [`ModelIdentity::dimensions`] numbers and length 1, so that the cosine of two is their dot
//! product; or it is all zeros, for a text that the model knows nothing of. Texts have the same vectors for one identity,
//! but for rounding: vectors of different identities are never compared.

use std::{sync::Arc, time::Duration};

/// Which model made a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    /// Its name, for people.
    pub name: String,
    /// The length of its vectors.
    pub dimensions: usize,
    /// What tells it from another model of that name.
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
    /// What may be tried next.
    pub next: NextTry,
}

/// What may be tried after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTry {
    /// The same, later.
    Later,
    /// The same, not before this time is over.
    After(Duration),
    /// Other texts: it will have none of these, or not all of them.
    OtherTexts,
}

/// A model that is at hand: a text takes it microseconds. See the module for what an implementation promises.
pub trait Embedder: Send + Sync + 'static {
    /// Which one it is.
    fn identity(&self) -> &ModelIdentity;

    /// The longest text that it reads to the end, in bytes; longer ones are to be cut into pieces.
    fn text_bytes_max(&self) -> usize;

    /// The vectors of `texts`, in their order. Blocks while it works.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// A model that takes its time and may fail for minutes: a large one, or one elsewhere. See the module for what an
/// implementation promises.
#[async_trait::async_trait]
pub trait SlowEmbedder: Send + Sync + 'static {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// Which one it is; `None` until that is known, which an [`Self::embed`] finds out.
    fn identity(&self) -> Option<ModelIdentity>;

    /// Whether vectors of this identity are its own. If they are, it makes no others from then on.
    fn recognises(&self, found: &ModelIdentity) -> bool;

    /// The longest text that it reads to the end, in bytes; longer ones are to be cut into pieces.
    fn text_bytes_max(&self) -> usize;

    /// How many texts it takes at once.
    fn texts_max(&self) -> usize;

    /// The vectors of `texts`, in their order. Dropped, it stops.
    async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// The models of a factory.
#[derive(Clone)]
pub struct Models {
    /// The one that is always there.
    pub at_hand: Arc<dyn Embedder>,
    /// The one that is wanted instead, if one is.
    pub wanted: Option<Arc<dyn SlowEmbedder>>,
}

impl From<Arc<dyn Embedder>> for Models {
    fn from(at_hand: Arc<dyn Embedder>) -> Self {
        Self { at_hand, wanted: None }
    }
}
