//! The vector index of one model: its vectors in memory and their file.
//!
//! Vectors of the built-in model are made when they are added; those of a remote model are made
//! elsewhere ([`RemoteEmbedder::make`]) and then added.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_fold::{Access, Mark, atomic_replace};
use ai_factory_ports::embedder::{Embedder, ModelIdentity};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    chunking::chunks,
    documents::IndexChanges,
    error::IndexError,
    remote_embedder::RemoteEmbedder,
    vector_block::QuantizedVector,
    vector_file::{self, FileEnd, FileState, Frame},
    vectors::Vectors,
};

/// Limit of the query text sent to the model, in chunks.
const QUERY_CHUNKS: usize = 1;

/// The file is rewritten when more of its vectors are forgotten than are not, by at least this
/// many.
const FORGOTTEN_MIN: usize = 4_096;

/// Source of vectors.
#[derive(Clone)]
pub(crate) enum VectorSource {
    /// The built-in model.
    BuiltIn(Arc<dyn Embedder>),
    /// A remote model.
    Remote(Arc<RemoteEmbedder>),
}

impl VectorSource {
    fn text_bytes_max(&self) -> usize {
        match self {
            Self::BuiltIn(model) => model.text_bytes_max(),
            Self::Remote(model) => model.text_bytes_max(),
        }
    }
}

/// The vector index of one model.
pub(crate) struct VectorIndex {
    path: PathBuf,
    access: Access,
    model: ModelIdentity,
    source: VectorSource,
    state: RwLock<VectorState>,
}

struct VectorState {
    vectors: Vectors,
    /// Number of vectors in the file, including forgotten ones.
    written: usize,
    /// Positions forgotten since the last flush.
    forgotten: BTreeSet<u64>,
    expired: u64,
    end: FileEnd,
    applied: Mark,
}

impl VectorState {
    fn new(dimensions: usize) -> Self {
        let vectors = Vectors::new(dimensions);
        Self {
            vectors,
            written: 0,
            forgotten: BTreeSet::new(),
            expired: 0,
            end: FileEnd::default(),
            applied: Mark::default(),
        }
    }

