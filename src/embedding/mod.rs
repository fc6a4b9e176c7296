//! Models that turn texts into vectors: [`Embedder`] of what is built in.
//!
//! *Not here.* What is done with vectors is the search index's.
//!
//! [`Embedder`]: ai_factory_actors::ports::embedder::Embedder

mod built_in;

pub use built_in::BuiltIn;
