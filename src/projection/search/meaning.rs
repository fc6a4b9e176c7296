//! The index by meaning: the vectors in memory, their file, and the model that makes them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ai_factory_actors::ports::embedder::Embedder;

use super::{
    IndexError,
    documents::Changes,
    pieces::pieces,
    vector_file::{self, End, Found, Frame},
    vectors::{Rounded, Vectors},
};
use crate::projection::{Access, Mark};

/// The longest part of a query that the model is asked for, in pieces.
const QUERY_PIECES: usize = 1;

/// The file is written anew when more of its vectors are forgotten than are not, and this many more.
const FORGOTTEN_MIN: usize = 4_096;

/// The index by meaning.
pub(crate) struct MeaningIndex {
    path: PathBuf,
    access: Access,
    embedder: Arc<dyn Embedder>,
    parts: RwLock<Parts>,
}

struct Parts {
    vectors: Vectors,
    /// How many vectors are in the file, forgotten ones too.
    written: usize,
    /// What was forgotten since the last flush.
    forgotten: BTreeSet<u64>,
    expired: u64,
    end: End,
    applied: Mark,
}

impl Parts {
    fn new(dimensions: usize) -> Self {
        let vectors = Vectors::new(dimensions);
        Self {
            vectors,
            written: 0,
            forgotten: BTreeSet::new(),
            expired: 0,
            end: End::default(),
            applied: Mark::default(),
        }
    }

    /// Reads what the file has behind its known end.
    fn read(&mut self, path: &Path, embedder: &dyn Embedder) -> std::io::Result<Found> {
        let known = self.applied.position;
        let (vectors, dimensions) = (&mut self.vectors, embedder.identity().dimensions);
        let written = &mut self.written;
        let found = vector_file::read(path, embedder.identity(), &mut self.end, |frame| {
            let block = frame.block;
            *written += block.len();
            for (index, position) in block.positions.iter().enumerate() {
                if *position > known {
                    let numbers = block.numbers[index * dimensions..][..dimensions].to_vec();
                    vectors.push(*position, &Rounded { scale: block.scales[index], numbers });
                }
            }
            if frame.expired > 0 || !frame.forgotten.is_empty() {
                vectors.forget(&frame.forgotten.into_iter().collect(), frame.expired);
            }
        })?;
        if self.end.mark.position > known {
            self.applied = self.end.mark;
        } else if known == 0 {
            // What was read is complete up to nowhere.
            *self = Self::new(dimensions);
        }
        Ok(found)
    }

    /// Forgets, and remembers to write that down.
    fn forget(&mut self, changes: &Changes) {
        self.forgotten.extend(&changes.forgotten);
        self.expired = self.expired.max(changes.expired);
        self.vectors.forget(&changes.forgotten.iter().copied().collect(), changes.expired);
    }
}

impl MeaningIndex {
    /// Opens the file. What is damaged in it, or made by another model, is left out, to be made again.
    pub(crate) fn open(
        path: &Path,
        embedder: Arc<dyn Embedder>,
        access: Access,
    ) -> Result<Self, IndexError> {
        let mut parts = Parts::new(embedder.identity().dimensions);
        match parts.read(path, &*embedder).map_err(IndexError::new)? {
            Found::Nothing | Found::Whole => {}
            // The writer is at work behind the end.
            Found::Cut if access == Access::Read => {}
            Found::Cut => tracing::warn!(path = %path.display(), position = parts.applied.position,
                "the vectors are damaged behind a position: to be made again from there"),
            Found::Foreign => tracing::warn!(path = %path.display(),
                "the vectors are of another model, or none: to be made again"),
        }
        Ok(Self { path: path.to_owned(), access, embedder, parts: RwLock::new(parts) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Parts> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Parts> {
        self.parts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where it contains everything.
    pub(crate) fn applied(&self) -> Mark {
        self.read().applied
    }

    /// How many vectors are not in the file yet.
    pub(crate) fn pending(&self) -> usize {
        let parts = self.read();
        parts.vectors.len_since(parts.end.mark.position)
    }

    /// What is not in the file yet takes about so much memory, in bytes.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending() * self.embedder.identity().dimensions
    }

    /// How many numbers a search looks at.
    pub(crate) fn numbers(&self) -> usize {
        self.read().vectors.len() * self.embedder.identity().dimensions
    }

    /// All vectors now.
    pub(super) fn vectors(&self) -> Vectors {
        self.read().vectors.clone()
    }

    /// The vector of a query; `None` where the model knows nothing of it.
    pub(super) fn query(&self, text: &str) -> Result<Option<Vec<f32>>, IndexError> {
        let pieces: Vec<&str> =
            pieces(text, self.embedder.text_bytes_max()).take(QUERY_PIECES).collect();
        let vectors = self.embedder.embed(&pieces).map_err(IndexError::new)?;
        Ok(vectors.into_iter().find(|vector| vector.iter().any(|number| number.abs() > 0.0)))
    }

    /// Changes what `changes` says, as far as it is newer than what it contains.
    pub(crate) fn apply(&self, changes: &Changes, upto: Mark) -> Result<(), IndexError> {
        let applied = self.applied().position;
        let mut made = Vec::new();
        for document in changes.documents.iter().filter(|document| document.position > applied) {
            let pieces: Vec<&str> =
                pieces(&document.text, self.embedder.text_bytes_max()).collect();
            for vector in self.embedder.embed(&pieces).map_err(IndexError::new)? {
                made.extend(Rounded::new(&vector).map(|vector| (document.position, vector)));
            }
        }
        let mut parts = self.write();
        // A reader may have taken over a part of the file in between that has it already.
        let applied = parts.applied.position;
        for (position, vector) in made.iter().filter(|(position, _)| *position > applied) {
            parts.vectors.push(*position, vector);
        }
        if changes.is_forgetting() {
            parts.forget(changes);
        }
        if upto.position > applied {
            parts.applied = upto;
        }
        Ok(())
    }

    /// Puts on disk what is not there. Blocks; one flush at a time; not for a process that only reads.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let (vectors, written, mut end, mark, forgotten, expired) = {
            let mut parts = self.write();
            if parts.applied == parts.end.mark {
                return Ok(());
            }
            let (forgotten, expired) = (std::mem::take(&mut parts.forgotten), parts.expired);
            (parts.vectors.clone(), parts.written, parts.end, parts.applied, forgotten, expired)
        };
        let model = self.embedder.identity();
        let since = vectors.since(end.mark.position);
        let mut in_file = written + since.len();
        let flushed = if in_file > FORGOTTEN_MIN + 2 * vectors.len() {
            in_file = vectors.len();
            vector_file::replace(&self.path, model, mark, vectors.parts()).map(|anew| end = anew)
        } else {
            let forgotten = forgotten.iter().copied().collect();
            let frame = Frame { mark, block: since, forgotten, expired };
            vector_file::append(&self.path, model, &mut end, &frame)
        };
        let mut parts = self.write();
        if let Err(error) = flushed {
            parts.forgotten.extend(forgotten);
            return Err(IndexError::new(error));
        }
        (parts.written, parts.end) = (in_file, end);
        Ok(())
    }

    /// In a process that only reads: forgets nothing, and knows what is in the file by now.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        let mut parts = self.write();
        parts.read(&self.path, &*self.embedder).map_err(IndexError::new)?;
        Ok(())
    }

    /// Drops everything.
    pub(crate) fn reset(&self) -> Result<(), IndexError> {
        if self.access == Access::Write {
            match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(IndexError::new(error));
                }
                _ => {}
            }
        }
        *self.write() = Parts::new(self.embedder.identity().dimensions);
        Ok(())
    }
}
