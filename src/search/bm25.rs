//! BM25: the score of a term in a document.
//!
//! *score* = idf × (k1 + 1) × *count* / (*count* + k1 × (1 − b + b × *length* / *average length*)),
//! where idf = ln(1 + (N − n + 0.5) / (n + 0.5)), k1 = 1.2 and b = 0.75 (Robertson and Zaragoza,
//! *The Probabilistic Relevance Framework: BM25 and Beyond*, 2009). Equal to the index library's
//! score to the last bit ([`tantivy::query::Bm25Weight`]). The library's own code can neither share
//! length factors among terms nor score a batch of documents.
//!
//! Lengths are rounded to one of 256 values, as the index library stores them.

use std::sync::Arc;

use pulp::Arch;
use tantivy::{DocId, Score, fieldnorm::FieldNormReader};

use super::corpus::Corpus;

const K1: Score = 1.2;
const B: Score = 0.75;
/// Documents per batch: as many as the library decodes at once.
pub(super) const SCORED: usize = 128;

/// The length factor, the addend to *count*, for each rounded length.
#[derive(Clone)]
pub(crate) struct Lengths(Arc<[Score; 256]>);

impl Lengths {
    /// Length factors for the average length in this corpus.
    #[expect(clippy::cast_precision_loss, reason = "an average needs no more precision")]
    pub(super) fn new(corpus: Corpus) -> Self {
        let average = corpus.tokens as Score / corpus.documents as Score;
        Self(Arc::new(std::array::from_fn(|rounded| {
            let length = FieldNormReader::id_to_fieldnorm(u8::try_from(rounded).unwrap_or(u8::MAX));
            K1 * (1.0 - B + B * length as Score / average)
        })))
    }
}

/// Weight of a term.
#[derive(Clone)]
pub(crate) struct Weight {
    arch: Arch,
    /// Upper bound of the term's score.
    most: Score,
    lengths: Lengths,
}

impl Weight {
    /// The weight of a term that occurs in `documents_with` of at least as many documents.
    #[expect(clippy::cast_precision_loss, reason = "a logarithm needs no more precision")]
    pub(super) fn new(documents_with: u64, documents: u64, lengths: &Lengths) -> Self {
        let without = documents.saturating_sub(documents_with) as Score;
        let idf = (1.0 + (without + 0.5) / (documents_with as Score + 0.5)).ln();
        Self { arch: Arch::new(), most: idf * (1.0 + K1), lengths: lengths.clone() }
    }

    /// Score of a document with this rounded length, in which the term occurs `count` times.
    #[expect(clippy::cast_precision_loss, reason = "as the library does")]
    pub(crate) fn score(&self, length: u8, count: u32) -> Score {
        let count = count as Score;
        self.most * (count / (count + self.lengths.0[usize::from(length)]))
    }

    /// Scores of a batch of documents, at most [`SCORED`], with their term frequencies.
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

/// Scores of a batch, in a loop compiled for the processor in use.
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
    #[expect(clippy::inline_always, reason = "compiled for the processor in use")]
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
            #[expect(clippy::cast_precision_loss, reason = "as in `Lengths::new`")]
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
