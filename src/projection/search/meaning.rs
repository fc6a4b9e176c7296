//! The index by meaning: the vectors in memory, their file, and the model that makes them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ai_factory_actors::ports::embedder::Embedder;

use super::{
    IndexError,
    documents::Document,
    pieces::pieces,
    vector_file::{self, End, Found},
    vectors::{Rounded, Vectors},
};
use crate::projection::{Access, Mark};

/// The longest part of a query that the model is asked for, in pieces.
const QUERY_PIECES: usize = 1;

/// The index by meaning.
pub(crate) struct MeaningIndex {
    path: PathBuf,
    access: Access,
    embedder: Arc<dyn Embedder>,
    parts: RwLock<Parts>,
}

struct Parts {
    vectors: Vectors,
    /// How many of them are in the file.
    written: usize,
    end: End,
    applied: Mark,
}

impl Parts {
    fn new(dimensions: usize) -> Self {
        let vectors = Vectors::new(dimensions);
        Self { vectors, written: 0, end: End::default(), applied: Mark::default() }
    }

    /// Reads what the file has behind its known end.
    fn read(&mut self, path: &Path, embedder: &dyn Embedder) -> std::io::Result<Found> {
        let known = self.applied.position;
        let (vectors, dimensions) = (&mut self.vectors, embedder.identity().dimensions);
        let found = vector_file::read(path, embedder.identity(), &mut self.end, |block| {
            for (index, position) in block.positions.iter().enumerate() {
                if *position > known {
                    let numbers = block.numbers[index * dimensions..][..dimensions].to_vec();
                    vectors.push(*position, &Rounded { scale: block.scales[index], numbers });
                }
            }
        })?;
        if self.end.mark.position > known {
            self.applied = self.end.mark;
        }
        Ok(found)
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
        parts.written = parts.vectors.len();
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

    /// What is not in the file yet takes about so much memory, in bytes.
    pub(crate) fn pending_bytes(&self) -> usize {
        let parts = self.read();
        (parts.vectors.len() - parts.written) * self.embedder.identity().dimensions
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

    /// Adds the vectors of those of `documents` that are newer than what it contains, in order.
    pub(crate) fn apply(&self, documents: &[Arc<Document>], upto: Mark) -> Result<(), IndexError> {
        let applied = self.applied().position;
        let mut made = Vec::new();
        for document in documents.iter().filter(|document| document.position > applied) {
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
        if upto.position > applied {
            parts.applied = upto;
        }
        Ok(())
    }

    /// Puts on disk what is not there. Blocks; one flush at a time; not for a process that only reads.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let (vectors, written, mut end, upto) = {
            let parts = self.read();
            (parts.vectors.clone(), parts.written, parts.end, parts.applied)
        };
        if upto == end.mark {
            return Ok(());
        }
        let model = self.embedder.identity();
        vector_file::append(&self.path, model, &mut end, upto, &vectors.since(written))
            .map_err(IndexError::new)?;
        let mut parts = self.write();
        parts.written = vectors.len();
        parts.end = end;
        Ok(())
    }

    /// In a process that only reads: forgets nothing, and knows what is in the file by now.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        let mut parts = self.write();
        parts.read(&self.path, &*self.embedder).map_err(IndexError::new)?;
        if parts.end.mark.position >= parts.applied.position {
            parts.written = parts.vectors.len();
        }
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
