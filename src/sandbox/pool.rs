//! Jails with a started, locked-down interpreter that wait for the next run.
//!
//! *Promises.* A member serves one run only. A member that dies while it waits, or exceeds its age
//! limit, is replaced. A caller never waits for the creation of a jail.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use ai_factory_ports::sandbox::SandboxError;
use ai_factory_retry::Backoff;
use tokio::sync::{mpsc, oneshot};

use super::{
    jail_factory::{JailFactory, JailSize},
    jail_handle::JailHandle,
    language::{FoundInterpreter, LanguageSpec},
    metrics::PoolMetrics,
};

/// Pause after a failed creation; each further failure doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// Delay between the hand-over of a member and the creation of its successor: most runs are over by
/// then.
const HEAD_START: Duration = Duration::from_millis(5);
/// Capacity of the request queue; beyond it callers wait to enqueue.
const REQUESTS_MAX: usize = 64;

/// The target state of a pool.
#[derive(Clone)]
pub(super) struct PoolSpec {
    pub(super) spec: &'static LanguageSpec,
    pub(super) found: FoundInterpreter,
    pub(super) size: JailSize,
    pub(super) members: usize,
    pub(super) age_max: Duration,
}

/// A handle; dropping it ends the members.
pub(super) struct Pool {
    requests: mpsc::Sender<oneshot::Sender<JailHandle>>,
}

impl Pool {
    /// Starts to fill the pool.
    pub(super) fn start(jails: Arc<JailFactory>, spec: PoolSpec, metrics: PoolMetrics) -> Self {
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        let members = Vec::new();
        let keeper = PoolKeeper { jails, spec, asked, members, given: None, backoff, metrics };
        tokio::spawn(keeper.run());
        Self { requests }
    }

    /// A member, if one is ready.
    pub(super) async fn acquire(&self) -> Option<JailHandle> {
        let (asker, answer) = oneshot::channel();
        self.requests.send(asker).await.ok()?;
        answer.await.ok()
    }
}

/// The task that owns the members.
struct PoolKeeper {
    jails: Arc<JailFactory>,
    spec: PoolSpec,
    asked: mpsc::Receiver<oneshot::Sender<JailHandle>>,
    /// Oldest first.
    members: Vec<JailHandle>,
    /// Time of the last hand-over.
    given: Option<Instant>,
    /// Before a creation that failed is tried again.
    backoff: Backoff,
    metrics: PoolMetrics,
}

type PendingJail = Pin<Box<dyn Future<Output = Result<JailHandle, SandboxError>> + Send>>;

impl PoolKeeper {
    async fn run(mut self) {
        let mut making: Option<PendingJail> = None;
        loop {
            if making.is_none() && self.members.len() < self.spec.members {
                making = Some(self.make(self.head_start()));
            }
            let oldest = self.members.first().map(|member| member.born + self.spec.age_max);
            tokio::select! {
                biased;
                asker = self.asked.recv() => match asker {
                    Some(asker) => self.provide(asker),
                    None => return,
                },
                lost = first_lost(&self.members) => {
                    tracing::warn!(language = self.spec.spec.name, "a waiting interpreter was lost");
                    self.metrics.lost.inc();
                    drop(self.members.remove(lost));
                }
                made = wait_made(&mut making) => {
                    making = None;
                    match made {
                        Ok(member) => {
                            self.metrics.started.inc();
                            self.backoff.reset();
                            self.members.push(member);
                        }
                        Err(error) => {
                            let language = self.spec.spec.name;
                            tracing::warn!(%error, language, "no interpreter for the pool");
                            self.metrics.failures.inc();
                            let pause = self.backoff.next_pause();
                            making = Some(self.make(pause));
                        }
                    }
                }
                () = until(oldest) => {
                    self.metrics.expired.inc();
                    drop(self.members.remove(0));
                }
            }
        }
    }

    /// Hands over the youngest: its memory is the warmest.
    fn provide(&mut self, asker: oneshot::Sender<JailHandle>) {
        if let Some(member) = self.members.pop()
            && let Err(member) = asker.send(member)
        {
            // The caller is gone, and the member has seen no program.
            self.members.push(member);
        }
        self.given = Some(Instant::now());
    }

    /// How long the next creation is delayed for the run that has just begun.
    fn head_start(&self) -> Duration {
        let passed = self.given.map(|given| given.elapsed());
        passed.map_or(Duration::ZERO, |passed| HEAD_START.saturating_sub(passed))
    }

    /// Creates one more after a pause.
    fn make(&self, pause: Duration) -> PendingJail {
        let (jails, spec) = (Arc::clone(&self.jails), self.spec.clone());
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            jails.make(Some((spec.spec, &spec.found)), spec.size, true).await
        })
    }
}

async fn wait_made(making: &mut Option<PendingJail>) -> Result<JailHandle, SandboxError> {
    match making {
        Some(making) => making.await,
        None => std::future::pending().await,
    }
}

async fn until(time: Option<std::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// The index of the first lost member.
async fn first_lost(members: &[JailHandle]) -> usize {
    poll_fn(|context| {
        // All are polled, so that each registers the waker.
        let lost: Vec<_> =
            members.iter().map(|member| member.poll_lost(context).is_ready()).collect();
        lost.iter().position(|is_lost| *is_lost).map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
