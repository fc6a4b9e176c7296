//! Sessions that wait for somebody and have left memory: for a person's answer, or for a budget.
//!
//! *Limits.* [`crate::limits::ModelLimits::sessions_waiting_max`], upheld where goals are accepted.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use ai_factory_schemas::{id::SessionId, time::Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwaitedBy {
    /// A person's answer, up to this time.
    Question {
        /// When nobody answers any more.
        expires: Timestamp,
    },
    /// A larger budget.
    Budget,
    /// The budget of another day.
    Day,
}

/// The sessions that wait.
#[derive(Default)]
pub struct WaitingSessions {
    waiting: Mutex<HashMap<SessionId, AwaitedBy>>,
    /// Changes whenever a session begins to wait.
    added: watch::Sender<()>,
    /// How often a session began to wait for another day.
    day_waits: AtomicU64,
}

impl WaitingSessions {
    /// How many wait.
    pub fn count(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Whether a session waits.
    pub fn has(&self, id: SessionId) -> bool {
        self.waiting.lock().contains_key(&id)
    }

    /// Adds a session.
    pub fn insert(&self, id: SessionId, awaited: AwaitedBy) {
        self.waiting.lock().insert(id, awaited);
        if awaited == AwaitedBy::Day {
            self.day_waits.fetch_add(1, Ordering::Relaxed);
        }
        self.added.send_replace(());
    }

    /// Removes a session that goes on.
    pub fn remove(&self, id: SessionId) {
        self.waiting.lock().remove(&id);
    }

    /// Tells of further sessions.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.added.subscribe()
    }

    /// How often a session began to wait for another day: more than before, if the day refused one
    /// in between.
    pub fn day_waits(&self) -> u64 {
        self.day_waits.load(Ordering::Relaxed)
    }

    /// When the next question expires after `now`.
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let waiting = self.waiting.lock();
        let expiries = waiting.values().filter_map(|awaited| match awaited {
            AwaitedBy::Question { expires } => Some(*expires),
            AwaitedBy::Budget | AwaitedBy::Day => None,
        });
        expiries.filter(|expires| *expires > now).min()
    }

    /// The sessions whose question has expired by `now`.
    pub fn expired(&self, now: Timestamp) -> Vec<SessionId> {
        self.which(|awaited| matches!(awaited, AwaitedBy::Question { expires } if expires <= now))
    }

    /// The sessions that wait for another day.
    pub fn of_day(&self) -> Vec<SessionId> {
        self.which(|awaited| awaited == AwaitedBy::Day)
    }

    fn which(&self, is_one: impl Fn(AwaitedBy) -> bool) -> Vec<SessionId> {
        let waiting = self.waiting.lock();
        waiting.iter().filter(|(_, awaited)| is_one(**awaited)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_first_expiry_is_told_and_only_expired_questions_are_due() {
        let sessions = WaitingSessions::default();
        let (early, late) = (SessionId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
        let (poor, tired) = (SessionId(Uuid::from_u128(3)), SessionId(Uuid::from_u128(4)));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (first, second) = (at("2026-12-01T00:00:00Z"), at("2026-12-02T00:00:00Z"));
        sessions.insert(late, AwaitedBy::Question { expires: second });
        sessions.insert(early, AwaitedBy::Question { expires: first });
        sessions.insert(poor, AwaitedBy::Budget);
        sessions.insert(tired, AwaitedBy::Day);
        let begin = Timestamp::default();
        assert_eq!((sessions.count(), sessions.next_expiry(begin)), (4, Some(first)));
        // What has expired stays until its actor starts, and is no reason to look at once.
        assert_eq!(sessions.next_expiry(first), Some(second));
        assert_eq!(sessions.day_waits(), 1);
        assert_eq!(sessions.expired(first), [early]);
        assert_eq!(sessions.of_day(), [tired]);
        sessions.remove(early);
        assert_eq!((sessions.count(), sessions.next_expiry(begin)), (3, Some(second)));
    }
}
