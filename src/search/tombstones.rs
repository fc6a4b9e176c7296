//! Tombstones: memories that are forgotten and still in the files. They are neither found nor
//! counted, and removed by the next purge.
//!
//! *Promises.* A score does not depend on whether a forgotten memory is still in the files: its
//! terms are subtracted from all counts.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{corpus::Corpus, documents::Document};

/// One forgotten memory.
#[derive(Clone, Debug)]
struct Tombstone {
    id: String,
    tokens: u64,
}

/// Forgotten memories that are still in the files or waiting for a commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tombstones {
    by_position: BTreeMap<u64, Tombstone>,
    /// Word -> number of forgotten memories with it.
    words: HashMap<String, u64>,
}

impl Tombstones {
    /// Adds a memory.
    pub(crate) fn add(&mut self, document: &Document) {
        let tokens = document.tokens();
        let forgotten = Tombstone { id: document.id.clone(), tokens: tokens.len() as u64 };
        if self.by_position.insert(document.position, forgotten).is_some() {
            return;
        }
        let words: HashSet<String> = tokens.into_iter().map(|token| token.text).collect();
        for word in words {
            *self.words.entry(word).or_default() += 1;
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_position.is_empty()
    }

    /// Whether the memory at a position is forgotten.
    pub(crate) fn contains(&self, position: u64) -> bool {
        !self.by_position.is_empty() && self.by_position.contains_key(&position)
    }

    /// Positions of the forgotten memories, ascending.
    pub(crate) fn positions(&self) -> impl Iterator<Item = u64> {
        self.by_position.keys().copied()
    }

    /// Position and id of each forgotten memory.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (u64, &str)> {
        self.by_position.iter().map(|(position, forgotten)| (*position, &*forgotten.id))
    }

    /// Number of forgotten memories with this word.
    pub(crate) fn documents_with(&self, token: &str) -> u64 {
        self.words.get(token).copied().unwrap_or_default()
    }

    /// Size of the forgotten memories at positions that pass `term_freqs`.
    pub(crate) fn corpus(&self, counts: impl Fn(u64) -> bool) -> Corpus {
        let counted = self.by_position.iter().filter(|(position, _)| counts(**position));
        counted.fold(Corpus::default(), |sum, (_, forgotten)| Corpus {
            documents: sum.documents + 1,
            tokens: sum.tokens + forgotten.tokens,
        })
    }
}
