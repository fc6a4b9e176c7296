//! Retries: the pause before each, and whether to log it.
//!
//! *Promises.* Each pause is twice the previous one, up to a limit. A reason is reported when it
//! begins to hold, and not again while it holds or if it returns within `QUIET`; recovery is
//! reported if the failure was.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

use std::time::Duration;

use ai_factory_ports::metrics::{Counter, CounterFamily, Registry, counter_of};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// How long a reported reason is not reported again if it returns.
const QUIET: Duration = Duration::from_mins(1);
/// The minimum time between reports of two different reasons.
const APART_MIN: Duration = Duration::from_secs(5);
/// Log lines of one kind per minute.
const LINES_MAX: u32 = 5;

/// Pauses that double, up to a limit.
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// The first pause is `first`, the longest `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        let builder = ExponentialBuilder::new().with_min_delay(first).with_max_delay(max);
        let builder = builder.without_max_times();
        Self { builder, pauses: builder.build(), max }
    }

    /// The pause before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.max)
    }

    /// Begins with the first pause again.
    pub fn reset(&mut self) {
        self.pauses = self.builder.build();
    }
}

/// An operation that is retried until it works.
#[derive(Debug)]
pub struct Retry {
    backoff: Backoff,
    /// Why it fails; `None` while it works.
    reason: Option<String>,
    reported: Option<(String, Instant)>,
    /// Whether the current failure was reported.
    is_reported: bool,
    counters: RetryCounters,
}

/// The counters of one operation that is retried.
#[derive(Clone, Debug, Default)]
pub struct RetryCounters {
    /// Attempts that failed.
    pub failures: Counter,
    /// Successes after a failure.
    pub recoveries: Counter,
}

/// The counters of a component's operations that are retried, by the operation's name.
#[derive(Clone, Debug)]
pub struct RetryMetrics {
    label: &'static str,
    failures: CounterFamily,
    recoveries: CounterFamily,
}

impl RetryMetrics {
    /// No operation yet. `label` is the name of the label that has the operation's name.
    pub fn by(label: &'static str) -> Self {
        let (failures, recoveries) = Default::default();
        Self { label, failures, recoveries }
    }

    /// The counters of an operation. Takes a lock: resolve them before the first attempt.
    pub fn of(&self, operation: &'static str) -> RetryCounters {
        RetryCounters {
            failures: counter_of(&self.failures, self.label, operation),
            recoveries: counter_of(&self.recoveries, self.label, operation),
        }
    }

    /// Registers the counters as those of a component.
    pub fn register(&self, component: &str, registry: &mut Registry) {
        registry.register(
            format!("{component}_failures"),
            "Attempts that failed and are retried",
            self.failures.clone(),
        );
        registry.register(
            format!("{component}_recoveries"),
            "Operations that succeeded again after failures",
            self.recoveries.clone(),
        );
    }
}

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The pause before the next attempt.
    pub pause: Duration,
    /// Whether to report the failure.
    pub is_news: bool,
}

impl Retry {
    /// Starts in the working state. The first pause is `first`, the longest `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self::counting(first, max, RetryCounters::default())
    }

    /// [`Self::new`], with the counters of the operation.
    pub fn counting(first: Duration, max: Duration, counters: RetryCounters) -> Self {
        let backoff = Backoff::new(first, max);
        Self { backoff, reason: None, reported: None, is_reported: false, counters }
    }

    /// Records a failure with this reason.
    pub fn failed(&mut self, reason: &str) -> Failure {
        self.counters.failures.inc();
        let pause = self.backoff.next_pause();
        let is_news = self.may_tell(reason);
        if is_news {
            self.reported = Some((reason.to_owned(), Instant::now()));
            self.is_reported = true;
        }
        self.reason = Some(reason.to_owned());
        Failure { pause, is_news }
    }

    fn may_tell(&self, reason: &str) -> bool {
        self.reported.as_ref().is_none_or(|(reported, at)| {
            let is_same = reported == reason;
            // A lasting reason was reported when it began.
            !(is_same && self.is_reported)
                && at.elapsed() >= if is_same { QUIET } else { APART_MIN }
        })
    }

    /// Records success. Returns whether to report it.
    pub fn went_on(&mut self) -> bool {
        self.backoff.reset();
        if self.reason.take().is_some() {
            self.counters.recoveries.inc();
        }
        std::mem::take(&mut self.is_reported)
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.reason.is_some()
    }
}

/// A rate limit for log lines of one kind: frequent events are counted, and logged now and then.
#[derive(Debug)]
pub struct Lines {
    since: Instant,
    written: u32,
}

impl Default for Lines {
    fn default() -> Self {
        Self { since: Instant::now(), written: 0 }
    }
}

impl Lines {
    /// Whether another line may be written.
    pub fn may_write(&mut self) -> bool {
        if self.since.elapsed() >= QUIET {
            *self = Self::default();
        }
        self.written = self.written.saturating_add(1);
        self.written <= LINES_MAX
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_millis(300);

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_limit_and_begin_anew_when_it_works() {
        let mut retry = Retry::new(FIRST, MAX);
        let pauses: Vec<_> = (0..5).map(|_| retry.failed("full").pause.as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 300, 300]);
        assert!(retry.is_failing());
        retry.went_on();
        assert!(!retry.is_failing());
        assert_eq!(retry.failed("full").pause, FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_recoveries_are_counted_and_a_success_after_none_is_no_recovery() {
        let metrics = RetryMetrics::by("operation");
        let mut retry = Retry::counting(FIRST, MAX, metrics.of("write"));
        retry.went_on();
        for _ in 0..3 {
            retry.failed("full");
        }
        retry.went_on();
        retry.went_on();
        let counted = metrics.of("write");
        assert_eq!((counted.failures.get(), counted.recoveries.get()), (3, 1));
        assert_eq!(metrics.of("read").failures.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_holds_is_told_once_and_so_is_its_end() {
        let mut retry = Retry::new(FIRST, MAX);
        assert!(!retry.went_on(), "nothing was reported");
        assert!(retry.failed("full").is_news);
        for _ in 0..3 {
            advance(QUIET).await;
            assert!(!retry.failed("full").is_news);
        }
        assert!(retry.went_on());
        assert!(retry.failed("full").is_news && retry.went_on());
        // A reason that comes and goes is not reported each time.
        for _ in 0..100 {
            assert!(!retry.failed("full").is_news && !retry.went_on());
        }
        advance(QUIET).await;
        assert!(retry.failed("full").is_news && retry.went_on());
    }

    #[tokio::test(start_paused = true)]
    async fn another_reason_is_told_too_and_two_that_take_turns_are_not_told_each_time() {
        let mut retry = Retry::new(FIRST, MAX);
        assert!(retry.failed("full").is_news);
        assert!(!retry.failed("denied").is_news, "too soon");
        advance(APART_MIN).await;
        assert!(retry.failed("denied").is_news, "it still holds");
        assert!(!retry.failed("denied").is_news);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_a_handful_of_lines_a_minute() {
        let mut lines = Lines::default();
        assert_eq!((0..1_000).filter(|_| lines.may_write()).count(), LINES_MAX as usize);
        advance(QUIET).await;
        assert!(lines.may_write());
    }
}
