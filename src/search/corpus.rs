//! The size of a corpus: what average lengths and inverse document frequencies are computed from.

/// Size of a corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Corpus {
    /// Documents.
    pub(crate) documents: u64,
    /// Tokens, each occurrence counted.
    pub(crate) tokens: u64,
}
