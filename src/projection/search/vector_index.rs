//! The vector index of one model: its vectors in memory and their file.
//!
//! Vectors of the built-in model are made when they are added; those of a remote model are made
//! elsewhere ([`SlowModel::make`]) and then added.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ai_factory_actors::ports::embedder::{Embedder, ModelIdentity};

use super::{
    IndexError,
    block::Rounded,
    documents::Changes,
    pieces::pieces,
    slow::SlowModel,
    vector_file::{self, End, Found, Frame},
    vectors::Vectors,
};
use crate::projection::{Access, Mark, place};

/// Limit of the query text sent to the model, in chunks.
const QUERY_PIECES: usize = 1;

/// The file is rewritten when more of its vectors are forgotten than are not, by at least this
/// many.
const FORGOTTEN_MIN: usize = 4_096;

/// Source of vectors.
#[derive(Clone)]
pub(crate) enum Maker {
    /// The built-in model.
    AtHand(Arc<dyn Embedder>),
    /// A remote model.
    Slow(Arc<SlowModel>),
}

impl Maker {
    fn text_bytes_max(&self) -> usize {
        match self {
            Self::AtHand(model) => model.text_bytes_max(),
            Self::Slow(model) => model.text_bytes_max(),
        }
    }
}

/// The vector index of one model.
pub(crate) struct MeaningIndex {
    path: PathBuf,
    access: Access,
    model: ModelIdentity,
    maker: Maker,
    parts: RwLock<Parts>,
}

struct Parts {
    vectors: Vectors,
    /// Number of vectors in the file, including forgotten ones.
    written: usize,
    /// Positions forgotten since the last flush.
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

