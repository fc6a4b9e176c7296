//! Which memories a filter lets through, by their positions in the journal: one bit each, or, where a filter leaves out a
//! handful, those few.

use std::collections::BTreeSet;

use tantivy::{
    DocSet, TERMINATED,
    query::{BooleanQuery, EnableScoring, Query},
};

use super::{committed::Committed, query::Filter};

/// A set of positions.
#[derive(Clone, Debug)]
pub(crate) enum Allowed {
    /// Those whose bits are set.
    Only(Bits),
    /// All up to `upto`, but for a few. What is forgotten is left out elsewhere.
    AllBut {
        /// What is behind it came later than the question.
        upto: u64,
        /// The few.
        few: BTreeSet<u64>,
    },
}

/// A bit for each position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Allowed {
    /// The positions up to `upto` but for what `filter`, which leaves out a few only, does not admit. `waiting` is of what
    /// waits that which it does not.
    pub(super) fn all_but(
        filter: &Filter,
        committed: &Committed,
        waiting: impl Iterator<Item = u64>,
        upto: u64,
    ) -> tantivy::Result<Self> {
        let mut few: BTreeSet<u64> = waiting.collect();
        visit(&committed.fields().left_out(filter), committed, |position| {
            few.insert(position);
        })?;
        Ok(Self::AllBut { upto, few })
    }

    /// The positions of what `filter` admits. `waiting` is of what waits that which it does.
    pub(super) fn only(
        filter: &Filter,
        committed: &Committed,
        waiting: impl Iterator<Item = u64>,
    ) -> tantivy::Result<Self> {
        let mut bits = Bits::default();
        let fields = committed.fields();
        visit(&fields.filter(filter), committed, |position| {
            if !committed.gone.contains(position) {
                bits.add(position);
            }
        })?;
        // Taken off here: the library seeks a phrase behind documents that it has passed.
        visit(&fields.left_out(filter), committed, |position| bits.remove(position))?;
        for position in waiting.filter(|position| !committed.gone.contains(*position)) {
            bits.add(position);
        }
        Ok(Self::Only(bits))
    }

    /// Whether nothing is let through, as far as is known.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Only(bits) if bits.0.iter().all(|bits| *bits == 0))
    }

    /// Whether the memory at this position is let through.
    pub(crate) fn contains(&self, position: u64) -> bool {
        match self {
            Self::Only(bits) => bits.contains(position),
            Self::AllBut { upto, few } => position <= *upto && !few.contains(&position),
        }
    }
}

/// Shows the positions of what a query matches on disk.
fn visit(
    query: &BooleanQuery,
    committed: &Committed,
    mut visit: impl FnMut(u64),
) -> tantivy::Result<()> {
    let weight = query.weight(EnableScoring::disabled_from_searcher(committed.searcher()))?;
    for (piece, segment) in committed.pieces() {
        let mut matching = weight.scorer(segment, 1.0)?;
        while matching.doc() != TERMINATED {
            visit(piece.position(matching.doc()));
            matching.advance();
        }
    }
    Ok(())
}

impl Bits {
    fn contains(&self, position: u64) -> bool {
        let (word, bit) = place(position);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn remove(&mut self, position: u64) {
        let (word, bit) = place(position);
        if let Some(bits) = self.0.get_mut(word) {
            *bits &= !bit;
        }
    }

    fn add(&mut self, position: u64) {
        let (word, bit) = place(position);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
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
        let mut bits = Bits::default();
        assert!(!bits.contains(0) && Allowed::Only(bits.clone()).is_empty());
        for position in [0, 63, 64, 1_000] {
            bits.add(position);
        }
        let allowed = Allowed::Only(bits);
        let found: Vec<u64> = (0..2_000).filter(|position| allowed.contains(*position)).collect();
        assert_eq!(found, [0, 63, 64, 1_000]);
    }
}
