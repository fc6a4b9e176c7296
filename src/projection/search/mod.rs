//! The search index: hybrid search of memories by keywords and by vector.
//!
//! Two indexes stand side by side ([`KeywordIndex`], BM25; [`MeaningIndex`], vectors), and
//! [`ranking`] combines their results. Each has a mark of its own.
//!
//! *Promises.* It contains the documents up to [`SearchIndex::applied`] from the moment
//! [`SearchIndex::apply`] returns; those that wait for [`SearchIndex::flush`] are lost with the
//! process, and derived again from the journal.

use std::path::Path;

use ai_factory_actors::ports::{
    embedder::Models,
    views::{Kept, Outlived, Searched, Sought},
};
use ai_factory_schemas::{
    answer::{Found, Score},
    memory::SearchMode,
};

use super::{Access, Mark};

mod allowed;
mod block;
mod bm25;
mod committed;
mod counts;
pub(crate) mod documents;
mod fields;
mod files;
mod fold;
mod gone;
pub(crate) mod keyword;
mod known;
mod list;
mod lists;
mod lookup;
mod loops;
mod meaning;
mod meanings;
mod overlay;
mod payload;
mod peaks;
mod pieces;
mod query;
mod ranking;
mod scoring;
mod segments;
mod sketches;
mod slow;
mod snippet;
mod tokens;
mod vector_file;
mod vectors;
mod window;

use documents::{Changes, Document};
use fold::Folded;
use keyword::KeywordIndex;
use lookup::Looked;
pub(crate) use meaning::MeaningIndex;
pub(crate) use meanings::Meanings;
pub(crate) use query::Question;
use ranking::{Blend, CANDIDATES, Near, Ranked};
pub(crate) use slow::SlowModel;

/// Cost model: this many vector components cost about as much as one scored document.
const NUMBERS_A_DOCUMENT: usize = 256;

/// Why the index failed to answer or to be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the search index failed: {0}")]
pub(crate) struct IndexError(String);

