//! The vector indexes and which of them serves: that of the chosen model, or the built-in one until
//! the other is complete.
//!
//! Each model has a file of its own, and the one whose vectors reach further serves. The vectors of
//! a chosen model that does not serve yet are made in the background; when they are complete, it
//! takes over. The other file stays, to be continued from where it ends.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory_fold::Access;
use ai_factory_ports::embedder::{ModelIdentity, Models};
use parking_lot::{RwLock, RwLockReadGuard};

use super::{
    error::IndexError,
    remote_embedder::RemoteEmbedder,
    vector_file,
    vector_index::{VectorIndex, VectorSource},
};

/// File of the built-in model.
const FILE: &str = "vectors";

/// All vector indexes.
pub(crate) struct VectorIndexes {
    directory: PathBuf,
    access: Access,
    built_in: VectorSource,
    built_in_identity: ModelIdentity,
    configured: Option<Arc<RemoteEmbedder>>,
    now: RwLock<ServingIndexes>,
}

#[derive(Clone)]
struct ServingIndexes {
    serving: Arc<VectorIndex>,
    /// Index of the chosen model, while another serves.
    next: Option<Arc<VectorIndex>>,
}

impl VectorIndexes {
    pub(super) fn open(
        directory: &Path,
        models: Models,
        access: Access,
    ) -> Result<Self, IndexError> {
        let built_in_identity = models.built_in.identity().clone();
        let built_in = VectorSource::BuiltIn(models.built_in);
        let configured = models.configured.map(|model| Arc::new(RemoteEmbedder::new(model)));
        let path = directory.join(FILE);
        let open_built_in =
            || VectorIndex::open(&path, built_in_identity.clone(), built_in.clone(), access);
        let now = match &configured {
            None => ServingIndexes { serving: Arc::new(open_built_in()?), next: None },
            Some(model) => {
                let next = open_configured(directory, model, access)?.map(Arc::new);
                match &next {
                    Some(next)
                        if next.applied().position > 0
                            && next.applied().position >= vector_file::upto(&path) =>
                    {
                        ServingIndexes { serving: Arc::clone(next), next: None }
                    }
                    _ => ServingIndexes { serving: Arc::new(open_built_in()?), next },
                }
            }
        };
        let (directory, now) = (directory.to_owned(), RwLock::new(now));
        Ok(Self { directory, access, built_in, built_in_identity, configured, now })
    }

    fn now(&self) -> RwLockReadGuard<'_, ServingIndexes> {
        self.now.read()
    }

    /// The index that serves.
    pub(crate) fn serving(&self) -> Arc<VectorIndex> {
        Arc::clone(&self.now().serving)
    }

    /// The remote model, if one is chosen.
    pub(crate) fn configured(&self) -> Option<&Arc<RemoteEmbedder>> {
        self.configured.as_ref()
    }

    /// Index of the chosen remote model, whether it serves or not; `None` while the model's
    /// identity is not known.
    pub(crate) fn configured_index(&self) -> Option<Arc<VectorIndex>> {
        let now = self.now();
        let is_serving = now.serving.remote_embedder().is_some();
        if is_serving { Some(Arc::clone(&now.serving)) } else { now.next.clone() }
    }

    /// Opens the index of the chosen model, once its identity is known.
    pub(crate) fn open_next(&self) -> Result<(), IndexError> {
        let Some(model) = self.configured.as_ref().filter(|_| self.configured_index().is_none())
        else {
            return Ok(());
        };
        let next = open_configured(&self.directory, model, self.access)?.map(Arc::new);
        self.now.write().next = next;
        Ok(())
    }

    /// Lets the chosen model's index serve.
    pub(crate) fn swap(&self) {
        let mut now = self.now.write();
        if let Some(next) = now.next.take() {
            now.serving = next;
        }
    }

    /// All open indexes.
    pub(crate) fn each(&self) -> impl Iterator<Item = Arc<VectorIndex>> + use<> {
        let now = self.now().clone();
        [Some(now.serving), now.next].into_iter().flatten()
    }

    /// Drops everything but those vectors of the chosen model that pass their checksums: they may
    /// have cost time or money. If some of them are lost, the built-in model serves until they are
    /// complete again.
    pub(super) fn reset(&self) -> Result<(), IndexError> {
        if let Some(configured) = self.configured_index()
            && !configured.prove()?
        {
            self.serve_built_in()?;
        }
        self.each()
            .filter(|index| index.remote_embedder().is_none())
            .try_for_each(|index| index.reset())
    }

    /// Drops the vectors of the chosen model; the built-in model serves until they are complete
    /// again.
    pub(crate) fn reset_configured(&self) -> Result<(), IndexError> {
        let Some(configured) = self.configured_index() else { return Ok(()) };
        configured.reset()?;
        self.serve_built_in()
    }

    /// Lets the built-in model's index serve.
    fn serve_built_in(&self) -> Result<(), IndexError> {
        if self.serving().remote_embedder().is_none() {
            return Ok(());
        }
        let (path, model) = (self.directory.join(FILE), self.built_in_identity.clone());
        let built_in = VectorIndex::open(&path, model, self.built_in.clone(), self.access)?;
        let mut now = self.now.write();
        let remote = std::mem::replace(&mut now.serving, Arc::new(built_in));
        now.next = Some(remote);
        Ok(())
    }
}

/// Index of a remote model, if the model's identity is known.
fn open_configured(
    directory: &Path,
    model: &Arc<RemoteEmbedder>,
    access: Access,
) -> Result<Option<VectorIndex>, IndexError> {
    let name = blake3::hash(model.name().as_bytes()).to_hex();
    let path = directory.join(format!("{FILE}-{}", &name[..16]));
    let found = vector_file::model(&path).filter(|found| model.recognises(found));
    let Some(identity) = found.or_else(|| model.identity()) else { return Ok(None) };
    VectorIndex::open(&path, identity, VectorSource::Remote(Arc::clone(model)), access).map(Some)
}
