//! One question to the index by words: first what waits, under the lock, then what is on disk, without it.

use std::{collections::BTreeMap, sync::Arc};

use tantivy::{DocAddress, DocId, Score};

use super::{
    allowed::Allowed,
    committed::Committed,
    documents::Document,
    keyword::Parts,
    query::Question,
    scoring::{Best, Place, Weighed, rounded},
    tokens::simple,
};

/// How many of the best by words are looked at closer.
pub(super) const CANDIDATES: usize = 100;
/// How many words of a query must stand in a text in a row for the text to be looked at.
const CONTAINED_WORDS_MAX: usize = 48;
/// How many texts with all these words are looked at.
const CONTAINED_TEXTS_MAX: usize = 64;

/// How a memory came to be a candidate, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Its text is the query.
    Identical,
    /// The query stands in it, word for word.
    Containing,
    /// It has words of the query, or was asked for.
    Ranked,
}

/// A memory that may be an answer.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) tier: Tier,
    pub(crate) position: u64,
    /// Its score by words.
    pub(crate) keyword: Score,
    place: Place,
}

/// What was found.
pub(crate) struct Looked {
    committed: Committed,
    /// Each once.
    pub(crate) candidates: Vec<Candidate>,
    /// The score that the query would have as a document, if it has words.
    pub(crate) ideal: Option<Score>,
}

impl Looked {
    /// The memory itself. Blocks while it reads.
    pub(crate) fn document(&self, candidate: &Candidate) -> tantivy::Result<Document> {
        match &candidate.place {
            Place::Waiting(document) => Ok(Document::clone(document)),
            Place::Committed(place) => self.committed.document(*place),
        }
    }
}

/// A question that has seen what waits, and has the part on disk before it.
pub(super) struct Looking<'a> {
    question: &'a Question,
    allowed: Option<&'a Allowed>,
    committed: Committed,
    /// The query's words; none where no document has any of them.
    weighed: Option<Weighed>,
    /// The words in a row to look for, if that makes sense.
    contained: Vec<String>,
    best: Best,
    found: BTreeMap<u64, Candidate>,
    /// Positions that were asked for and do not wait, the newest first.
    wanted: Vec<u64>,
}

impl<'a> Looking<'a> {
    /// Looks through what waits.
    pub(super) fn begin(
        parts: &Parts,
        question: &'a Question,
        wanted: &[u64],
        allowed: Option<&'a Allowed>,
    ) -> tantivy::Result<Self> {
        let committed = parts.committed.clone();
        let overlays = parts.overlays();
        let gone = Arc::clone(&committed.gone);
        let weighed = Weighed::new(&question.text, &committed, &overlays)?;
        let mut contained = Vec::new();
        if question.is_particular() {
            contained = simple(&question.literal);
            contained.truncate(CONTAINED_WORDS_MAX);
        }
        let mut looking = Self {
            question,
            allowed,
            committed,
            weighed,
            contained,
            best: Best::new(CANDIDATES),
            found: BTreeMap::new(),
            wanted: Vec::new(),
        };
        let is_here = |document: &&Arc<Document>| !gone.contains(document.position);
        for overlay in overlays {
            let identical = overlay.identical(question.identity).filter(is_here);
            for document in identical.take(question.looked_through()) {
                looking.exact(Tier::Identical, document, Place::Waiting(Arc::clone(document)));
            }
            let containing: Vec<_> = overlay
                .with_all(&looking.contained)
                .filter(is_here)
                .take(CONTAINED_TEXTS_MAX)
                .collect();
            for document in containing {
                looking.exact(Tier::Containing, document, Place::Waiting(Arc::clone(document)));
            }
            let Some(weighed) = &looking.weighed else { continue };
            let best = &mut looking.best;
            overlay.score(&weighed.words, |score, document| {
                let is_allowed = allowed.is_none_or(|allowed| allowed.contains(document.position));
                if is_allowed && !gone.contains(document.position) {
                    best.offer(score, || Place::Waiting(Arc::clone(document)));
                }
                best.threshold()
            });
        }
        let exact: Vec<u64> = looking.found.keys().copied().collect();
        let wanted = wanted.iter().copied().filter(|position| !gone.contains(*position));
        for position in wanted.chain(exact) {
            let words = looking.weighed.as_ref().map_or(&[][..], |weighed| &weighed.words);
            match overlays.iter().find_map(|overlay| overlay.scored(position, words)) {
                Some((score, document)) => {
                    let place = Place::Waiting(Arc::clone(document));
                    looking.scored(position, score, place);
                }
                None => looking.wanted.push(position),
            }
        }
        Ok(looking)
    }

