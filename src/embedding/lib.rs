//! Embedding models: an [`Embedder`] for the built-in one, an [`AsyncEmbedder`] for one behind an
//! OpenAI-compatible API.
//!
//! *Not here.* Storing and comparing vectors: the search index.
//!
//! [`Embedder`]: ai_factory_ports::embedder::Embedder
//! [`AsyncEmbedder`]: ai_factory_ports::embedder::AsyncEmbedder

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod api;
mod built_in;
mod endpoint;
mod normalise;

pub use built_in::BuiltIn;
pub use endpoint::{DIMENSIONS_MAX, EmbeddingEndpoint, EndpointSettings};
