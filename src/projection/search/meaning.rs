//! The index by meaning of one model: its vectors in memory and their file.
//!
//! Vectors of a model at hand are made where they are added; those of one that takes its time are made elsewhere
//! ([`SlowModel::make`]) and brought here.

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

/// The longest part of a query that the model is asked for, in pieces.
const QUERY_PIECES: usize = 1;

/// The file is written anew when more of its vectors are forgotten than are not, and this many more.
const FORGOTTEN_MIN: usize = 4_096;

/// Who makes vectors.
#[derive(Clone)]
pub(crate) enum Maker {
    /// A model that is at hand.
    AtHand(Arc<dyn Embedder>),
    /// A model that takes its time.
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

/// The index by meaning of one model.
pub(crate) struct MeaningIndex {
    path: PathBuf,
    access: Access,
    model: ModelIdentity,
    maker: Maker,
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
        model: ModelIdentity,
        maker: Maker,
        access: Access,
    ) -> Result<Self, IndexError> {
        let mut parts = Parts::new(model.dimensions);
        match parts.read(path, &model).map_err(IndexError::new)? {
            Found::Nothing | Found::Whole => {}
            // The writer is at work behind the end.
            Found::Cut if access == Access::Read => {}
            Found::Cut => tracing::warn!(path = %path.display(), position = parts.applied.position,
                "the vectors are damaged behind a position: to be made again from there"),
            Found::Foreign => {
                tracing::warn!(path = %path.display(), model = model.name,
                    "the vectors are of another model, or none: to be made again");
                // Nothing could be written there.
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
        self.pending() * self.model.dimensions
    }

    /// How many numbers a search looks at.
    pub(crate) fn numbers(&self) -> usize {
        self.read().vectors.len() * self.model.dimensions
    }

    /// All vectors now, and the position up to which every memory has its own.
    pub(super) fn vectors(&self) -> (Vectors, u64) {
        let parts = self.read();
        (parts.vectors.clone(), parts.applied.position)
    }

    /// The model that takes its time, if it is one.
    pub(crate) fn slow_model(&self) -> Option<&Arc<SlowModel>> {
        match &self.maker {
            Maker::AtHand(_) => None,
            Maker::Slow(model) => Some(model),
        }
    }

    /// The vector of a query, where the model is at hand; `None` where it knows nothing of it, or is not.
    pub(super) fn query(&self, text: &str) -> Result<Option<Vec<f32>>, IndexError> {
        let Maker::AtHand(model) = &self.maker else { return Ok(None) };
        let pieces: Vec<&str> = pieces(text, model.text_bytes_max()).take(QUERY_PIECES).collect();
        let vectors = model.embed(&pieces).map_err(IndexError::new)?;
        Ok(vectors.into_iter().find(|vector| vector.iter().any(|number| number.abs() > 0.0)))
    }

    /// What a model that is at hand makes of `changes`.
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

    /// The texts that vectors are to be made of, with the positions of their memories.
    pub(crate) fn texts<'a>(&self, changes: &'a Changes) -> Vec<(u64, &'a str)> {
        let bytes_max = self.maker.text_bytes_max();
        let all = changes.documents.iter().flat_map(|document| {
            pieces(&document.text, bytes_max).map(|piece| (document.position, piece))
        });
        all.collect()
    }

    /// Changes what `changes` says, as far as it is newer than what it contains, where the model is at hand.
    pub(crate) fn apply(&self, changes: &Changes, upto: Mark) -> Result<(), IndexError> {
        let Maker::AtHand(model) = &self.maker else { return Ok(()) };
        let made = self.made_at_hand(&**model, changes)?;
        self.add(&made, changes, upto);
        Ok(())
    }

    /// Changes what `changes` says with the vectors that were made of their [`Self::texts`], if it still contains
    /// everything up to `from` and no more. Answers whether it did.
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

    /// In a process that only reads: forgets nothing, and knows what is in the file by now.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        let mut parts = self.write();
        parts.read(&self.path, &self.model).map_err(IndexError::new)?;
        Ok(())
    }

    /// Keeps what the file proves, when what waits has been put there, and nothing else. Answers whether that is all there was.
    /// Blocks; while nobody adds or flushes.
    pub(super) fn prove(&self) -> Result<bool, IndexError> {
        let before = self.applied();
        if self.access == Access::Write
            && let Err(error) = self.flush()
        {
            tracing::warn!(path = %self.path.display(), %error, "some vectors are to be made again");
        }
        let mut proven = Parts::new(self.model.dimensions);
        match proven.read(&self.path, &self.model) {
            Ok(_) => *self.write() = proven,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the vectors cannot be read: to be made again");
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
