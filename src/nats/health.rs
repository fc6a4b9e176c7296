//! Problems with a NATS server, for the health report: what waits, what was left out, and what the
//! server refuses.
//!
//! *Limits.* Frequent problems are counted, with a few log lines a minute. A refusal by the server
//! counts for `RECENT` after its last occurrence, since the server does not report its end.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use ai_factory_retry::Lines;
use ai_factory_schemas::quote::printable;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::metrics::NatsMetrics;

/// How long a problem is reported after it occurred.
const RECENT: Duration = Duration::from_mins(1);
/// The period in which lost connections lengthen the pauses.
const SPELL: Duration = Duration::from_secs(10);
/// Losses within that period before the reconnect pause grows.
const LOSSES_FREE: usize = 4;
/// Losses within [`RECENT`] from which the connection counts as unstable.
const LOSSES_MANY: usize = 5;
/// Losses that are remembered.
const LOSSES_KEPT: usize = 64;
/// Left-out events that are logged one by one; beyond it, each time their number has doubled.
const NAMED_MAX: u64 = 10;
/// The server's error when a user may not publish or subscribe to a subject.
const DENIED: &str = "Permissions Violation";
/// Characters of the server's error that are shown.
const SHOWN_CHARS_MAX: usize = 300;

/// The current problems. Every component reports its own here.
#[derive(Debug, Default)]
pub(super) struct ConnectionHealth {
    state: Mutex<State>,
    pub(super) metrics: NatsMetrics,
}

#[derive(Debug, Default)]
struct State {
    /// The reason for each kind of thing that waits.
    troubles: BTreeMap<&'static str, String>,
    left_out: BTreeMap<&'static str, LeftOutCounts>,
    /// The server's last permission error.
    refusal: Option<(String, Instant)>,
    losses: VecDeque<Instant>,
    lines: BTreeMap<&'static str, Lines>,
}

/// Items that the server can never accept.
#[derive(Debug, Default)]
struct LeftOutCounts {
    count: u64,
    /// The largest position.
    newest: u64,
    /// The reason for that one.
    reason: String,
}

impl ConnectionHealth {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Sets or clears the problem with `about`.
    pub(super) fn note(&self, about: &'static str, trouble: Option<String>) {
        let troubles = &mut self.state().troubles;
        match trouble {
            Some(trouble) => troubles.insert(about, trouble),
            None => troubles.remove(about),
        };
    }

    /// Records and logs that an item was left out for good.
    pub(super) fn left_out(&self, about: &'static str, position: u64, reason: &str) {
        self.metrics.left_out(about);
        let mut state = self.state();
        let left_out = state.left_out.entry(about).or_default();
        left_out.count += 1;
        if position >= left_out.newest {
            left_out.newest = position;
            reason.clone_into(&mut left_out.reason);
        }
        let count = left_out.count;
        if count <= NAMED_MAX || count.is_power_of_two() {
            tracing::error!(position, reason, count, "left out of {about}: the journal has it");
        }
    }

    /// Records that `count` left-out items are retried: there is another stream, or it has other
    /// limits.
    pub(super) fn tried_again(&self, about: &'static str, count: u64) {
        let left_out = &mut self.state().left_out;
        if let Some(found) = left_out.get_mut(about) {
            found.count = found.count.saturating_sub(count);
            if found.count == 0 {
                left_out.remove(about);
            }
        }
    }

    /// Records an error from the server; returns whether it may be logged.
    pub(super) fn refused(&self, said: &str) -> bool {
        self.metrics.server_errors.inc();
        let mut state = self.state();
        // All other errors concern the connection, which is monitored itself.
        if said.contains(DENIED) {
            state.refusal = Some((printable(said, SHOWN_CHARS_MAX), Instant::now()));
        }
        state.lines.entry("refusals").or_default().may_write()
    }

    /// Whether another line of this kind may be logged.
    pub(super) fn may_write(&self, kind: &'static str) -> bool {
        self.state().lines.entry(kind).or_default().may_write()
    }

    /// Records a lost connection, and returns how many were lost so far.
    pub(super) fn lost(&self) -> u64 {
        let losses = &mut self.state().losses;
        if losses.len() == LOSSES_KEPT {
            losses.pop_front();
        }
        losses.push_back(Instant::now());
        self.metrics.lost_connections.inc() + 1
    }

    /// Additional doublings of the reconnect pause: 0 at first, and more if the connection is lost
    /// repeatedly soon after connecting.
    pub(super) fn doublings(&self) -> u32 {
        let losses = self.state().within(SPELL);
        u32::try_from(losses.saturating_sub(LOSSES_FREE)).unwrap_or(u32::MAX)
    }

    /// All problems in one sentence; `None` if there are none.
    pub(super) fn summary(&self) -> Option<String> {
        let state = self.state();
        let mut problems: Vec<_> =
            state.troubles.iter().map(|(about, why)| format!("{about} wait: {why}")).collect();
        problems.extend(state.left_out.iter().map(|(about, LeftOutCounts { count, newest, reason })| {
            format!(
                "{count} left out of {about}, the newest at position {newest} ({reason}): the journal has all of them"
            )
        }));
        let recent = state.refusal.as_ref().filter(|(_, at)| at.elapsed() < RECENT);
        problems.extend(recent.map(|(said, _)| format!("the server says: {said}")));
        let losses = state.within(RECENT);
        if losses >= LOSSES_MANY {
            problems.push(format!(
                "the connection is unstable: it was lost {losses} times within {} s, possibly \
                 because of messages whose headers cannot be parsed",
                RECENT.as_secs()
            ));
        }
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

impl State {
    /// The number of losses within this period.
    fn within(&self, time: Duration) -> usize {
        self.losses.iter().rev().take_while(|at| at.elapsed() < time).count()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_and_what_was_left_out_is_told_with_its_reason() {
        let health = ConnectionHealth::default();
        assert_eq!(health.summary(), None);
        health.note("events", Some("the stream is full".to_owned()));
        health.left_out("events", 5, "too large");
        health.left_out("events", 9, "larger still");
        let summary = health.summary().unwrap();
        assert!(summary.contains("events wait: the stream is full"), "{summary}");
        assert!(summary.contains("2 left out of events, the newest at position 9 (larger still)"));
        health.note("events", None);
        health.tried_again("events", 1);
        assert!(health.summary().unwrap().starts_with("1 left out of events"));
        assert_eq!(health.metrics.left_out_of("events"), 2, "what was counted stays counted");
        health.tried_again("events", u64::MAX);
        assert_eq!(health.summary(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_server_is_told_for_a_minute_and_a_flood_of_them_is_few_lines() {
        let health = ConnectionHealth::default();
        let written = (0..1_000).filter(|_| health.refused("Permissions Violation\n")).count();
        assert!(written < 10, "{written}");
        assert!(health.summary().unwrap().ends_with("Permissions Violation\\n"));
        advance(RECENT).await;
        assert_eq!(health.summary(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_lost_again_and_again_is_waited_for_longer_and_reported() {
        let health = ConnectionHealth::default();
        for _ in 0..LOSSES_FREE {
            health.lost();
        }
        assert_eq!((health.doublings(), health.summary()), (0, None));
        health.lost();
        health.lost();
        assert_eq!(health.doublings(), 2);
        assert!(health.summary().unwrap().contains("lost 6 times"));
        advance(SPELL).await;
        assert_eq!(health.doublings(), 0);
        advance(RECENT).await;
        assert_eq!(health.summary(), None);
    }
}
