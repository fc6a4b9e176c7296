//! Which index by meaning serves: that of the model that is wanted, or the one at hand until the other is complete.
//!
//! Each model has a file of its own. The one whose vectors reach further serves; the vectors of a model that is wanted and
//! does not serve yet are made beside it, and when they are complete it takes over. The file of the other stays, to go
//! on from where it ends.

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

/// The file of the model at hand.
const FILE: &str = "vectors";

/// All indexes by meaning.
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
    /// Of the model that is wanted, while another serves.
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

    /// The one that answers.
    pub(crate) fn serving(&self) -> Arc<MeaningIndex> {
        Arc::clone(&self.now().serving)
    }

    /// The model that takes its time, if one is wanted.
    pub(crate) fn wanted(&self) -> Option<&Arc<SlowModel>> {
        self.wanted.as_ref()
    }

    /// The index of the model that takes its time, whether it serves or not; `None` while it is not known which model that is.
    pub(crate) fn of_wanted(&self) -> Option<Arc<MeaningIndex>> {
        let now = self.now();
        let is_serving = now.serving.slow_model().is_some();
        if is_serving { Some(Arc::clone(&now.serving)) } else { now.next.clone() }
    }

    /// Opens the index of the model that is wanted, now that it is known which one that is.
    pub(crate) fn open_next(&self) -> Result<(), IndexError> {
        let Some(model) = self.wanted.as_ref().filter(|_| self.of_wanted().is_none()) else {
            return Ok(());
        };
        let next = open_wanted(&self.directory, model, self.access)?.map(Arc::new);
        self.now.write().unwrap_or_else(PoisonError::into_inner).next = next;
        Ok(())
    }

    /// The next one serves.
    pub(crate) fn swap(&self) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = now.next.take() {
            now.serving = next;
        }
    }

    /// Whatever is there.
    pub(crate) fn each(&self) -> impl Iterator<Item = Arc<MeaningIndex>> + use<> {
        let now = self.now().clone();
        [Some(now.serving), now.next].into_iter().flatten()
    }

    /// Drops everything but the vectors of the model that is wanted, as far as their file proves them: they may have cost time or
    /// money. Where something of them is lost, the model at hand serves until they are complete again.
    pub(super) fn reset(&self) -> Result<(), IndexError> {
        if let Some(wanted) = self.of_wanted()
            && !wanted.prove()?
        {
            self.step_back()?;
        }
        self.each().filter(|index| index.slow_model().is_none()).try_for_each(|index| index.reset())
    }

    /// Drops the vectors of the model that is wanted; the model at hand serves until they are complete again.
    pub(crate) fn reset_wanted(&self) -> Result<(), IndexError> {
        let Some(wanted) = self.of_wanted() else { return Ok(()) };
        wanted.reset()?;
        self.step_back()
    }

    /// The model at hand serves.
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

/// The index of a model that takes its time, if it is known which model that is.
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
