//! Places for effects: so many at once, and perhaps so many more that wait.

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::spans;

/// The places.
#[derive(Debug)]
pub(crate) struct EffectSlots {
    slots: Semaphore,
    /// Permits to wait for a place; `None` if any number may wait.
    queue: Option<Semaphore>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// As many wait as may wait.
    Full,
    /// The effect was cancelled while it waited.
    Cancelled,
    /// The actor is stopping.
    Stopping,
}

impl EffectSlots {
    /// `max` effects at once. Any number waits: what else bounds the requests bounds the wait.
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Semaphore::new(max), queue: None }
    }

    /// `max` effects at once, and at most `waiting_max` that wait.
    pub(crate) fn bounded(max: usize, waiting_max: usize) -> Self {
        Self { slots: Semaphore::new(max), queue: Some(Semaphore::new(waiting_max)) }
    }

    /// Waits for a free place.
    pub(crate) async fn take(
        &self,
        cancel: &CancellationToken,
    ) -> Result<SemaphorePermit<'_>, NoSlot> {
        if let Ok(slot) = self.slots.try_acquire() {
            return Ok(slot);
        }
        let _ticket = match &self.queue {
            None => None,
            Some(queue) => Some(queue.try_acquire().map_err(|_| NoSlot::Full)?),
        };
        let slot = async {
            tokio::select! {
                slot = self.slots.acquire() => slot.map_err(|_| NoSlot::Stopping),
                () = cancel.cancelled() => Err(NoSlot::Cancelled),
            }
        };
        slot.instrument(spans::wait_for_slot()).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn beyond_the_places_so_many_wait_and_further_ones_are_refused() {
        let slots = EffectSlots::bounded(1, 1);
        let (cancel, other) = (CancellationToken::new(), CancellationToken::new());
        let first = slots.take(&cancel).await.unwrap();
        let mut second = Box::pin(slots.take(&cancel));
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(slots.take(&other).await.err(), Some(NoSlot::Full));
        cancel.cancel();
        assert_eq!(second.await.err(), Some(NoSlot::Cancelled));
        let mut third = Box::pin(slots.take(&other));
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn without_a_bound_any_number_waits() {
        let slots = EffectSlots::new(1);
        let cancel = CancellationToken::new();
        let _first = slots.take(&cancel).await.unwrap();
        for _ in 0..100 {
            assert!(slots.take(&cancel).now_or_never().is_none());
        }
    }
}
