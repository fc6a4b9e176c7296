//! Candidate search in the keyword index: first the overlays under the lock, then the part on disk
//! without it.

use std::{collections::BTreeMap, sync::Arc};

use tantivy::{DocAddress, Score};

use super::{
    allowed::Allowed,
    committed::Committed,
    documents::Document,
    keyword::Parts,
    query::Question,
    scoring::{Best, Place, Wanted, Weighed, rounded},
    window::Room,
};

/// Words of a query that must occur in a text as a phrase before the text is compared with the
/// whole query.
const CONTAINED_WORDS_MAX: usize = 48;
/// Texts with that phrase that are compared.
const CONTAINED_TEXTS_MAX: usize = 64;

/// Why a memory is a candidate; better reasons come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// Its text equals the query.
    Identical,
    /// It contains the query verbatim.
    Containing,
    /// It shares terms with the query, or is near by vector.
    Ranked,
}

/// A candidate.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) tier: Tier,
    pub(crate) position: u64,
    /// Its keyword score, if computed.
    pub(crate) keyword: Option<Score>,
    place: Place,
}

/// The candidates of a query.
pub(crate) struct Looked {
    committed: Committed,
    weighed: Option<Weighed>,
    /// Each memory once.
    pub(crate) candidates: Vec<Candidate>,
    /// Upper bound of the keyword scores that are not computed; known if the best by keywords were
    /// searched for.
    pub(crate) keyword_max: Score,
}

impl Looked {
    /// The query's weighted terms; `None` if no document has any of them.
    pub(crate) fn weighed(&self) -> Option<&Weighed> {
        self.weighed.as_ref()
    }

    /// Computes missing keyword scores of the candidates that `which` selects by index. Blocks
    /// while it reads.
    pub(crate) fn score(&mut self, which: impl Fn(usize) -> bool) -> tantivy::Result<()> {
        let words = self.weighed.as_ref().map_or(&[][..], |weighed| &weighed.words);
        let mut places = Vec::new();
        let mut lacking = Vec::new();
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            if let Place::Committed(place) = candidate.place
                && candidate.keyword.is_none()
                && which(index)
            {
                places.push(place);
                lacking.push(&mut candidate.keyword);
            }
        }
        let scores = self.committed.scores(words, &places)?;
        for (keyword, score) in lacking.into_iter().zip(scores) {
            *keyword = Some(rounded(score));
        }
        Ok(())
    }

    /// The candidate's document. Blocks while it reads.
    pub(crate) fn document(&self, candidate: &Candidate) -> tantivy::Result<Document> {
        match &candidate.place {
            Place::Waiting(document) => Ok(Document::clone(document)),
            Place::Committed(place) => self.committed.document(*place),
        }
    }
}

/// A candidate search between its two halves.
pub(super) struct Looking<'a> {
    question: &'a Question,
    allowed: Option<&'a Allowed>,
    committed: Committed,
    /// The query's weighted terms; `None` if no document has any of them.
    weighed: Option<Weighed>,
    /// The phrase to look for, if the query is specific ([`Question::particular`]).
    contained: Vec<String>,
    best: Best,
    found: BTreeMap<u64, Candidate>,
    /// Positions near by vector that are not in the overlays, with their leads if known.
    near: Vec<(u64, Option<Score>)>,
    /// Keyword scores and leads of those with a known lead.
    ahead: Vec<(Score, Score)>,
}

