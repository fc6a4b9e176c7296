//! The effects under way in this process: each at most once at a time.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The effects under way here, by their ids.
#[derive(Debug)]
pub(crate) struct ActiveEffects<I>(Mutex<HashMap<I, EffectClaims>>);

/// The claims of an effect: the one under way, and those that wait for its end.
#[derive(Debug, Default)]
struct EffectClaims {
    count: usize,
    /// Cancelled by who wants the effect to end, for all claims made before. Later claims have
    /// another one.
    cancel: CancellationToken,
    /// Locked by the claim under way.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The entry of an effect under way; dropping it removes the entry, whatever ended the effect.
pub(crate) struct ActiveEffect<'a, I: Copy + Eq + Hash> {
    effects: &'a ActiveEffects<I>,
    id: I,
    cancel: CancellationToken,
    /// Absent while it waits.
    turn: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl<I> Default for ActiveEffects<I> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<I: Copy + Eq + Hash> ActiveEffects<I> {
    /// Registers an effect as under way here, waiting until it is not under way elsewhere in the
    /// process. A claim that waits is cancelled as one under way.
    pub(crate) async fn claim(&self, id: I) -> ActiveEffect<'_, I> {
        let (mut entry, turn) = self.register(id);
        entry.turn = Some(turn.lock_owned().await);
        entry
    }

    fn register(&self, id: I) -> (ActiveEffect<'_, I>, Arc<tokio::sync::Mutex<()>>) {
        let mut active = self.0.lock();
        let claims = active.entry(id).or_default();
        claims.count += 1;
        let cancel = claims.cancel.clone();
        (ActiveEffect { effects: self, id, cancel, turn: None }, Arc::clone(&claims.turn))
    }

    /// Asks an effect to end. The result says whether it is under way.
    pub(crate) fn cancel(&self, id: I) -> bool {
        let mut active = self.0.lock();
        let claims = active.get_mut(&id);
        let is_active = claims.is_some();
        if let Some(claims) = claims {
            std::mem::take(&mut claims.cancel).cancel();
        }
        is_active
    }

    /// Whether an effect is under way.
    pub(crate) fn contains(&self, id: I) -> bool {
        self.0.lock().contains_key(&id)
    }
}

impl<I: Copy + Eq + Hash> ActiveEffect<'_, I> {
    /// The id.
    pub(crate) fn id(&self) -> I {
        self.id
    }

    /// Cancelled by who wants the effect to end.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }
}

impl<I: Copy + Eq + Hash> Drop for ActiveEffect<'_, I> {
    fn drop(&mut self) {
        let mut active = self.effects.0.lock();
        // The next claim has its turn before the entry can be made anew.
        drop(self.turn.take());
        if let Some(claims) = active.get_mut(&self.id) {
            claims.count -= 1;
            if claims.count == 0 {
                active.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_second_claim_waits_until_the_first_is_dropped() {
        let effects = ActiveEffects::default();
        let first = effects.claim(1).await;
        assert!(effects.claim(2).now_or_never().is_some());
        let mut second = Box::pin(effects.claim(1));
        assert!((&mut second).now_or_never().is_none());
        assert!(effects.cancel(1) && first.cancel().is_cancelled());
        drop(first);
        let second = second.await;
        assert!(effects.contains(1) && second.cancel().is_cancelled(), "it waited");
        drop(second);
        assert!(!effects.contains(1) && !effects.cancel(1));
    }

    #[tokio::test]
    async fn a_cancel_reaches_claims_made_before_it_and_none_made_after() {
        let effects = ActiveEffects::default();
        let first = effects.claim(1).await;
        let mut second = Box::pin(effects.claim(1));
        assert!((&mut second).now_or_never().is_none());
        assert!(effects.cancel(1));
        let mut third = Box::pin(effects.claim(1));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        let second = second.await;
        assert!(second.cancel().is_cancelled());
        drop(second);
        let third = third.await;
        assert!(!third.cancel().is_cancelled());
        assert!(effects.cancel(1) && third.cancel().is_cancelled());
        // A claim that gives up leaves nothing.
        assert!(effects.claim(1).now_or_never().is_none());
        drop(third);
        assert!(!effects.contains(1));
    }
}
