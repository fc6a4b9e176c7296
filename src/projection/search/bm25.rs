//! BM25: what a word is worth to a document that has it.
//!
//! *score* = idf × (k1 + 1) × *count* / (*count* + k1 × (1 − b + b × *length* / *average length*)), where
//! idf = ln(1 + (N − n + 0.5) / (n + 0.5)), k1 = 1.2 and b = 0.75 (Robertson and Zaragoza, *The Probabilistic Relevance
//! Framework: BM25 and Beyond*, 2009). To the last bit what the index library answers ([`tantivy::query::Bm25Weight`]), with which
//! neither lengths can be shared by words nor documents be scored side by side.
//!
//! Lengths are rounded to one of 256, as the index library stores them.

use std::sync::Arc;

use pulp::Arch;
use tantivy::{DocId, Score, fieldnorm::FieldNormReader};

use super::overlay::Corpus;

const K1: Score = 1.2;
const B: Score = 0.75;
/// So many documents are scored side by side at most: as many as the library decodes at once.
pub(super) const SCORED: usize = 128;

/// What each length adds to a word's count.
#[derive(Clone)]
pub(crate) struct Lengths(Arc<[Score; 256]>);

impl Lengths {
    /// In documents that are as long as these on the average.
    #[expect(clippy::cast_precision_loss, reason = "an average needs no more precision")]
    pub(super) fn new(corpus: Corpus) -> Self {
        let average = corpus.tokens as Score / corpus.documents as Score;
        Self(Arc::new(std::array::from_fn(|rounded| {
            let length = FieldNormReader::id_to_fieldnorm(u8::try_from(rounded).unwrap_or(u8::MAX));
            K1 * (1.0 - B + B * length as Score / average)
        })))
    }
}

/// What a word is worth.
#[derive(Clone)]
pub(crate) struct Weight {
    arch: Arch,
    /// No document gets more.
    most: Score,
    lengths: Lengths,
}

impl Weight {
    /// A word that stands in so many of so many documents, which are no fewer.
    #[expect(clippy::cast_precision_loss, reason = "a logarithm needs no more precision")]
    pub(super) fn new(documents_with: u64, documents: u64, lengths: &Lengths) -> Self {
        let without = documents.saturating_sub(documents_with) as Score;
        let idf = (1.0 + (without + 0.5) / (documents_with as Score + 0.5)).ln();
        Self { arch: Arch::new(), most: idf * (1.0 + K1), lengths: lengths.clone() }
    }

    /// What a document of that rounded length gets that has the word so often.
    #[expect(clippy::cast_precision_loss, reason = "as the library does")]
    pub(crate) fn score(&self, length: u8, count: u32) -> Score {
        let count = count as Score;
        self.most * (count / (count + self.lengths.0[usize::from(length)]))
    }

    /// What each of these documents gets, at most [`SCORED`], that have the word so often.
    pub(super) fn scores(
        &self,
        lengths: &FieldNormReader,
        documents: &[DocId],
        counts: &[u32],
        into: &mut [Score; SCORED],
    ) {
        self.arch.dispatch(Scores { weight: self, lengths, documents, counts, into });
    }
}

/// The scores of some documents, in a loop that is compiled for the processor that is found.
struct Scores<'a> {
    weight: &'a Weight,
    lengths: &'a FieldNormReader,
    documents: &'a [DocId],
    counts: &'a [u32],
    into: &'a mut [Score; SCORED],
}

impl pulp::NullaryFnOnce for Scores<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for the processor that is found")]
    #[expect(clippy::cast_precision_loss, reason = "as the library does")]
    fn call(self) {
        let Self { weight, lengths, documents, counts, into } = self;
        let count = documents.len().min(counts.len()).min(SCORED);
        let (documents, counts) = (&documents[..count], &counts[..count]);
        let mut added = [0.0; SCORED];
        for at in 0..count {
            added[at] = weight.lengths.0[usize::from(lengths.fieldnorm_id(documents[at]))];
        }
        for at in 0..count {
            let count = counts[at] as Score;
            into[at] = weight.most * (count / (count + added[at]));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tantivy::query::Bm25Weight;

    use super::*;

    proptest! {
        #[test]
        fn a_score_is_that_of_the_library_to_the_last_bit(
            documents in 1_u64..2_000_000,
            share in 0.0_f64..=1.0,
            length in 1_u64..5_000,
            rounded: u8,
            counts in prop::collection::vec(0_u32..5_000, 1..=SCORED),
        ) {
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of them")]
            let with = (documents as f64 * share) as u64;
            let corpus = Corpus { documents, tokens: documents * length };
            let ours = Weight::new(with, documents, &Lengths::new(corpus));
            #[expect(clippy::cast_precision_loss, reason = "as it is reckoned with")]
            let average = corpus.tokens as Score / documents as Score;
            let theirs = Bm25Weight::for_one_term_without_explain(with, documents, average);
            let all: Vec<DocId> = (0..).take(counts.len()).collect();
            let lengths = FieldNormReader::constant(128, FieldNormReader::id_to_fieldnorm(rounded));
            let mut found = [0.0; SCORED];
            ours.scores(&lengths, &all, &counts, &mut found);
            for (count, found) in counts.iter().zip(found) {
                let score = theirs.score(rounded, *count);
                prop_assert_eq!(found.to_bits(), score.to_bits());
                prop_assert_eq!(ours.score(rounded, *count).to_bits(), score.to_bits());
            }
        }
    }
}
