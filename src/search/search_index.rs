//! The search index: hybrid search of memories by keywords and by vector.
//!
//! Two indexes stand side by side ([`KeywordIndex`], BM25; [`VectorIndex`], vectors), and
//! [`ranking`] combines their results. Each has a mark of its own.
//!
//! *Promises.* It contains the documents up to [`SearchIndex::applied`] from the moment
//! [`SearchIndex::apply`] returns; those that wait for [`SearchIndex::flush`] are lost with the
//! process, and derived again from the journal.

use std::path::Path;

use ai_factory_fold::{Access, Mark};
use ai_factory_ports::{
    embedder::Models,
    views::{ExpiredRange, RetentionPolicy, SearchOutcome, SearchQuery},
};
use ai_factory_schemas::{
    answer::{FoundMemory, Score},
    memory::SearchMode,
};

use super::{
    candidate_search::CandidateSet,
    documents::{Document, IndexChanges},
    error::IndexError,
    keyword_index::KeywordIndex,
    near_duplicates::NearDuplicateFilter,
    query::ParsedQuery,
    ranking::{self, Blend, CANDIDATES, RankedCandidate, VectorScores},
    snippet,
    vector_index::VectorIndex,
    vector_indexes::VectorIndexes,
};

/// Cost model: this many vector components cost about as much as one scored document.
const NUMBERS_A_DOCUMENT: usize = 256;

/// The search index over all memories.
pub(crate) struct SearchIndex {
    keyword_index: KeywordIndex,
    vector_indexes: VectorIndexes,
}

impl SearchIndex {
    /// Opens the directory. A writer replaces what is missing, damaged or of another version by
    /// something empty; a reader then works without it.
    pub(crate) fn open(
        directory: &Path,
        models: Models,
        access: Access,
    ) -> Result<Self, IndexError> {
        if access == Access::Write && !directory.is_dir() {
            if directory.exists() {
                std::fs::remove_file(directory).map_err(IndexError::new)?;
            }
            std::fs::create_dir_all(directory).map_err(IndexError::new)?;
        }
        Ok(Self {
            keyword_index: KeywordIndex::open(&directory.join("words"), access)?,
            vector_indexes: VectorIndexes::open(directory, models, access)?,
        })
    }

    /// Makes the directory of the keyword index if it was taken away; returns whether its files are
    /// gone.
    pub(crate) fn ensure_directory(&self) -> Result<bool, IndexError> {
        self.keyword_index.ensure_directory()
    }

    /// The vector indexes.
    pub(crate) fn vector_indexes(&self) -> &VectorIndexes {
        &self.vector_indexes
    }

    /// Whether the built-in model's vectors serve: they are folded together with the keyword index,
    /// those of a remote model in the background.
    pub(crate) fn serves_built_in(&self) -> bool {
        self.vector_indexes.serving().remote_embedder().is_none()
    }

    /// Mark up to which everything that is folded is complete.
    pub(crate) fn applied(&self) -> Mark {
        let keywords = self.keyword_index.applied();
        let vectors = self.built_in_applied();
        vectors.filter(|vectors| vectors.position < keywords.position).unwrap_or(keywords)
    }

    /// Mark of the keyword index.
    pub(crate) fn keywords_applied(&self) -> Mark {
        self.keyword_index.applied()
    }

    /// Mark of the serving vector index.
    pub(crate) fn vectors_applied(&self) -> Mark {
        self.vector_indexes.serving().applied()
    }

    /// Mark of the built-in model's vectors, if they serve.
    pub(crate) fn built_in_applied(&self) -> Option<Mark> {
        let serving = self.vector_indexes.serving();
        serving.remote_embedder().is_none().then(|| serving.applied())
    }

