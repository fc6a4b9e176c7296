//! Candidate search in the keyword index: first the overlays under the lock, then the part on disk
//! without it.

use std::{collections::BTreeMap, sync::Arc};

use tantivy::{DocAddress, Score};

use super::{
    committed::CommittedIndex,
    documents::Document,
    keyword_state::KeywordState,
    position_filter::PositionFilter,
    query::ParsedQuery,
    scoring::{DocumentLocation, ScoreTarget, TopDocuments, WeightedQuery, rounded},
    window::WindowBuffers,
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
    location: DocumentLocation,
}

/// The candidates of a query.
pub(crate) struct CandidateSet {
    committed: CommittedIndex,
    weighted: Option<WeightedQuery>,
    /// Each memory once.
    pub(crate) candidates: Vec<Candidate>,
    /// Upper bound of the keyword scores that are not computed; known if the best by keywords were
    /// searched for.
    pub(crate) keyword_max: Score,
}

impl CandidateSet {
    /// The query's weighted terms; `None` if no document has any of them.
    pub(crate) fn weighted(&self) -> Option<&WeightedQuery> {
        self.weighted.as_ref()
    }

    /// Computes missing keyword scores of the candidates that `which` selects by index. Blocks
    /// while it reads.
    pub(crate) fn score(&mut self, which: impl Fn(usize) -> bool) -> tantivy::Result<()> {
        let words = self.weighted.as_ref().map_or(&[][..], |weighted| &weighted.words);
        let mut locations = Vec::new();
        let mut lacking = Vec::new();
        for (index, candidate) in self.candidates.iter_mut().enumerate() {
            if let DocumentLocation::Committed(location) = candidate.location
                && candidate.keyword.is_none()
                && which(index)
            {
                locations.push(location);
                lacking.push(&mut candidate.keyword);
            }
        }
        let scores = self.committed.scores(words, &locations)?;
        for (keyword, score) in lacking.into_iter().zip(scores) {
            *keyword = Some(rounded(score));
        }
        Ok(())
    }

    /// The candidate's document. Blocks while it reads.
    pub(crate) fn document(&self, candidate: &Candidate) -> tantivy::Result<Document> {
        match &candidate.location {
            DocumentLocation::Pending(document) => Ok(Document::clone(document)),
            DocumentLocation::Committed(location) => self.committed.document(*location),
        }
    }
}

/// A candidate search between its two halves.
pub(super) struct CandidateSearch<'a> {
    query: &'a ParsedQuery,
    allowed: Option<&'a PositionFilter>,
    committed: CommittedIndex,
    /// The query's weighted terms; `None` if no document has any of them.
    weighted: Option<WeightedQuery>,
    /// The phrase to look for, if the query is specific ([`ParsedQuery::distinctive`]).
    contained: Vec<String>,
    best: TopDocuments,
    found: BTreeMap<u64, Candidate>,
    /// Positions near by vector that are not in the overlays, with their leads if known.
    near: Vec<(u64, Option<Score>)>,
    /// Keyword scores and leads of those with a known lead.
    ahead: Vec<(Score, Score)>,
}

