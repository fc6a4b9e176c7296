//! The result of a filter: the positions of the admitted or of the excluded memories, as a list if
//! they are few, else as a bitmap.

use tantivy::{
    DocSet, TERMINATED,
    query::{BooleanQuery, EnableScoring, Query},
};

use super::{committed::CommittedIndex, query::MemoryFilter};

/// At most this many memories, or one in [`FEW_PART`], are few: a search scores each of them
/// instead of scanning the index.
const FEW_MIN: u64 = 256;
const FEW_PART: u64 = 512;

/// The memories that a filter admits.
#[derive(Clone, Debug)]
pub(crate) enum PositionFilter {
    /// The memories at these positions.
    Only(Positions),
    /// All memories up to `upto` except some. Forgotten ones are excluded elsewhere.
    AllBut {
        /// Memories behind this position are newer than the query.
        upto: u64,
        /// The excluded memories.
        left_out: Positions,
    },
}

/// A set of positions.
#[derive(Clone, Debug)]
pub(crate) enum Positions {
    /// A sorted list.
    Few(Vec<u64>),
    /// A bitmap.
    Many(Bits),
}

/// One bit per position.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl PositionFilter {
    /// All positions up to `upto` except those that `filter` excludes; for a filter that only
    /// excludes. `waiting` are the excluded positions among documents waiting for a commit.
    pub(super) fn all_but(
        filter: &MemoryFilter,
        committed: &CommittedIndex,
        waiting: impl Iterator<Item = u64>,
        upto: u64,
    ) -> tantivy::Result<Self> {
        let mut left_out: Vec<u64> = waiting.collect();
        visit(&committed.fields().excluded(filter), committed, |position| left_out.push(position))?;
        let left_out = if left_out.len() as u64 <= few(committed) {
            left_out.sort_unstable();
            Positions::Few(left_out)
        } else {
            Positions::Many(left_out.into_iter().collect())
        };
        Ok(Self::AllBut { upto, left_out })
    }

    /// The positions that `filter` admits. `waiting` are the admitted positions among documents
    /// waiting for a commit.
    pub(super) fn only(
        filter: &MemoryFilter,
        committed: &CommittedIndex,
        waiting: impl Iterator<Item = u64>,
    ) -> tantivy::Result<Self> {
        let mut bits = Bits::default();
        let fields = committed.fields();
        visit(&fields.filter(filter), committed, |position| {
            if !committed.tombstones.contains(position) {
                bits.add(position);
            }
        })?;
        // Excluded in a second query: as an exclusion of the first, the library seeks a phrase
        // behind documents that it has passed.
        visit(&fields.excluded(filter), committed, |position| bits.remove(position))?;
        for position in waiting.filter(|position| !committed.tombstones.contains(*position)) {
            bits.add(position);
        }
        Ok(Self::Only(if bits.count() <= few(committed) {
            Positions::Few(bits.positions().collect())
        } else {
            Positions::Many(bits)
        }))
    }

    /// The admitted positions, in order, if they are few.
    pub(crate) fn few(&self) -> Option<&[u64]> {
        match self {
            Self::Only(Positions::Few(positions)) => Some(positions),
            Self::Only(Positions::Many(_)) | Self::AllBut { .. } => None,
        }
    }

    /// Whether no memory is known to be admitted.
    pub(crate) fn is_empty(&self) -> bool {
        self.few().is_some_and(<[u64]>::is_empty)
    }

    /// Whether the memory at this position is admitted.
    pub(crate) fn contains(&self, position: u64) -> bool {
        match self {
            Self::Only(positions) => positions.contains(position),
            Self::AllBut { upto, left_out } => position <= *upto && !left_out.contains(position),
        }
    }
}

/// Number of memories that counts as few in this commit.
fn few(committed: &CommittedIndex) -> u64 {
    FEW_MIN.max(committed.documents() / FEW_PART)
}

/// Calls `visit` with the position of each document on disk that matches a query.
fn visit(
    query: &BooleanQuery,
    committed: &CommittedIndex,
    mut visit: impl FnMut(u64),
) -> tantivy::Result<()> {
    let weight = query.weight(EnableScoring::disabled_from_searcher(committed.searcher()))?;
    for (view, segment) in committed.segments() {
        let mut matching = weight.scorer(segment, 1.0)?;
        while matching.doc() != TERMINATED {
            visit(view.position(matching.doc()));
            matching.advance();
        }
    }
    Ok(())
}

impl Positions {
    fn contains(&self, position: u64) -> bool {
        match self {
            Self::Few(positions) => positions.binary_search(&position).is_ok(),
            Self::Many(bits) => bits.contains(position),
        }
    }
}

