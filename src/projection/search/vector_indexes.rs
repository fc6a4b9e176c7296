//! The vector indexes and which of them serves: that of the chosen model, or the built-in one until
//! the other is complete.
//!
//! Each model has a file of its own, and the one whose vectors reach further serves. The vectors of
//! a chosen model that does not serve yet are made in the background; when they are complete, it
//! takes over. The other file stays, to be continued from where it ends.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use ai_factory_actors::ports::embedder::{ModelIdentity, Models};

use super::{
    IndexError,
    meaning::{Maker, MeaningIndex},
    slow::SlowModel,
    vector_file,
};
use crate::projection::Access;

/// File of the built-in model.
const FILE: &str = "vectors";

/// All vector indexes.
pub(crate) struct Meanings {
    directory: PathBuf,
    access: Access,
    at_hand: Maker,
    at_hand_identity: ModelIdentity,
    wanted: Option<Arc<SlowModel>>,
    now: RwLock<Now>,
}

#[derive(Clone)]
struct Now {
    serving: Arc<MeaningIndex>,
    /// Index of the chosen model, while another serves.
    next: Option<Arc<MeaningIndex>>,
}

impl Meanings {
    pub(super) fn open(
        directory: &Path,
        models: Models,
        access: Access,
    ) -> Result<Self, IndexError> {
        let at_hand_identity = models.at_hand.identity().clone();
        let at_hand = Maker::AtHand(models.at_hand);
        let wanted = models.wanted.map(|model| Arc::new(SlowModel::new(model)));
        let path = directory.join(FILE);
        let open_at_hand =
            || MeaningIndex::open(&path, at_hand_identity.clone(), at_hand.clone(), access);
        let now = match &wanted {
            None => Now { serving: Arc::new(open_at_hand()?), next: None },
            Some(model) => {
                let next = open_wanted(directory, model, access)?.map(Arc::new);
                match &next {
                    Some(next)
                        if next.applied().position > 0
                            && next.applied().position >= vector_file::upto(&path) =>
                    {
                        Now { serving: Arc::clone(next), next: None }
                    }
                    _ => Now { serving: Arc::new(open_at_hand()?), next },
                }
            }
        };
        let (directory, now) = (directory.to_owned(), RwLock::new(now));
        Ok(Self { directory, access, at_hand, at_hand_identity, wanted, now })
    }

    fn now(&self) -> RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index that serves.
    pub(crate) fn serving(&self) -> Arc<MeaningIndex> {
        Arc::clone(&self.now().serving)
    }

    /// The remote model, if one is chosen.
    pub(crate) fn wanted(&self) -> Option<&Arc<SlowModel>> {
        self.wanted.as_ref()
    }

    /// Index of the chosen remote model, whether it serves or not; `None` while the model's
    /// identity is not known.
    pub(crate) fn of_wanted(&self) -> Option<Arc<MeaningIndex>> {
        let now = self.now();
        let is_serving = now.serving.slow_model().is_some();
        if is_serving { Some(Arc::clone(&now.serving)) } else { now.next.clone() }
    }

    /// Opens the index of the chosen model, once its identity is known.
    pub(crate) fn open_next(&self) -> Result<(), IndexError> {
        let Some(model) = self.wanted.as_ref().filter(|_| self.of_wanted().is_none()) else {
            return Ok(());
        };
        let next = open_wanted(&self.directory, model, self.access)?.map(Arc::new);
        self.now.write().unwrap_or_else(PoisonError::into_inner).next = next;
        Ok(())
    }

    /// Lets the chosen model's index serve.
    pub(crate) fn swap(&self) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = now.next.take() {
            now.serving = next;
        }
    }

    /// All open indexes.
    pub(crate) fn each(&self) -> impl Iterator<Item = Arc<MeaningIndex>> + use<> {
        let now = self.now().clone();
        [Some(now.serving), now.next].into_iter().flatten()
    }

    /// Drops everything but those vectors of the chosen model that pass their checksums: they may
    /// have cost time or money. If some of them are lost, the built-in model serves until they are
    /// complete again.
    pub(super) fn reset(&self) -> Result<(), IndexError> {
        if let Some(wanted) = self.of_wanted()
            && !wanted.prove()?
        {
            self.step_back()?;
        }
        self.each().filter(|index| index.slow_model().is_none()).try_for_each(|index| index.reset())
    }

    /// Drops the vectors of the chosen model; the built-in model serves until they are complete
    /// again.
    pub(crate) fn reset_wanted(&self) -> Result<(), IndexError> {
        let Some(wanted) = self.of_wanted() else { return Ok(()) };
        wanted.reset()?;
        self.step_back()
    }

    /// Lets the built-in model's index serve.
    fn step_back(&self) -> Result<(), IndexError> {
        if self.serving().slow_model().is_none() {
            return Ok(());
        }
        let (path, model) = (self.directory.join(FILE), self.at_hand_identity.clone());
        let at_hand = MeaningIndex::open(&path, model, self.at_hand.clone(), self.access)?;
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let slow = std::mem::replace(&mut now.serving, Arc::new(at_hand));
        now.next = Some(slow);
        Ok(())
    }
}

/// Index of a remote model, if the model's identity is known.
fn open_wanted(
    directory: &Path,
    model: &Arc<SlowModel>,
    access: Access,
) -> Result<Option<MeaningIndex>, IndexError> {
    let name = blake3::hash(model.name().as_bytes()).to_hex();
    let path = directory.join(format!("{FILE}-{}", &name[..16]));
    let found = vector_file::model(&path).filter(|found| model.recognises(found));
    let Some(identity) = found.or_else(|| model.identity()) else { return Ok(None) };
    MeaningIndex::open(&path, identity, Maker::Slow(Arc::clone(model)), access).map(Some)
}
