//! The index by words: segments on disk, and the documents that wait beside them.
//!
//! *Promises.* A search sees every document from the moment it is applied, and a flush changes neither
//! scores nor order. Whatever stands in a query are words to look for, never a syntax.
//!
//! *Limits.* Of a query the first [`QUERY_BYTES_MAX`] bytes count.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ai_factory_schemas::limit::QUERY_BYTES_MAX;

use super::{
    Hit, Index, IndexError,
    documents::{Document, identity},
    overlay::Overlay,
    scoring::{Best, Place, Weighed},
    segments::{Committed, Segments},
};
use crate::projection::{Access, Mark};

/// Up to so many documents on disk a search takes less time than handing it to another thread and back does.
const SMALL_INDEX_DOCUMENTS: u64 = 50_000;

/// The index by words.
pub(crate) struct KeywordIndex {
    directory: PathBuf,
    access: Access,
    parts: RwLock<Parts>,
}

struct Parts {
    segments: Arc<Segments>,
    committed: Committed,
    /// What is being flushed.
    frozen: Arc<Overlay>,
    /// What came since.
    active: Overlay,
    applied: Mark,
}

impl Parts {
    fn new(segments: Segments) -> tantivy::Result<Self> {
        let committed = segments.committed()?;
        let applied = committed.mark;
        Ok(Self {
            segments: Arc::new(segments),
            committed,
            frozen: Arc::default(),
            active: Overlay::default(),
            applied,
        })
    }
}

