//! Term frequencies of a common term for every document of a segment, half a byte each. With them,
//! scoring single documents does not read the posting list.

use tantivy::DocId;

/// The highest frequency stored: this many or more; the posting list has the exact value.
pub(super) const MANY: u32 = 15;
/// Bits per frequency.
const BITS: u32 = 4;

/// Term frequencies of one term, for each document of a segment.
pub(super) struct TermFreqs(Box<[u8]>);

impl TermFreqs {
    /// Size for this many documents, in bytes.
    pub(super) fn bytes(documents: u32) -> usize {
        documents.div_ceil(u8::BITS / BITS) as usize
    }

    /// Frequencies of zero for this many documents.
    pub(super) fn none(documents: u32) -> Self {
        Self(vec![0; Self::bytes(documents)].into())
    }

    fn slot(document: DocId) -> (usize, u32) {
        let half = document % (u8::BITS / BITS);
        ((document / (u8::BITS / BITS)) as usize, half * BITS)
    }

    /// Sets a document's frequency, once.
    pub(super) fn note(&mut self, document: DocId, count: u32) {
        let (at, shift) = Self::slot(document);
        // At most 15.
        self.0[at] |= u8::try_from(count.min(MANY)).unwrap_or(u8::MAX) << shift;
    }

    /// The term frequency in a document, up to [`MANY`].
    pub(super) fn of(&self, document: DocId) -> u32 {
        let (at, shift) = Self::slot(document);
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
            let mut counts = TermFreqs::none(100);
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
