//! Which memories a filter lets through, by their positions in the journal: one bit each.

use std::sync::Arc;

use tantivy::{
    DocSet, TERMINATED,
    query::{EnableScoring, Query},
};

use super::{committed::Committed, documents::Document, query::Filter};

/// A set of positions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    bits: Vec<u64>,
}

impl Allowed {
    /// The positions of what `filter` admits.
    pub(super) fn new(
        filter: &Filter,
        committed: &Committed,
        waiting: &[Arc<Document>],
    ) -> tantivy::Result<Self> {
        let mut allowed = Self::default();
        let query = committed.fields().filter(filter);
        let weight = query.weight(EnableScoring::disabled_from_searcher(committed.searcher()))?;
        for (piece, segment) in committed.pieces() {
            let mut matching = weight.scorer(segment, 1.0)?;
            while matching.doc() != TERMINATED {
                let position = piece.position(matching.doc());
                if !committed.gone.contains(position) {
                    allowed.add(position);
                }
                matching.advance();
            }
        }
        for document in waiting {
            if filter.admits(document) && !committed.gone.contains(document.position) {
                allowed.add(document.position);
            }
        }
        Ok(allowed)
    }

    /// Whether nothing is let through.
    pub(crate) fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// Whether the memory at this position is let through.
    pub(crate) fn contains(&self, position: u64) -> bool {
        let (word, bit) = place(position);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn add(&mut self, position: u64) {
        let (word, bit) = place(position);
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= bit;
    }
}

fn place(position: u64) -> (usize, u64) {
    let word = usize::try_from(position / 64).unwrap_or(usize::MAX);
    (word, 1 << (position % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_in_it_once_it_was_added() {
        let mut allowed = Allowed::default();
        assert!(allowed.is_empty() && !allowed.contains(0));
        for position in [0, 63, 64, 1_000] {
            allowed.add(position);
        }
        let found: Vec<u64> = (0..2_000).filter(|position| allowed.contains(*position)).collect();
        assert_eq!(found, [0, 63, 64, 1_000]);
    }
}