    /// Looks through what is on disk.
    pub(super) fn finish(mut self) -> tantivy::Result<Looked> {
        self.look_for_the_text_itself()?;
        self.score_the_best()?;
        let best = std::mem::replace(&mut self.best, Best::new(0));
        for (score, place) in best.into_vec() {
            let position = match &place {
                Place::Waiting(document) => document.position,
                Place::Committed(place) => self.committed.position(*place),
            };
            self.scored(position, score, place);
        }
        self.score_the_wanted()?;
        let ideal = self.weighed.as_ref().map(|weighed| weighed.ideal);
        let candidates = self.found.into_values().collect();
        Ok(Looked { committed: self.committed, candidates, ideal })
    }

    /// Takes in a memory in which the query stands, if it really does. Answers whether it is a candidate now.
    fn exact(&mut self, tier: Tier, document: &Document, place: Place) -> bool {
        let question = self.question;
        let is_exact = match tier {
            Tier::Identical => document.identity == question.identity,
            _ => document.text.contains(&question.literal),
        };
        let is_new = self.found.get(&document.position).is_none_or(|other| other.tier > tier);
        let is_here = !self.committed.gone.contains(document.position);
        if is_exact && is_new && is_here && question.filter.covers(document) {
            let candidate = Candidate { tier, position: document.position, keyword: 0.0, place };
            self.found.insert(document.position, candidate);
        }
        is_exact && self.found.contains_key(&document.position)
    }

    fn scored(&mut self, position: u64, score: Score, place: Place) {
        let candidate = Candidate { tier: Tier::Ranked, position, keyword: 0.0, place };
        self.found.entry(position).or_insert(candidate).keyword = rounded(score);
    }

    fn look_for_the_text_itself(&mut self) -> tantivy::Result<()> {
        let fields = self.committed.fields();
        let limit = self.question.looked_through();
        let identical = fields.identical(self.question.identity);
        for (place, document) in self.committed.newest(&identical, limit, |_| true)? {
            if self.exact(Tier::Identical, &document, Place::Committed(place)) {
                self.wanted.push(document.position);
            }
        }
        if self.contained.is_empty() {
            return Ok(());
        }
        let containing = fields.phrase(&self.contained);
        let may_have_it = |segment| {
            let weighed = self.weighed.as_ref();
            weighed.is_none_or(|weighed| weighed.may_have_all(&self.contained, segment))
        };
        let containing = self.committed.newest(&*containing, CONTAINED_TEXTS_MAX, may_have_it)?;
        for (place, document) in containing {
            if self.exact(Tier::Containing, &document, Place::Committed(place)) {
                self.wanted.push(document.position);
            }
        }
        Ok(())
    }

    fn score_the_best(&mut self) -> tantivy::Result<()> {
        let Some(weighed) = &self.weighed else { return Ok(()) };
        let (best, gone) = (&mut self.best, &self.committed.gone);
        for (number, (piece, _)) in self.committed.pieces().enumerate() {
            let is_answer = |document| {
                (gone.is_empty() || !gone.contains(piece.position(document)))
                    && self.allowed.is_none_or(|some| some.contains(piece.position(document)))
            };
            piece.words.best(&weighed.words, number, best.threshold(), |document, score| {
                if is_answer(document) {
                    let place = || Place::Committed(DocAddress::new(piece.ordinal, document));
                    best.offer(score, place);
                }
                best.threshold()
            })?;
        }
        Ok(())
    }

    fn score_the_wanted(&mut self) -> tantivy::Result<()> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_unstable_by_key(|position| std::cmp::Reverse(*position));
        wanted.dedup();
        let committed = self.committed.clone();
        for (number, (piece, _)) in committed.pieces().enumerate() {
            // Falling positions are growing numbers.
            let here: Vec<(u64, DocId)> = wanted
                .iter()
                .filter_map(|position| Some((*position, piece.document(*position)?)))
                .collect();
            if here.is_empty() {
                continue;
            }
            let documents: Vec<DocId> = here.iter().map(|(_, document)| *document).collect();
            let words = self.weighed.as_ref().map_or(&[][..], |weighed| &weighed.words);
            let scores = piece.words.scores(words, number, &documents)?;
            for ((position, document), score) in here.into_iter().zip(scores) {
                let place = DocAddress::new(piece.ordinal, document);
                self.scored(position, score, Place::Committed(place));
            }
        }
        Ok(())
    }
}
