//! Meaning as a vector: what search by meaning needs of a model.
//!
//! *Promises.* A vector has [`ModelIdentity::dimensions`] numbers and length 1, so that the cosine of two is their dot
//! product; or it is all zeros, for a text that the model knows nothing of. Equal texts have equal vectors for one
//! identity: vectors of different identities are never compared.

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
    /// What is wrong.
    pub reason: String,
}

/// A model that makes vectors of texts. See the module for what an implementation promises.
pub trait Embedder: Send + Sync + 'static {
    /// Which one it is.
    fn identity(&self) -> &ModelIdentity;

    /// The longest text that it reads to the end, in bytes; longer ones are to be cut into pieces.
    fn text_bytes_max(&self) -> usize;

    /// The vectors of `texts`, in their order. Blocks while it works.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError>;
}