impl IndexError {
    fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// The search index over all memories.
pub(crate) struct SearchIndex {
    words: KeywordIndex,
    meanings: Meanings,
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
            words: KeywordIndex::open(&directory.join("words"), access)?,
            meanings: Meanings::open(directory, models, access)?,
        })
    }

    /// Makes the directory of the keyword index if it was taken away; returns whether its files are
    /// gone.
    pub(crate) fn ensure_place(&self) -> Result<bool, IndexError> {
        self.words.ensure_place()
    }

    /// The vector indexes.
    pub(crate) fn meanings(&self) -> &Meanings {
        &self.meanings
    }

    /// Whether the built-in model's vectors serve: they are folded together with the keyword index,
    /// those of a remote model in the background.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.meanings.serving().slow_model().is_none()
    }

    /// Mark up to which everything that is folded is complete.
    pub(crate) fn applied(&self) -> Mark {
        let words = self.words.applied();
        if !self.is_at_hand() {
            return words;
        }
        let meaning = self.meaning_applied();
        if words.position <= meaning.position { words } else { meaning }
    }

    /// Mark of the keyword index.
    pub(crate) fn words_applied(&self) -> Mark {
        self.words.applied()
    }

    /// Mark of the serving vector index.
    pub(crate) fn meaning_applied(&self) -> Mark {
        self.meanings.serving().applied()
    }

    /// Marks of the folded parts.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let folded = self.meanings.each().filter(|meaning| meaning.slow_model().is_none());
        folded.map(|meaning| meaning.applied()).chain([self.words.applied()]).collect()
    }

    /// Number of documents or vectors waiting for a flush, and of the events in which they came.
    pub(crate) fn pending(&self) -> (usize, u64) {
        let (documents, events) = self.words.pending();
        let vectors = self.meanings.each().map(|meaning| meaning.pending());
        (vectors.fold(documents, usize::max), events)
    }

    /// Number of vectors of a remote model waiting for a flush.
    pub(crate) fn pending_slow(&self) -> usize {
        self.meanings.of_wanted().map_or(0, |meaning| meaning.pending())
    }

    /// Approximate memory of what waits, in bytes.
    pub(crate) fn pending_bytes(&self) -> usize {
        let vectors = self.meanings.each().map(|meaning| meaning.pending_bytes());
        self.words.pending_bytes() + vectors.sum::<usize>()
    }

    /// Cost of a search, in documents.
    pub(crate) fn size(&self) -> u64 {
        let vectors = self.meanings.serving().numbers() / NUMBERS_A_DOCUMENT;
        self.words.committed_documents().max(vectors as u64)
    }

    /// Applies the changes of the events between [`Self::applied`] and `upto`, in order.
    pub(crate) fn apply(&self, changes: &Changes, upto: Mark) -> Result<(), IndexError> {
        // Keywords first: a memory with a vector always has its text.
        self.apply_words(changes, upto)?;
        self.meanings.serving().apply(changes, upto)
    }

    /// Applies the changes of the events between [`Self::words_applied`] and `upto` to the keyword
    /// index alone.
    pub(crate) fn apply_words(&self, changes: &Changes, upto: Mark) -> Result<(), IndexError> {
        self.words.apply(changes, upto)
    }

    /// The keyword index, for a shadow rebuild.
    pub(crate) fn words(&self) -> &KeywordIndex {
        &self.words
    }

    /// Position of the memory with this id. Blocks while it reads.
    pub(crate) fn position(&self, id: &str) -> Result<Option<u64>, IndexError> {
        Ok(self.words.document(id)?.map(|document| document.position))
    }

    /// The oldest memories beyond the retention policy, at most `limit`.
    pub(crate) fn outlived(&self, kept: &Kept, limit: u64) -> Option<Outlived> {
        self.words.outlived(kept, limit)
    }

    /// Parses a query; `None` if it refers to a memory that does not exist. Blocks while it reads.
    pub(crate) fn question(&self, sought: &Sought) -> Result<Option<Question>, IndexError> {
        let Some(id) = &sought.similar_to else { return Ok(Some(Question::new(sought))) };
        let document = self.words.document(id)?;
        Ok(document.map(|found| Question::new(&Sought { text: found.text, ..sought.clone() })))
    }

    /// The best memories, best first, newer first among equals; with the built-in model's vectors,
    /// if those serve. Blocks while it reads.
    pub(crate) fn search(&self, sought: &Sought) -> Result<Searched, IndexError> {
        let Some(question) = self.question(sought)? else {
            return Ok(Searched { found: Vec::new(), mode: sought.mode });
        };
        let meaning = self.meanings.serving();
        let vector = question.meant().map(|text| meaning.query(text)).transpose()?.flatten();
        self.answer(question, &meaning, vector.as_deref())
    }

    /// The best memories for a query with this vector, best first, newer first among equals. Blocks
    /// while it reads.
    pub(crate) fn answer(
        &self,
        mut question: Question,
        meaning: &MeaningIndex,
        vector: Option<&[f32]>,
    ) -> Result<Searched, IndexError> {
        let mode = if vector.is_some() { question.mode } else { SearchMode::Keyword };
        let mut allowed = None;
        if !question.filter.is_open() {
            let mut found = self.words.allowed(&question.filter)?;
            if found.is_empty() && !question.filter.phrases.is_empty() {
                // No memory contains the quoted phrases: they are searched as plain words.
                question.filter.phrases.clear();
                found = self.words.allowed(&question.filter)?;
            }
            allowed = Some(found);
        }
        // Vectors first: a memory that they find is then in the keyword index too.
        let (vectors, upto) = meaning.vectors();
        let near = vector
            .map(|vector| vectors.nearest(vector, CANDIDATES, allowed.as_ref()))
            .unwrap_or_default();
        let positions: Vec<u64> = near.iter().map(|one| one.position).collect();
        let cosines: Vec<f32> = near.iter().map(|one| one.rounded).collect();
        let has_vectors = upto >= self.words_applied().position;
        let mut known: Vec<(u64, f32)> =
            near.iter().map(|one| (one.position, one.cosine)).collect();
        known.sort_unstable_by_key(|(position, _)| *position);
        let blend = if meaning.slow_model().is_none() { Blend::BUILT_IN } else { Blend::CHOSEN };
        let near = vector.map(|vector| Near {
            blend,
            upto,
            cosine: Box::new(|position| {
                let at = known.binary_search_by_key(&position, |(position, _)| *position);
                at.map_or_else(|_| vectors.cosine(vector, position), |at| Some(known[at].1))
            }),
        });
        let words = snippet::Sought::new(question.words.iter().map(String::as_str));
        let mut results = Vec::new();
        let most = question.looked_through();
        for count in question.looked_for() {
            let wanted = ranking::wanted(mode, blend, &cosines, has_vectors, (count, most));
            let mut looked = self.words.look(&question, &positions, &wanted, allowed.as_ref())?;
            let ranked = ranking::rank(&mut looked, mode, near.as_ref(), count);
            let ranked = ranked.map_err(IndexError::new)?;
            let is_all = ranked.len() < count;
            results = results_of(&question, &looked, &ranked, &words)?;
            if results.len() == question.limit || is_all {
                break;
            }
        }
        Ok(Searched { found: results, mode })
    }

    /// Writes what waits. Blocks; one flush at a time; only in a writing process.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        for meaning in self.meanings.each() {
            meaning.flush()?;
        }
        self.words.flush()
    }

    /// In a process that only reads: switches to what the writer has flushed, so that less waits
    /// here.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        self.words.reload()?;
        self.meanings.each().try_for_each(|meaning| meaning.reload())
    }

    /// Drops everything but those vectors of a remote model that pass their checksums.
    pub(crate) fn reset(&self) -> Result<(), IndexError> {
        self.meanings.reset()?;
        self.words.reset()
    }

    /// Calls `visit` with every document, oldest first.
    pub(crate) fn export(&self, visit: &mut dyn FnMut(&Document)) -> Result<(), IndexError> {
        self.words.export(visit)
    }
}

/// Loads the results of a ranking.
fn results_of(
    question: &Question,
    looked: &Looked,
    ranked: &[Ranked],
    words: &snippet::Sought<'_>,
) -> Result<Vec<Found>, IndexError> {
    let (mut results, mut folded) = (Vec::new(), Folded::default());
    for one in ranked {
        if results.len() == question.limit {
            break;
        }
        let document = looked.document(&one.candidate).map_err(IndexError::new)?;
        if !question.fold || folded.is_new(&document.text) {
            results.push(found(document, one, words));
        }
    }
    Ok(results)
}

fn found(document: Document, ranked: &Ranked, sought: &snippet::Sought<'_>) -> Found {
    Found {
        snippet: snippet::snippet(&document.text, sought),
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