impl KeywordIndex {
    /// Opens the directory. A writer makes it anew where it is missing, damaged or of another version; a
    /// reader does without it then.
    pub(crate) fn open(directory: &Path, access: Access) -> Result<Self, IndexError> {
        let parts = match Segments::open(directory).and_then(Parts::new) {
            Ok(parts) => parts,
            Err(error) if access == Access::Read => {
                tracing::debug!(path = %directory.display(), %error, "no readable search index: folding the journal in memory");
                Segments::none().and_then(Parts::new).map_err(IndexError::new)?
            }
            Err(error) => {
                if directory.exists() {
                    tracing::warn!(path = %directory.display(), %error, "search index dropped, to be rebuilt from the journal");
                }
                make_anew(directory)?
            }
        };
        Ok(Self { directory: directory.to_owned(), access, parts: RwLock::new(parts) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Parts> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Parts> {
        self.parts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a commit; what it contains waits no longer.
    fn take_over(&self, committed: Committed) {
        let mut parts = self.write();
        let mark = committed.mark;
        let frozen = std::mem::take(&mut parts.frozen);
        let active = std::mem::take(&mut parts.active);
        let is_contained = |overlay: &Overlay| {
            overlay.documents().iter().all(|document| document.position <= mark.position)
        };
        if !is_contained(&frozen)
            || active.documents().first().is_some_and(|d| d.position <= mark.position)
        {
            for document in frozen.documents().iter().chain(active.documents()) {
                if document.position > mark.position {
                    parts.active.add(document.clone());
                }
            }
        } else {
            parts.active = active;
        }
        parts.committed = committed;
        if parts.applied.position < mark.position {
            parts.applied = mark;
        }
    }
}

fn make_anew(directory: &Path) -> Result<Parts, IndexError> {
    if directory.is_dir() {
        std::fs::remove_dir_all(directory).map_err(IndexError::new)?;
    } else if directory.exists() {
        std::fs::remove_file(directory).map_err(IndexError::new)?;
    }
    std::fs::create_dir_all(directory).map_err(IndexError::new)?;
    Segments::create(directory).and_then(Parts::new).map_err(IndexError::new)
}

impl Index for KeywordIndex {
    fn applied(&self) -> Mark {
        self.read().applied
    }

    fn pending(&self) -> (usize, u64) {
        let parts = self.read();
        let documents = parts.frozen.documents().len() + parts.active.documents().len();
        (documents, parts.applied.position - parts.committed.mark.position)
    }

    fn pending_bytes(&self) -> usize {
        let parts = self.read();
        parts.frozen.bytes() + parts.active.bytes()
    }

    fn is_small(&self) -> bool {
        self.read().committed.documents() < SMALL_INDEX_DOCUMENTS
    }

    fn apply(&self, documents: Vec<Document>, upto: Mark) {
        let mut parts = self.write();
        let applied = parts.applied.position;
        for document in documents {
            // A reader may have taken over a commit in between that has it already.
            if document.position > applied {
                parts.active.add(document);
            }
        }
        if upto.position > applied {
            parts.applied = upto;
        }
    }

    fn search(&self, query: &str, limit: usize) -> Result<Vec<Hit>, IndexError> {
        // The part on disk is searched without the lock: writers do not wait for a long search.
        let asked = self.read().ask(query, limit).map_err(IndexError::new)?;
        asked.map_or(Ok(Vec::new()), |asked| asked.answer().map_err(IndexError::new))
    }

    fn flush(&self) -> Result<(), IndexError> {
        let (segments, frozen, upto) = {
            let mut parts = self.write();
            let active = std::mem::take(&mut parts.active);
            if parts.frozen.documents().is_empty() {
                parts.frozen = Arc::new(active);
            } else {
                // An earlier flush failed: what it was to write is written with what has come since.
                let mut all = Overlay::default();
                for document in parts.frozen.documents().iter().chain(active.documents()) {
                    all.add(document.clone());
                }
                parts.frozen = Arc::new(all);
            }
            (Arc::clone(&parts.segments), Arc::clone(&parts.frozen), parts.applied)
        };
        segments.commit(frozen.documents().iter(), upto).map_err(IndexError::new)?;
        let mut committed = segments.committed().map_err(IndexError::new)?;
        self.take_over(committed.clone());
        while segments.merge(&committed).map_err(IndexError::new)? {
            committed = segments.committed().map_err(IndexError::new)?;
            self.take_over(committed.clone());
        }
        Ok(())
    }

    fn reload(&self) -> Result<(), IndexError> {
        let segments = Arc::clone(&self.read().segments);
        let committed = segments.committed().map_err(IndexError::new)?;
        self.take_over(committed);
        Ok(())
    }

    fn reset(&self) -> Result<(), IndexError> {
        let anew = match self.access {
            Access::Write => make_anew(&self.directory)?,
            Access::Read => Segments::none().and_then(Parts::new).map_err(IndexError::new)?,
        };
        *self.write() = anew;
        Ok(())
    }

    fn export(&self, visit: &mut dyn FnMut(&Document)) -> Result<(), IndexError> {
        let parts = self.read();
        parts.committed.export(visit).map_err(IndexError::new)?;
        parts.frozen.documents().iter().chain(parts.active.documents()).for_each(visit);
        Ok(())
    }
}

impl Parts {
    fn overlays(&self) -> [&Overlay; 2] {
        // Newest first, so that newer documents win among equals.
        [&self.active, &self.frozen]
    }

    /// Searches what waits; `None` where nothing anywhere has a word of the query.
    fn ask(&self, query: &str, limit: usize) -> tantivy::Result<Option<Asked>> {
        let identity = identity(query);
        let query = &query[..query.floor_char_boundary(QUERY_BYTES_MAX)];
        let overlays = self.overlays();
        let field = self.segments.words_field();
        let Some(weighed) = Weighed::new(query, field, self.committed.searcher(), &overlays)?
        else {
            return Ok(None);
        };
        let mut identical = Vec::new();
        let mut waiting = Vec::new();
        let mut best = Best::new(limit);
        for overlay in overlays {
            let same = overlay.identical(identity);
            identical.extend(same.take(limit - identical.len()).cloned());
            overlay.score(&weighed.terms, |score, document| {
                if best.offer(score, Place::Waiting(waiting.len())) {
                    waiting.push(document.clone());
                }
                best.threshold()
            });
        }
        let committed = self.committed.clone();
        Ok(Some(Asked { limit, identity, weighed, identical, waiting, best, committed }))
    }
}

/// A search that has seen what waits, and has the part on disk before it.
struct Asked {
    limit: usize,
    identity: u64,
    weighed: Weighed,
    /// The newest documents whose text is the query's, newest first.
    identical: Vec<Document>,
    waiting: Vec<Document>,
    best: Best,
    committed: Committed,
}

impl Asked {
    fn answer(mut self) -> tantivy::Result<Vec<Hit>> {
        let missing = self.limit - self.identical.len();
        for place in self.committed.identical(self.identity, missing)? {
            self.identical.push(self.committed.document(place)?);
        }
        let mut hits: Vec<Hit> = self.identical.into_iter().map(|same| hit(same, 0.0)).collect();
        if hits.len() >= self.limit {
            return Ok(hits);
        }
        self.committed.score(&self.weighed, &mut self.best)?;
        for (score, place) in self.best.into_vec() {
            let document = match place {
                Place::Committed(address) => self.committed.document(address)?,
                Place::Waiting(place) => self.waiting[place].clone(),
            };
            let is_known = hits.iter().any(|hit| hit.position == document.position);
            if hits.len() < self.limit && !is_known {
                hits.push(hit(document, self.weighed.distance(score)));
            }
        }
        Ok(hits)
    }
}

fn hit(document: Document, distance: f64) -> Hit {
    Hit { id: document.id, position: document.position, text: document.text, distance }
}