impl Bits {
    fn contains(&self, position: u64) -> bool {
        let (word, bit) = slot(position);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// All positions, in order.
    fn positions(&self) -> impl Iterator<Item = u64> {
        (0..).step_by(64).zip(&self.0).flat_map(|(first, bits)| {
            let is_set = move |bit: &u64| bits >> bit & 1 == 1;
            (0..64).filter(is_set).map(move |bit| first + bit)
        })
    }

    fn remove(&mut self, position: u64) {
        let (word, bit) = slot(position);
        if let Some(bits) = self.0.get_mut(word) {
            *bits &= !bit;
        }
    }

    fn add(&mut self, position: u64) {
        let (word, bit) = slot(position);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }
}

impl FromIterator<u64> for Bits {
    fn from_iter<Positions: IntoIterator<Item = u64>>(positions: Positions) -> Self {
        let mut bits = Self::default();
        positions.into_iter().for_each(|position| bits.add(position));
        bits
    }
}

fn slot(position: u64) -> (usize, u64) {
    let word = usize::try_from(position / 64).unwrap_or(usize::MAX);
    (word, 1 << (position % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ai_factory_ports::views::SearchQuery;
    use proptest::prelude::*;

    use super::{
        super::{
            documents::Document,
            keyword_index::KeywordIndex,
            query::ParsedQuery,
            scoring::ScoreTarget,
            tokens::{contains, simple},
        },
        *,
    };

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn a_filter_lets_through_the_same_whether_few_or_many_on_disk_or_waiting(
            texts in prop::collection::vec(prop::collection::vec(0_u8..9, 1..6), 1..900),
            query in prop::sample::select(vec!["word1 -word2", "\"word3 word3\"", "\"word1 word2\" -word3", "word4 -\"word5 word6\""]),
        ) {
            let text = |words: &Vec<u8>| {
                let words: Vec<String> = words.iter().map(|word| format!("word{word}")).collect();
                words.join(" ")
            };
            let texts: Vec<String> = texts.iter().map(text).collect();
            let (_directory, index) = KeywordIndex::sample(&texts);
            let question = ParsedQuery::new(&SearchQuery { text: query.to_owned(), ..SearchQuery::default() });
            let MemoryFilter { phrases, excluded, .. } = &question.filter;
            let is_let_through = |text: &String| {
                let tokens = Document::sample(1, text).tokens();
                phrases.iter().all(|phrase| contains(&tokens, phrase))
                    && !excluded.iter().any(|phrase| contains(&tokens, phrase))
            };
            let expected: BTreeSet<u64> = (1..).zip(&texts).filter(|(_, text)| is_let_through(text)).map(|(at, _)| at).collect();
            let allowed = index.allowed(&question.filter).unwrap();
            let all = 1..=u64::try_from(texts.len()).unwrap();
            prop_assert_eq!(&all.filter(|at| allowed.contains(*at)).collect::<BTreeSet<u64>>(), &expected);
            // And every one of them that has a term of the query is found.
            let wanted = ScoreTarget { limit: texts.len(), ..ScoreTarget::default() };
            let looked = index.candidates(&question, &[], &wanted, Some(&allowed)).unwrap();
            let found: BTreeSet<u64> = looked.candidates.iter().map(|candidate| candidate.position).collect();
            let words = simple(&question.text);
            let has_word = |at: &u64| {
                let text = &texts[usize::try_from(*at).unwrap() - 1];
                simple(text).iter().any(|word| words.contains(word))
            };
            prop_assert_eq!(found, expected.into_iter().filter(has_word).collect());
        }
    }

    #[test]
    fn a_position_is_in_it_once_it_was_added() {
        let none = Bits::default();
        assert!(!none.contains(0) && none.count() == 0);
        let bits: Bits = [0, 63, 1_000, 64].into_iter().collect();
        assert_eq!(bits.count(), 4);
        let few = Positions::Few(bits.positions().collect());
        let many = Positions::Many(bits);
        let found = |allowed: &PositionFilter| -> Vec<u64> {
            (0..3_000).filter(|position| allowed.contains(*position)).collect()
        };
        let rest: Vec<u64> = (0..2_000).filter(|position| !few.contains(*position)).collect();
        for positions in [few, many] {
            assert_eq!(found(&PositionFilter::Only(positions.clone())), [0, 63, 64, 1_000]);
            assert_eq!(found(&PositionFilter::AllBut { upto: 1_999, left_out: positions }), rest);
        }
    }
}