impl<'a> CandidateSearch<'a> {
    /// Searches the overlays.
    pub(super) fn begin(
        state: &KeywordState,
        query: &'a ParsedQuery,
        near: &[u64],
        wanted: &ScoreTarget,
        allowed: Option<&'a PositionFilter>,
    ) -> tantivy::Result<Self> {
        let committed = state.committed.clone();
        let overlays = state.overlays();
        let tombstones = Arc::clone(&committed.tombstones);
        let weighted = WeightedQuery::new(&query.words, &committed, &overlays)?;
        let distinctive = query.distinctive.iter().flatten();
        let contained = distinctive.take(CONTAINED_WORDS_MAX).cloned().collect();
        let best = TopDocuments::new(wanted, weighted.as_ref());
        let mut search = Self {
            query,
            allowed,
            committed,
            weighted,
            contained,
            best,
            found: BTreeMap::new(),
            near: Vec::new(),
            ahead: Vec::new(),
        };
        let is_here = |document: &&Arc<Document>| !tombstones.contains(document.position);
        for overlay in overlays {
            let identical = overlay.identical(query.identity).filter(is_here);
            for document in identical.take(query.scan_limit()) {
                search.exact(
                    Tier::Identical,
                    document,
                    DocumentLocation::Pending(Arc::clone(document)),
                );
            }
            let containing: Vec<_> = overlay
                .with_all(&search.contained)
                .filter(is_here)
                .take(CONTAINED_TEXTS_MAX)
                .collect();
            for document in containing {
                search.exact(
                    Tier::Containing,
                    document,
                    DocumentLocation::Pending(Arc::clone(document)),
                );
            }
            let Some(weighted) = search.weighted.as_ref().filter(|_| wanted.limit > 0) else {
                continue;
            };
            let best = &mut search.best;
            overlay.score(&weighted.words, |score, document| {
                let is_allowed = allowed.is_none_or(|allowed| allowed.contains(document.position));
                if is_allowed && !tombstones.contains(document.position) {
                    best.offer(score, || DocumentLocation::Pending(Arc::clone(document)));
                }
                best.threshold()
            });
        }
        let exact: Vec<u64> = search.found.keys().copied().collect();
        let leads = wanted.leads.iter().copied().map(Some).chain(std::iter::repeat(None));
        let near = near.iter().copied().zip(leads);
        let near = near.filter(|(position, _)| !tombstones.contains(*position));
        for (position, lead) in near.chain(exact.into_iter().map(|position| (position, None))) {
            let words = search.weighted.as_ref().map_or(&[][..], |weighted| &weighted.words);
            match overlays.iter().find_map(|overlay| overlay.scored(position, words)) {
                Some((score, document)) => {
                    let location = DocumentLocation::Pending(Arc::clone(document));
                    search.add_compared(position, score, location, lead);
                }
                None => search.near.push((position, lead)),
            }
        }
        Ok(search)
    }

    /// Searches the part on disk.
    pub(super) fn finish(mut self) -> tantivy::Result<CandidateSet> {
        self.search_exact()?;
        self.add_nearest()?;
        self.best.set_rivals(std::mem::take(&mut self.ahead));
        self.score_top()?;
        let keyword_max = rounded(self.best.threshold());
        for (score, location) in self.best.take() {
            let position = match &location {
                DocumentLocation::Pending(document) => document.position,
                DocumentLocation::Committed(location) => self.committed.position(*location),
            };
            self.add_scored(position, score, location);
        }
        let candidates = self.found.into_values().collect();
        let (committed, weighted) = (self.committed, self.weighted);
        Ok(CandidateSet { committed, weighted, candidates, keyword_max })
    }

    /// Adds a memory that equals or contains the query, after checking that it does.
    fn exact(&mut self, tier: Tier, document: &Document, location: DocumentLocation) {
        let query = self.query;
        let is_exact = match tier {
            Tier::Identical => document.identity == query.identity,
            _ => document.text.contains(&query.literal),
        };
        let is_new = self.found.get(&document.position).is_none_or(|other| other.tier > tier);
        let is_here = !self.committed.tombstones.contains(document.position);
        if is_exact && is_new && is_here && query.filter.covers(document) {
            let candidate =
                Candidate { tier, position: document.position, keyword: None, location };
            self.found.insert(document.position, candidate);
        }
    }

    fn add_scored(&mut self, position: u64, score: Score, location: DocumentLocation) {
        let candidate = Candidate { tier: Tier::Ranked, position, keyword: None, location };
        self.found.entry(position).or_insert(candidate).keyword = Some(rounded(score));
    }

