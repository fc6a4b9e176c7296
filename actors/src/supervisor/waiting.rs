//! Sessions that wait: questions expire, and the day's budget begins anew at midnight.

use std::time::Duration;

use ai_factory_schemas::time::Timestamp;
use tokio::time::{sleep, timeout};

use super::Supervisor;
use crate::session_registry::SessionRequest;

/// The longest sleep between two looks at the clock, which may be set, and stands still with the
/// machine.
const LOOK_EVERY: Duration = Duration::from_mins(1);

const DAY_MICROS: i64 = 86_400_000_000;

/// The first moment of the next day, by UTC.
fn next_midnight(now: Timestamp) -> Timestamp {
    let day = now.as_micros().div_euclid(DAY_MICROS);
    Timestamp::from_micros(day.saturating_add(1).saturating_mul(DAY_MICROS))
}

/// From `now` to `then`.
fn until(now: Timestamp, then: Timestamp) -> Duration {
    let micros = then.as_micros().saturating_sub(now.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

impl Supervisor {
    /// Wakes sessions whose question has expired, for ever. A session whose actor could not be
    /// started still waits, and is woken again at the next look.
    pub(super) async fn follow_waiting(&self) {
        let waiting = &self.deps.sessions.waiting;
        let mut added = waiting.watch();
        loop {
            added.mark_unchanged();
            let now = self.deps.clock.now();
            for id in waiting.expired(now) {
                self.pass_on(id, SessionRequest::QuestionExpired).await;
            }
            let next = waiting.next_expiry(now);
            let pause = next.map_or(LOOK_EVERY, |expiry| until(now, expiry).min(LOOK_EVERY));
            // Woken by a session that begins to wait, or by the time.
            if let Ok(Err(_)) = timeout(pause, added.changed()).await {
                return;
            }
        }
    }

    /// Wakes sessions that wait for another day when it begins, for ever.
    pub(super) async fn follow_days(&self) {
        let clock = &self.deps.clock;
        let mut midnight = next_midnight(clock.now());
        loop {
            sleep(until(clock.now(), midnight).min(LOOK_EVERY)).await;
            let now = clock.now();
            if now >= midnight {
                midnight = next_midnight(now);
                self.retry_day().await;
            }
        }
    }

    /// Tries again what the day's budget had no room for: as many sessions at once as have a place,
    /// and no further ones once the day has no room for one.
    pub(super) async fn retry_day(&self) {
        let sessions = &self.deps.sessions;
        let waits = sessions.waiting.day_waits();
        for id in sessions.waiting.of_day() {
            sessions.wait_for_place(self.deps.limits.sessions_max).await;
            if sessions.waiting.day_waits() != waits {
                return;
            }
            self.pass_on(id, SessionRequest::RetryTurn).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_day_begins_at_midnight_by_utc() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (now, next) in [
            ("2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z"),
            ("2026-12-31T23:59:59.999999Z", "2027-01-01T00:00:00Z"),
            ("1969-12-31T12:00:00Z", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(next_midnight(at(now)), at(next));
        }
        let (early, late) = (at("2026-12-01T00:00:00Z"), at("2026-12-01T00:00:01Z"));
        assert_eq!(until(early, late), Duration::from_secs(1));
        assert_eq!(until(late, early), Duration::ZERO);
    }
}
