//! The effects under way in this process: each at most once at a time.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The effects under way here, by their ids.
#[derive(Debug)]
pub(crate) struct ActiveEffects<I>(Mutex<HashMap<I, EffectTokens>>);

/// The two tokens of an effect under way.
#[derive(Clone, Debug, Default)]
struct EffectTokens {
    /// Cancelled by who wants the effect to end.
    cancel: CancellationToken,
    /// Cancelled when the effect is over.
    over: CancellationToken,
}

/// The entry of an effect under way; dropping it removes the entry, whatever ended the effect.
pub(crate) struct ActiveEffect<'a, I: Copy + Eq + Hash> {
    effects: &'a ActiveEffects<I>,
    id: I,
    tokens: EffectTokens,
}

impl<I> Default for ActiveEffects<I> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<I: Copy + Eq + Hash> ActiveEffects<I> {
    /// Registers an effect as under way here, waiting until it is not under way elsewhere in the
    /// process.
    pub(crate) async fn claim(&self, id: I) -> ActiveEffect<'_, I> {
        loop {
            let over = match self.0.lock().entry(id) {
                Entry::Occupied(entry) => entry.get().over.clone(),
                Entry::Vacant(entry) => {
                    let tokens = entry.insert(EffectTokens::default()).clone();
                    return ActiveEffect { effects: self, id, tokens };
                }
            };
            over.cancelled().await;
        }
    }

    /// Asks an effect to end. The result says whether it is under way.
    pub(crate) fn cancel(&self, id: I) -> bool {
        let active = self.0.lock();
        let tokens = active.get(&id);
        if let Some(tokens) = tokens {
            tokens.cancel.cancel();
        }
        tokens.is_some()
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
        &self.tokens.cancel
    }
}

impl<I: Copy + Eq + Hash> Drop for ActiveEffect<'_, I> {
    fn drop(&mut self) {
        self.effects.0.lock().remove(&self.id);
        self.tokens.over.cancel();
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
        assert!(effects.contains(1) && !second.cancel().is_cancelled());
        drop(second);
        assert!(!effects.contains(1) && !effects.cancel(1));
    }
}
