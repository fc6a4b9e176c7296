//! The other instances of this agent, as their heartbeats make them known.
//!
//! Instances of one name share its subjects in a queue group (§3.3), and each has a journal of its
//! own.
//!
//! *Limits.* [`PEERS_MAX`] others. One that is not heard for [`BEATS_MISSED_MAX`] of its intervals
//! counts as gone.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;

/// Number of known instances.
const PEERS_MAX: usize = 64;
/// Missed heartbeats after which an instance counts as gone.
const BEATS_MISSED_MAX: u32 = 3;
/// The longest accepted heartbeat interval.
const INTERVAL_MAX: Duration = Duration::from_mins(10);

/// The other instances, each with the time at which it counts as gone unless heard again.
#[derive(Default)]
pub struct Peers(Mutex<HashMap<String, Instant>>);

/// The fields of a heartbeat that are used here.
#[derive(Deserialize)]
struct PeerHeartbeat {
    instance_id: String,
    interval_s: u64,
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock()
    }

    /// Records a heartbeat; returns whether it is the first of another instance, which should hear
    /// ours.
    pub fn hear(&self, own: &str, beat: &[u8], now: Instant) -> bool {
        let Ok(PeerHeartbeat { instance_id, interval_s }) = serde_json::from_slice(beat) else {
            return false;
        };
        // The id becomes a subject token.
        let is_token = !instance_id.is_empty()
            && instance_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_token || instance_id == own {
            return false;
        }
        let interval = Duration::from_secs(interval_s.max(1)).min(INTERVAL_MAX);
        let mut known = self.lock();
        known.retain(|_, gone| *gone > now);
        if known.len() >= PEERS_MAX && !known.contains_key(&instance_id) {
            return false;
        }
        known.insert(instance_id, now + interval * BEATS_MISSED_MAX).is_none()
    }

    /// The instances that are there.
    pub fn others(&self, now: Instant) -> Vec<String> {
        let known = self.lock();
        known.iter().filter(|(_, gone)| **gone > now).map(|(id, _)| id.clone()).collect()
    }

    /// Forgets an instance that is gone.
    pub fn forget(&self, instance_id: &str) {
        self.lock().remove(instance_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(instance_id: &str) -> Vec<u8> {
        format!(r#"{{"instance_id": "{instance_id}", "interval_s": 30, "agent": "ai-factory"}}"#)
            .into()
    }

    #[test]
    fn others_are_known_by_their_heartbeats_until_those_stay_away() {
        let (peers, now) = (Peers::default(), Instant::now());
        assert!(peers.hear("own", &beat("b"), now), "it is new");
        assert!(!peers.hear("own", &beat("b"), now + Duration::from_secs(30)));
        assert!(!peers.hear("own", &beat("own"), now));
        for nonsense in [&b"{"[..], b"{}", br#"{"instance_id": "a.>", "interval_s": 1}"#] {
            assert!(!peers.hear("own", nonsense, now));
        }
        assert_eq!(peers.others(now), ["b"]);
        let late = now + Duration::from_secs(121);
        assert!(peers.others(late).is_empty());
        assert!(peers.hear("own", &beat("b"), late), "it is back");
        peers.forget("b");
        assert!(peers.others(late).is_empty());
    }

    #[test]
    fn no_more_others_are_remembered_than_there_can_reasonably_be() {
        let (peers, now) = (Peers::default(), Instant::now());
        for number in 0..2 * PEERS_MAX {
            peers.hear("own", &beat(&number.to_string()), now);
        }
        assert_eq!(peers.others(now).len(), PEERS_MAX);
    }
}