    /// Reads the file from its known end on.
    fn read(&mut self, path: &Path, model: &ModelIdentity) -> std::io::Result<Found> {
        let known = self.applied.position;
        let (vectors, dimensions) = (&mut self.vectors, model.dimensions);
        let written = &mut self.written;
        let found = vector_file::read(path, model, &mut self.end, |frame| {
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
            // Without a mark, the vectors read are complete up to no position.
            *self = Self::new(dimensions);
        }
        Ok(found)
    }

    /// Forgets vectors, and notes it for the next flush.
    fn forget(&mut self, changes: &Changes) {
        self.forgotten.extend(&changes.forgotten);
        self.expired = self.expired.max(changes.expired);
        self.vectors.forget(&changes.forgotten.iter().copied().collect(), changes.expired);
    }
}

impl MeaningIndex {
    /// Opens the file. Vectors that are damaged or of another model are left out, to be made again.
    pub(crate) fn open(
        path: &Path,
        model: ModelIdentity,
        maker: Maker,
        access: Access,
    ) -> Result<Self, IndexError> {
        let mut parts = Parts::new(model.dimensions);
        match parts.read(path, &model).map_err(IndexError::new)? {
            Found::Nothing | Found::Whole => {}
            // The writer is appending behind the end.
            Found::Cut if access == Access::Read => {}
            Found::Cut => tracing::warn!(path = %path.display(), position = parts.applied.position,
                "the vectors are damaged behind a position: making them again from there"),
            Found::Foreign => {
                tracing::warn!(path = %path.display(), model = model.name,
                    "the file contains no vectors of this model: making them again");
                // A directory in the file's place would make every write fail.
                if access == Access::Write && path.is_dir() {
                    place::remove(path).map_err(IndexError::new)?;
                }
            }
        }
        Ok(Self { path: path.to_owned(), access, model, maker, parts: RwLock::new(parts) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Parts> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Parts> {
        self.parts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mark up to which everything is folded.
    pub(crate) fn applied(&self) -> Mark {
        self.read().applied
    }

    /// Number of vectors that are not in the file.
    pub(crate) fn pending(&self) -> usize {
        let parts = self.read();
        parts.vectors.len_since(parts.end.mark.position)
    }

    /// Approximate memory of the vectors that are not in the file, in bytes.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending() * self.model.dimensions
    }

    /// Number of components that a search reads.
    pub(crate) fn numbers(&self) -> usize {
        self.read().vectors.len() * self.model.dimensions
    }

    /// All vectors at this moment, and the position up to which every memory has its vectors.
    pub(super) fn vectors(&self) -> (Vectors, u64) {
        let parts = self.read();
        (parts.vectors.clone(), parts.applied.position)
    }

    /// The remote model, if it is one.
    pub(crate) fn slow_model(&self) -> Option<&Arc<SlowModel>> {
        match &self.maker {
            Maker::AtHand(_) => None,
            Maker::Slow(model) => Some(model),
        }
    }

    /// The vector of a query by the built-in model; `None` if the model has no vector for it or is
    /// a remote one.
    pub(super) fn query(&self, text: &str) -> Result<Option<Vec<f32>>, IndexError> {
        let Maker::AtHand(model) = &self.maker else { return Ok(None) };
        let pieces: Vec<&str> = pieces(text, model.text_bytes_max()).take(QUERY_PIECES).collect();
        let vectors = model.embed(&pieces).map_err(IndexError::new)?;
        Ok(vectors.into_iter().find(|vector| vector.iter().any(|number| number.abs() > 0.0)))
    }

    /// Vectors of `changes` by the built-in model.
    fn made_at_hand(
        &self,
        model: &dyn Embedder,
        changes: &Changes,
    ) -> Result<Vec<(u64, Rounded)>, IndexError> {
        let applied = self.applied().position;
        let mut made = Vec::new();
        for document in changes.documents.iter().filter(|document| document.position > applied) {
            let pieces: Vec<&str> = pieces(&document.text, model.text_bytes_max()).collect();
            for vector in model.embed(&pieces).map_err(IndexError::new)? {
                made.extend(Rounded::new(&vector).map(|vector| (document.position, vector)));
            }
        }
        Ok(made)
    }

    /// The texts to embed, each with the position of its memory.
    pub(crate) fn texts<'a>(&self, changes: &'a Changes) -> Vec<(u64, &'a str)> {
        let bytes_max = self.maker.text_bytes_max();
        let all = changes.documents.iter().flat_map(|document| {
            pieces(&document.text, bytes_max).map(|piece| (document.position, piece))
        });
        all.collect()
    }

    /// Applies `changes`, as far as they are newer than the applied mark; for the built-in model.
    pub(crate) fn apply(&self, changes: &Changes, upto: Mark) -> Result<(), IndexError> {
        let Maker::AtHand(model) = &self.maker else { return Ok(()) };
        let made = self.made_at_hand(&**model, changes)?;
        self.add(&made, changes, upto);
        Ok(())
    }

    /// Applies `changes` with the vectors made of their [`Self::texts`], provided that the applied
    /// mark is `from`. Returns whether it was.
    pub(crate) fn apply_made(
        &self,
        changes: &Changes,
        made: &[(u64, Vec<f32>)],
        from: Mark,
        upto: Mark,
    ) -> bool {
        let fits = made.iter().all(|(_, vector)| vector.len() == self.model.dimensions);
        if self.applied() != from || !fits {
            return false;
        }
        let rounded: Vec<_> = made
            .iter()
            .filter_map(|(position, vector)| Some((*position, Rounded::new(vector)?)))
            .collect();
        self.add(&rounded, changes, upto);
        true
    }

    fn add(&self, made: &[(u64, Rounded)], changes: &Changes, upto: Mark) {
        let mut parts = self.write();
        // A reader may have read a newer part of the file that contains it.
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
    }

    /// Writes vectors that are not in the file. Blocks; one flush at a time; only in a writing
    /// process.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let (vectors, written, mut end, mark, forgotten, expired) = {
            let mut parts = self.write();
            if parts.applied == parts.end.mark {
                return Ok(());
            }
            let (forgotten, expired) = (std::mem::take(&mut parts.forgotten), parts.expired);
            (parts.vectors.clone(), parts.written, parts.end, parts.applied, forgotten, expired)
        };
        let model = &self.model;
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

    /// In a process that only reads: reads what was appended to the file, and drops nothing.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        let mut parts = self.write();
        parts.read(&self.path, &self.model).map_err(IndexError::new)?;
        Ok(())
    }

    /// Flushes, then reads the file again and keeps only vectors that pass its checksums. Returns
    /// whether nothing was lost. Blocks; must not run while vectors are added or flushed.
    pub(super) fn prove(&self) -> Result<bool, IndexError> {
        let before = self.applied();
        if self.access == Access::Write
            && let Err(error) = self.flush()
        {
            tracing::warn!(path = %self.path.display(), %error, "vectors could not be flushed: some are made again");
        }
        let mut proven = Parts::new(self.model.dimensions);
        match proven.read(&self.path, &self.model) {
            Ok(_) => *self.write() = proven,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the vectors cannot be read: making them again");
                self.reset()?;
            }
        }
        Ok(self.applied().position >= before.position)
    }

    /// Drops everything.
    pub(crate) fn reset(&self) -> Result<(), IndexError> {
        if self.access == Access::Write {
            place::remove(&self.path).map_err(IndexError::new)?;
        }
        *self.write() = Parts::new(self.model.dimensions);
        Ok(())
    }
}