    /// Marks of the folded parts.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let folded = self
            .vector_indexes
            .each()
            .filter(|vector_index| vector_index.remote_embedder().is_none());
        folded
            .map(|vector_index| vector_index.applied())
            .chain([self.keyword_index.applied()])
            .collect()
    }

    /// Number of documents or vectors waiting for a flush, and of the events in which they came.
    pub(crate) fn pending(&self) -> (usize, u64) {
        let (documents, events) = self.keyword_index.pending();
        let vectors = self.vector_indexes.each().map(|vector_index| vector_index.pending());
        (vectors.fold(documents, usize::max), events)
    }

    /// Number of vectors of a remote model waiting for a flush.
    pub(crate) fn pending_remote(&self) -> usize {
        self.vector_indexes.configured_index().map_or(0, |vector_index| vector_index.pending())
    }

    /// Approximate memory of what waits, in bytes.
    pub(crate) fn pending_bytes(&self) -> usize {
        let vectors = self.vector_indexes.each().map(|vector_index| vector_index.pending_bytes());
        self.keyword_index.pending_bytes() + vectors.sum::<usize>()
    }

    /// Cost of a search, in documents.
    pub(crate) fn size(&self) -> u64 {
        let vectors = self.vector_indexes.serving().numbers() / NUMBERS_A_DOCUMENT;
        self.keyword_index.committed_documents().max(vectors as u64)
    }

    /// Applies the changes of the events between [`Self::applied`] and `upto`, in order.
    pub(crate) fn apply(&self, changes: &IndexChanges, upto: Mark) -> Result<(), IndexError> {
        // Keywords first: a memory with a vector always has its text.
        self.apply_keywords(changes, upto)?;
        self.vector_indexes.serving().apply(changes, upto)
    }

    /// Applies the changes of the events between [`Self::keywords_applied`] and `upto` to the
    /// keyword index alone.
    pub(crate) fn apply_keywords(
        &self,
        changes: &IndexChanges,
        upto: Mark,
    ) -> Result<(), IndexError> {
        self.keyword_index.apply(changes, upto)
    }

    /// The keyword index, to merge and to replace.
    pub(crate) fn keyword_index(&self) -> &KeywordIndex {
        &self.keyword_index
    }

    /// Position of the memory with this id. Blocks while it reads.
    pub(crate) fn position(&self, id: &str) -> Result<Option<u64>, IndexError> {
        Ok(self.keyword_index.document(id)?.map(|document| document.position))
    }

    /// The oldest memories beyond the retention policy, at most `limit`.
    pub(crate) fn expired_range(
        &self,
        policy: &RetentionPolicy,
        limit: u64,
    ) -> Option<ExpiredRange> {
        self.keyword_index.expired_range(policy, limit)
    }

    /// Parses a query; `None` if it refers to a memory that does not exist. Blocks while it reads.
    pub(crate) fn parse_query(
        &self,
        query: &SearchQuery,
    ) -> Result<Option<ParsedQuery>, IndexError> {
        let Some(id) = &query.similar_to else { return Ok(Some(ParsedQuery::new(query))) };
        let document = self.keyword_index.document(id)?;
        Ok(document
            .map(|found| ParsedQuery::new(&SearchQuery { text: found.text, ..query.clone() })))
    }

    /// The best memories, best first, newer first among equals; with the built-in model's vectors,
    /// if those serve. Blocks while it reads.
    pub(crate) fn search(&self, query: &SearchQuery) -> Result<SearchOutcome, IndexError> {
        let Some(parsed) = self.parse_query(query)? else {
            return Ok(SearchOutcome { found: Vec::new(), mode: query.mode });
        };
        let vector_index = self.vector_indexes.serving();
        let vector =
            parsed.semantic_text().map(|text| vector_index.query(text)).transpose()?.flatten();
        self.answer(parsed, &vector_index, vector.as_deref())
    }

    /// The best memories for a query with this vector, best first, newer first among equals. Blocks
    /// while it reads.
    pub(crate) fn answer(
        &self,
        mut parsed: ParsedQuery,
        vector_index: &VectorIndex,
        vector: Option<&[f32]>,
    ) -> Result<SearchOutcome, IndexError> {
        let mode = if vector.is_some() { parsed.mode } else { SearchMode::Keyword };
        let mut allowed = None;
        if !parsed.filter.is_open() {
            let mut found = self.keyword_index.allowed(&parsed.filter)?;
            if found.is_empty() && !parsed.filter.phrases.is_empty() {
                // No memory contains the quoted phrases: they are searched as plain words.
                parsed.filter.phrases.clear();
                found = self.keyword_index.allowed(&parsed.filter)?;
            }
            allowed = Some(found);
        }
        // Vectors first: a memory that they find is then in the keyword index too.
        let (vectors, upto) = vector_index.vectors();
        let near = vector
            .map(|vector| vectors.nearest(vector, CANDIDATES, allowed.as_ref()))
            .unwrap_or_default();
        let positions: Vec<u64> = near.iter().map(|one| one.position).collect();
        let cosines: Vec<f32> = near.iter().map(|one| one.rounded).collect();
        let has_vectors = upto >= self.keywords_applied().position;
        let mut known: Vec<(u64, f32)> =
            near.iter().map(|one| (one.position, one.cosine)).collect();
        known.sort_unstable_by_key(|(position, _)| *position);
        let blend =
            if vector_index.remote_embedder().is_none() { Blend::BUILT_IN } else { Blend::CHOSEN };
        let near = vector.map(|vector| VectorScores {
            blend,
            upto,
            cosine: Box::new(|position| {
                let at = known.binary_search_by_key(&position, |(position, _)| *position);
                at.map_or_else(|_| vectors.cosine(vector, position), |at| Some(known[at].1))
            }),
        });
        let words = snippet::HighlightTerms::new(parsed.words.iter().map(String::as_str));
        let mut results = Vec::new();
        let most = parsed.scan_limit();
        for count in parsed.result_limits() {
            let wanted = ranking::score_target(mode, blend, &cosines, has_vectors, (count, most));
            let mut candidates =
                self.keyword_index.candidates(&parsed, &positions, &wanted, allowed.as_ref())?;
            let ranked = ranking::rank(&mut candidates, mode, near.as_ref(), count);
            let ranked = ranked.map_err(IndexError::new)?;
            let is_all = ranked.len() < count;
            results = results_of(&parsed, &candidates, &ranked, &words)?;
            if results.len() == parsed.limit || is_all {
                break;
            }
        }
        Ok(SearchOutcome { found: results, mode })
    }

    /// Writes what waits. Blocks; one flush at a time; only in a writing process.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        for vector_index in self.vector_indexes.each() {
            vector_index.flush()?;
        }
        self.keyword_index.flush()
    }

    /// In a process that only reads: switches to what the writer has flushed, so that less waits
    /// here.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        self.keyword_index.reload()?;
        self.vector_indexes.each().try_for_each(|vector_index| vector_index.reload())
    }

    /// Drops everything but those vectors of a remote model that pass their checksums.
    pub(crate) fn reset(&self) -> Result<(), IndexError> {
        self.vector_indexes.reset()?;
        self.keyword_index.reset()
    }

    /// Calls `visit` with every document, oldest first.
    pub(crate) fn export(&self, visit: &mut dyn FnMut(&Document)) -> Result<(), IndexError> {
        self.keyword_index.export(visit)
    }
}

/// Loads the results of a ranking.
fn results_of(
    parsed: &ParsedQuery,
    candidates: &CandidateSet,
    ranked: &[RankedCandidate],
    words: &snippet::HighlightTerms<'_>,
) -> Result<Vec<FoundMemory>, IndexError> {
    let (mut results, mut near_duplicates) = (Vec::new(), NearDuplicateFilter::default());
    for one in ranked {
        if results.len() == parsed.limit {
            break;
        }
        let document = candidates.document(&one.candidate).map_err(IndexError::new)?;
        if !parsed.fold || near_duplicates.is_new(&document.text) {
            results.push(found_memory(document, one, words));
        }
    }
    Ok(results)
}

fn found_memory(
    document: Document,
    ranked: &RankedCandidate,
    query: &snippet::HighlightTerms<'_>,
) -> FoundMemory {
    FoundMemory {
        snippet: snippet::snippet(&document.text, query),
        id: document.id,
        text: document.text,
        distance: ranked.distance,
        kind: document.kind,
        request_id: document.request_id,
        timestamp: document.time,
        score: Score {
            total: 1.0 - ranked.distance,
            keyword: f64::from(ranked.candidate.keyword.unwrap_or_default()),
            semantic: f64::from(ranked.cosine),
        },
    }
}
