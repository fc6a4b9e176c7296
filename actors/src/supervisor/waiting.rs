//! Sessions that wait: questions expire, and the day's budget begins anew at midnight.

use std::time::Duration;

use ai_factory_schemas::time::Timestamp;
use tokio::time::timeout;

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
    /// Wakes sessions whose wait is over, for ever.
    pub(super) async fn follow_waiting(&self) {
        let waiting = &self.deps.sessions.waiting;
        let mut added = waiting.watch();
        let mut midnight = next_midnight(self.deps.clock.now());
        loop {
            added.mark_unchanged();
            let now = self.deps.clock.now();
            for id in waiting.expired(now) {
                waiting.remove(id);
                self.pass_on(id, SessionRequest::QuestionExpired).await;
            }
            if now >= midnight {
                midnight = next_midnight(now);
                self.retry_day().await;
            }
            let next = waiting.next_expiry().map_or(midnight, |expiry| expiry.min(midnight));
            let pause = until(now, next).min(LOOK_EVERY);
            // Woken by a session that begins to wait, or by the time.
            if let Ok(Err(_)) = timeout(pause, added.changed()).await {
                return;
            }
        }
    }

    /// Tries again what the day's budget had no room for.
    pub(super) async fn retry_day(&self) {
        for id in self.deps.sessions.waiting.of_day() {
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