impl<'a> Looking<'a> {
    /// Searches the overlays.
    pub(super) fn begin(
        parts: &Parts,
        question: &'a Question,
        near: &[u64],
        wanted: &Wanted,
        allowed: Option<&'a Allowed>,
    ) -> tantivy::Result<Self> {
        let committed = parts.committed.clone();
        let overlays = parts.overlays();
        let gone = Arc::clone(&committed.gone);
        let weighed = Weighed::new(&question.words, &committed, &overlays)?;
        let particular = question.particular.iter().flatten();
        let contained = particular.take(CONTAINED_WORDS_MAX).cloned().collect();
        let best = Best::new(wanted, weighed.as_ref());
        let mut looking = Self {
            question,
            allowed,
            committed,
            weighed,
            contained,
            best,
            found: BTreeMap::new(),
            near: Vec::new(),
            ahead: Vec::new(),
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
            let Some(weighed) = looking.weighed.as_ref().filter(|_| wanted.limit > 0) else {
                continue;
            };
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
        let leads = wanted.leads.iter().copied().map(Some).chain(std::iter::repeat(None));
        let near = near.iter().copied().zip(leads);
        let near = near.filter(|(position, _)| !gone.contains(*position));
        for (position, lead) in near.chain(exact.into_iter().map(|position| (position, None))) {
            let words = looking.weighed.as_ref().map_or(&[][..], |weighed| &weighed.words);
            match overlays.iter().find_map(|overlay| overlay.scored(position, words)) {
                Some((score, document)) => {
                    let place = Place::Waiting(Arc::clone(document));
                    looking.compared(position, score, place, lead);
                }
                None => looking.near.push((position, lead)),
            }
        }
        Ok(looking)
    }

    /// Searches the part on disk.
    pub(super) fn finish(mut self) -> tantivy::Result<Looked> {
        self.look_for_the_text_itself()?;
        self.place_the_near()?;
        self.best.compare_with(std::mem::take(&mut self.ahead));
        self.score_the_best()?;
        let keyword_max = rounded(self.best.threshold());
        for (score, place) in self.best.take() {
            let position = match &place {
                Place::Waiting(document) => document.position,
                Place::Committed(place) => self.committed.position(*place),
            };
            self.scored(position, score, place);
        }
        let candidates = self.found.into_values().collect();
        let (committed, weighed) = (self.committed, self.weighed);
        Ok(Looked { committed, weighed, candidates, keyword_max })
    }

    /// Adds a memory that equals or contains the query, after checking that it does.
    fn exact(&mut self, tier: Tier, document: &Document, place: Place) {
        let question = self.question;
        let is_exact = match tier {
            Tier::Identical => document.identity == question.identity,
            _ => document.text.contains(&question.literal),
        };
        let is_new = self.found.get(&document.position).is_none_or(|other| other.tier > tier);
        let is_here = !self.committed.gone.contains(document.position);
        if is_exact && is_new && is_here && question.filter.covers(document) {
            let candidate = Candidate { tier, position: document.position, keyword: None, place };
            self.found.insert(document.position, candidate);
        }
    }

    fn scored(&mut self, position: u64, score: Score, place: Place) {
        let candidate = Candidate { tier: Tier::Ranked, position, keyword: None, place };
        self.found.entry(position).or_insert(candidate).keyword = Some(rounded(score));
    }

    /// Adds a memory with a computed score, and its lead if known.
    fn compared(&mut self, position: u64, score: Score, place: Place, lead: Option<Score>) {
        self.scored(position, score, place);
        if let Some(lead) = lead {
            self.ahead.push((rounded(score), lead));
        }
    }

    fn look_for_the_text_itself(&mut self) -> tantivy::Result<()> {
        let fields = self.committed.fields();
        let limit = self.question.looked_through();
        let identical = fields.identical(self.question.identity);
        for (place, document) in self.committed.newest(&identical, limit, |_| true)? {
            self.exact(Tier::Identical, &document, Place::Committed(place));
        }
        if self.contained.is_empty() {
            return Ok(());
        }
        let mut may_have_it = vec![true; self.committed.pieces().count()];
        if let Some(weighed) = &self.weighed {
            let Some(words) = weighed.of_phrase(&self.contained) else { return Ok(()) };
            for (number, (piece, _)) in self.committed.pieces().enumerate() {
                may_have_it[number] = piece.words.has_all(&words, number)?;
            }
        }
        let containing = fields.phrase(&self.contained);
        let containing = self
            .committed
            .newest(&*containing, CONTAINED_TEXTS_MAX, |number| may_have_it[number])?;
        for (place, document) in containing {
            self.exact(Tier::Containing, &document, Place::Committed(place));
        }
        Ok(())
    }

    fn score_the_best(&mut self) -> tantivy::Result<()> {
        let Some(weighed) = self.weighed.as_ref().filter(|_| !self.best.wants_none()) else {
            return Ok(());
        };
        let (best, gone) = (&mut self.best, &self.committed.gone);
        if let Some(few) = self.allowed.and_then(Allowed::few) {
            let few = few.iter().rev().filter(|position| !gone.contains(**position));
            let places: Vec<DocAddress> =
                few.filter_map(|position| self.committed.place(*position)).collect();
            let scores = self.committed.scores(&weighed.words, &places)?;
            for (place, score) in places.into_iter().zip(scores) {
                best.offer(score, || Place::Committed(place));
            }
            return Ok(());
        }
        let mut room = Room::new();
        for (number, (piece, _)) in self.committed.pieces().enumerate() {
            let is_answer = |document| {
                (gone.is_empty() || !gone.contains(piece.position(document)))
                    && self.allowed.is_none_or(|some| some.contains(piece.position(document)))
            };
            let threshold = best.threshold();
            piece.words.best(&weighed.words, number, &mut room, threshold, |document, score| {
                if is_answer(document) {
                    let place = || Place::Committed(DocAddress::new(piece.ordinal, document));
                    best.offer(score, place);
                }
                best.threshold()
            })?;
        }
        Ok(())
    }

    /// Adds the memories near by vector as candidates; those with a known lead become rivals of
    /// other documents.
    fn place_the_near(&mut self) -> tantivy::Result<()> {
        let mut ahead = Vec::new();
        for (position, lead) in std::mem::take(&mut self.near) {
            let Some(place) = self.committed.place(position) else { continue };
            if let Some(lead) = lead {
                ahead.push((position, place, lead));
            } else {
                let (tier, place) = (Tier::Ranked, Place::Committed(place));
                let candidate = Candidate { tier, position, keyword: None, place };
                self.found.entry(position).or_insert(candidate);
            }
        }
        let places: Vec<DocAddress> = ahead.iter().map(|(_, place, _)| *place).collect();
        let words = self.weighed.as_ref().map_or(&[][..], |weighed| &weighed.words);
        let scores = self.committed.scores(words, &places)?;
        for ((position, place, lead), score) in ahead.into_iter().zip(scores) {
            self.compared(position, score, Place::Committed(place), Some(lead));
        }
        Ok(())
    }
}