    /// Adds a memory with a computed score, and its lead if known.
    fn add_compared(
        &mut self,
        position: u64,
        score: Score,
        location: DocumentLocation,
        lead: Option<Score>,
    ) {
        self.add_scored(position, score, location);
        if let Some(lead) = lead {
            self.ahead.push((rounded(score), lead));
        }
    }

    fn search_exact(&mut self) -> tantivy::Result<()> {
        let fields = self.committed.fields();
        let limit = self.query.scan_limit();
        let identical = fields.identical(self.query.identity);
        for (location, document) in self.committed.newest(&identical, limit, |_| true)? {
            self.exact(Tier::Identical, &document, DocumentLocation::Committed(location));
        }
        if self.contained.is_empty() {
            return Ok(());
        }
        let mut may_match = vec![true; self.committed.segments().count()];
        if let Some(weighted) = &self.weighted {
            let Some(words) = weighted.of_phrase(&self.contained) else { return Ok(()) };
            for (number, (view, _)) in self.committed.segments().enumerate() {
                may_match[number] = view.words.has_all(&words, number)?;
            }
        }
        let containing = fields.phrase(&self.contained);
        let containing =
            self.committed.newest(&*containing, CONTAINED_TEXTS_MAX, |number| may_match[number])?;
        for (location, document) in containing {
            self.exact(Tier::Containing, &document, DocumentLocation::Committed(location));
        }
        Ok(())
    }

    fn score_top(&mut self) -> tantivy::Result<()> {
        let Some(weighted) = self.weighted.as_ref().filter(|_| !self.best.is_empty_target()) else {
            return Ok(());
        };
        let (best, tombstones) = (&mut self.best, &self.committed.tombstones);
        if let Some(few) = self.allowed.and_then(PositionFilter::few) {
            let few = few.iter().rev().filter(|position| !tombstones.contains(**position));
            let locations: Vec<DocAddress> =
                few.filter_map(|position| self.committed.location(*position)).collect();
            let scores = self.committed.scores(&weighted.words, &locations)?;
            for (location, score) in locations.into_iter().zip(scores) {
                best.offer(score, || DocumentLocation::Committed(location));
            }
            return Ok(());
        }
        let mut buffers = WindowBuffers::new();
        for (number, (view, _)) in self.committed.segments().enumerate() {
            let is_answer = |document| {
                (tombstones.is_empty() || !tombstones.contains(view.position(document)))
                    && self.allowed.is_none_or(|some| some.contains(view.position(document)))
            };
            let threshold = best.threshold();
            view.words.best(
                &weighted.words,
                number,
                &mut buffers,
                threshold,
                |document, score| {
                    if is_answer(document) {
                        let location =
                            || DocumentLocation::Committed(DocAddress::new(view.ordinal, document));
                        best.offer(score, location);
                    }
                    best.threshold()
                },
            )?;
        }
        Ok(())
    }

    /// Adds the memories near by vector as candidates; those with a known lead become rivals of
    /// other documents.
    fn add_nearest(&mut self) -> tantivy::Result<()> {
        let mut ahead = Vec::new();
        for (position, lead) in std::mem::take(&mut self.near) {
            let Some(location) = self.committed.location(position) else { continue };
            if let Some(lead) = lead {
                ahead.push((position, location, lead));
            } else {
                let (tier, location) = (Tier::Ranked, DocumentLocation::Committed(location));
                let candidate = Candidate { tier, position, keyword: None, location };
                self.found.entry(position).or_insert(candidate);
            }
        }
        let locations: Vec<DocAddress> = ahead.iter().map(|(_, location, _)| *location).collect();
        let words = self.weighted.as_ref().map_or(&[][..], |weighted| &weighted.words);
        let scores = self.committed.scores(words, &locations)?;
        for ((position, location, lead), score) in ahead.into_iter().zip(scores) {
            self.add_compared(position, score, DocumentLocation::Committed(location), Some(lead));
        }
        Ok(())
    }
}