    /// Reads the file from its known end on.
    fn read(&mut self, path: &Path, model: &ModelIdentity) -> std::io::Result<FileState> {
        let known = self.applied.position;
        let (vectors, dimensions) = (&mut self.vectors, model.dimensions);
        let written = &mut self.written;
        let found = vector_file::read(path, model, &mut self.end, |frame| {
            let block = frame.block;
            *written += block.len();
            for (index, position) in block.positions.iter().enumerate() {
                if *position > known {
                    let numbers = block.numbers[index * dimensions..][..dimensions].to_vec();
                    vectors
                        .push(*position, &QuantizedVector { scale: block.scales[index], numbers });
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
    fn forget(&mut self, changes: &IndexChanges) {
        self.forgotten.extend(&changes.forgotten);
        self.expired = self.expired.max(changes.expired);
        self.vectors.forget(&changes.forgotten.iter().copied().collect(), changes.expired);
    }
}

impl VectorIndex {
    /// Opens the file. Vectors that are damaged or of another model are left out, to be rebuilt.
    pub(crate) fn open(
        path: &Path,
        model: ModelIdentity,
        source: VectorSource,
        access: Access,
    ) -> Result<Self, IndexError> {
        let mut state = VectorState::new(model.dimensions);
        match state.read(path, &model).map_err(IndexError::new)? {
            FileState::Nothing | FileState::Whole => {}
            // The writer is appending behind the end.
            FileState::Cut if access == Access::Read => {}
            FileState::Cut => {
                tracing::warn!(path = %path.display(), position = state.applied.position,
                "the vectors are damaged behind a position: making them again from there");
            }
            FileState::Foreign => {
                tracing::warn!(path = %path.display(), model = model.name,
                    "the file contains no vectors of this model: making them again");
                // A directory in the file's place would make every write fail.
                if access == Access::Write && path.is_dir() {
                    atomic_replace::remove(path).map_err(IndexError::new)?;
                }
            }
        }
        Ok(Self { path: path.to_owned(), access, model, source, state: RwLock::new(state) })
    }

    fn read(&self) -> RwLockReadGuard<'_, VectorState> {
        self.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, VectorState> {
        self.state.write()
    }

    /// Mark up to which everything is folded.
    pub(crate) fn applied(&self) -> Mark {
        self.read().applied
    }

    /// Number of vectors that are not in the file.
    pub(crate) fn pending(&self) -> usize {
        let state = self.read();
        state.vectors.len_since(state.end.mark.position)
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
        let state = self.read();
        (state.vectors.clone(), state.applied.position)
    }

    /// The remote model, if it is one.
    pub(crate) fn remote_embedder(&self) -> Option<&Arc<RemoteEmbedder>> {
        match &self.source {
            VectorSource::BuiltIn(_) => None,
            VectorSource::Remote(model) => Some(model),
        }
    }

    /// The vector of a query by the built-in model; `None` if the model has no vector for it or is
    /// a remote one.
    pub(super) fn query(&self, text: &str) -> Result<Option<Vec<f32>>, IndexError> {
        let VectorSource::BuiltIn(model) = &self.source else { return Ok(None) };
        let chunks: Vec<&str> = chunks(text, model.text_bytes_max()).take(QUERY_CHUNKS).collect();
        let vectors = model.embed(&chunks).map_err(IndexError::new)?;
        Ok(vectors.into_iter().find(|vector| vector.iter().any(|number| number.abs() > 0.0)))
    }

    /// Vectors of `changes` by the built-in model.
    fn embed_built_in(
        &self,
        model: &dyn Embedder,
        changes: &IndexChanges,
    ) -> Result<Vec<(u64, QuantizedVector)>, IndexError> {
        let applied = self.applied().position;
        let mut made = Vec::new();
        for document in changes.documents.iter().filter(|document| document.position > applied) {
            let chunks: Vec<&str> = chunks(&document.text, model.text_bytes_max()).collect();
            for vector in model.embed(&chunks).map_err(IndexError::new)? {
                made.extend(
                    QuantizedVector::new(&vector).map(|vector| (document.position, vector)),
                );
            }
        }
        Ok(made)
    }

    /// The texts to embed, each with the position of its memory.
    pub(crate) fn texts<'a>(&self, changes: &'a IndexChanges) -> Vec<(u64, &'a str)> {
        let bytes_max = self.source.text_bytes_max();
        let all = changes.documents.iter().flat_map(|document| {
            chunks(&document.text, bytes_max).map(|chunk| (document.position, chunk))
        });
        all.collect()
    }

    /// Applies `changes`, as far as they are newer than the applied mark; for the built-in model.
    pub(crate) fn apply(&self, changes: &IndexChanges, upto: Mark) -> Result<(), IndexError> {
        let VectorSource::BuiltIn(model) = &self.source else { return Ok(()) };
        let made = self.embed_built_in(&**model, changes)?;
        self.add(&made, changes, upto);
        Ok(())
    }

    /// Applies `changes` with the vectors made of their [`Self::texts`], provided that the applied
    /// mark is `from`. Returns whether it was.
    pub(crate) fn apply_embedded(
        &self,
        changes: &IndexChanges,
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
            .filter_map(|(position, vector)| Some((*position, QuantizedVector::new(vector)?)))
            .collect();
        self.add(&rounded, changes, upto);
        true
    }

    fn add(&self, made: &[(u64, QuantizedVector)], changes: &IndexChanges, upto: Mark) {
        let mut state = self.write();
        // A reader may have read a newer part of the file that contains it.
        let applied = state.applied.position;
        for (position, vector) in made.iter().filter(|(position, _)| *position > applied) {
            state.vectors.push(*position, vector);
        }
        if changes.is_forgetting() {
            state.forget(changes);
        }
        if upto.position > applied {
            state.applied = upto;
        }
    }

    /// Writes vectors that are not in the file. Blocks; one flush at a time; only in a writing
    /// process.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let (vectors, written, mut end, mark, forgotten, expired) = {
            let mut state = self.write();
            if state.applied == state.end.mark {
                return Ok(());
            }
            let (forgotten, expired) = (std::mem::take(&mut state.forgotten), state.expired);
            (state.vectors.clone(), state.written, state.end, state.applied, forgotten, expired)
        };
        let model = &self.model;
        let since = vectors.since(end.mark.position);
        let mut in_file = written + since.len();
        let flushed = if in_file > FORGOTTEN_MIN + 2 * vectors.len() {
            in_file = vectors.len();
            vector_file::replace(&self.path, model, mark, vectors.parts())
                .map(|replaced| end = replaced)
        } else {
            let forgotten = forgotten.iter().copied().collect();
            let frame = Frame { mark, block: since, forgotten, expired };
            vector_file::append(&self.path, model, &mut end, &frame)
        };
        let mut state = self.write();
        if let Err(error) = flushed {
            state.forgotten.extend(forgotten);
            return Err(IndexError::new(error));
        }
        (state.written, state.end) = (in_file, end);
        Ok(())
    }

    /// In a process that only reads: reads what was appended to the file, and drops nothing.
    pub(crate) fn reload(&self) -> Result<(), IndexError> {
        let mut state = self.write();
        state.read(&self.path, &self.model).map_err(IndexError::new)?;
        Ok(())
    }

    /// Flushes, then reads the file again and keeps only vectors that pass its checksums. Returns
    /// whether nothing was lost. Blocks; must not run while vectors are added or flushed.
    pub(super) fn prove(&self) -> Result<bool, IndexError> {
        let before = self.applied();
        if self.access == Access::Write
            && let Err(error) = self.flush()
        {
            tracing::warn!(path = %self.path.display(), %error, "vectors could not be flushed: some are rebuilt");
        }
        let mut proven = VectorState::new(self.model.dimensions);
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
            atomic_replace::remove(&self.path).map_err(IndexError::new)?;
        }
        *self.write() = VectorState::new(self.model.dimensions);
        Ok(())
    }
}
