//! How often each document of a segment has a common word, half a byte each: whoever asks about single documents need not read the
//! word's list for that.

use tantivy::DocId;

/// That often, or more often: the list knows.
pub(super) const MANY: u32 = 15;
/// Of a count.
const BITS: u32 = 4;

/// The counts of one word, for each document of a segment.
pub(super) struct Counts(Box<[u8]>);

impl Counts {
    /// What they take for so many documents, in bytes.
    pub(super) fn bytes(documents: u32) -> usize {
        documents.div_ceil(u8::BITS / BITS) as usize
    }

    /// None of so many documents has the word.
    pub(super) fn none(documents: u32) -> Self {
        Self(vec![0; Self::bytes(documents)].into())
    }

    fn place(document: DocId) -> (usize, u32) {
        let half = document % (u8::BITS / BITS);
        ((document / (u8::BITS / BITS)) as usize, half * BITS)
    }

    /// Notes how often a document has the word, which was not noted before.
    pub(super) fn note(&mut self, document: DocId, count: u32) {
        let (at, shift) = Self::place(document);
        // At most 15.
        self.0[at] |= u8::try_from(count.min(MANY)).unwrap_or(u8::MAX) << shift;
    }

    /// How often a document has the word, up to [`MANY`].
    pub(super) fn of(&self, document: DocId) -> u32 {
        let (at, shift) = Self::place(document);
        u32::from(self.0[at]) >> shift & MANY
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_noted_is_there_and_nothing_else(
            noted in prop::collection::btree_map(0_u32..100, 1_u32..40, 0..60),
        ) {
            let mut counts = Counts::none(100);
            for (document, count) in &noted {
                counts.note(*document, *count);
            }
            let found: BTreeMap<u32, u32> =
                (0..100).map(|document| (document, counts.of(document))).filter(|(_, count)| *count > 0).collect();
            let expected: BTreeMap<u32, u32> =
                noted.into_iter().map(|(document, count)| (document, count.min(MANY))).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
