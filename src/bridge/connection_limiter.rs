//! Connection limiter: the maximum number of connections, and which one is closed when another
//! arrives.
//!
//! *Promises.* Idle connections keep nobody out: at the limit the connection that has been idle for
//! longest is closed. A connection is idle without a request in progress and without an answer to
//! read, whether or not it has sent requests before; a partial request head does not count. If none
//! is idle, a new connection gets one of a few spare permits, on which only health checks are
//! answered.

use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;

/// Permits beyond the limit, on which only health checks are answered.
pub const SPARE_CONNECTIONS: usize = 32;

/// All permits. Idle order is kept by a counter, not by time.
pub struct ConnectionLimiter {
    taken: PermitPool,
    spare: PermitPool,
    falls_idle: Arc<AtomicU64>,
}

/// A group of permits.
struct PermitPool {
    permits: Vec<Weak<ConnectionPermit>>,
    max: usize,
}

/// The seat of one connection; freed on drop.
pub struct ConnectionPermit {
    /// Requests in progress, and answers being read.
    busy: AtomicUsize,
    /// Counter value at which it became idle.
    idle_since: AtomicU64,
    falls_idle: Arc<AtomicU64>,
    leaving: Notify,
}

/// What is served on a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceLevel {
    /// Everything.
    Full,
    /// Health checks only: the limit is reached.
    ChecksOnly,
}

impl ConnectionLimiter {
    /// `connections_max` permits, and the spare ones.
    pub fn new(connections_max: usize) -> Self {
        let row = |max| PermitPool { permits: Vec::new(), max };
        Self {
            taken: row(connections_max),
            spare: row(SPARE_CONNECTIONS),
            falls_idle: Arc::default(),
        }
    }

    /// A permit for a new connection; `None` if no permit is free and no connection is idle, spare
    /// permits included.
    pub fn acquire(&mut self) -> Option<(Arc<ConnectionPermit>, ServiceLevel)> {
        let (row, service) = if self.taken.has_capacity() {
            (&mut self.taken, ServiceLevel::Full)
        } else if self.spare.has_capacity() {
            (&mut self.spare, ServiceLevel::ChecksOnly)
        } else {
            return None;
        };
        let permit = Arc::new(ConnectionPermit {
            busy: AtomicUsize::new(0),
            idle_since: AtomicU64::new(self.falls_idle.fetch_add(1, Ordering::Relaxed)),
            falls_idle: Arc::clone(&self.falls_idle),
            leaving: Notify::new(),
        });
        row.permits.push(Arc::downgrade(&permit));
        Some((permit, service))
    }

    /// Closes the connection that has been idle for longest; returns whether there was one.
    pub fn evict_idlest(&mut self) -> bool {
        self.taken.evict_idlest() || self.spare.evict_idlest()
    }
}

impl PermitPool {
    /// Whether there is a free seat, closing an idle connection if necessary.
    fn has_capacity(&mut self) -> bool {
        if self.permits.len() < self.max {
            return true;
        }
        self.permits.retain(|permit| permit.strong_count() > 0);
        self.permits.len() < self.max || self.evict_idlest()
    }

    fn evict_idlest(&mut self) -> bool {
        let idle = self.permits.iter().enumerate().filter_map(|(at, permit)| {
            let permit = permit.upgrade().filter(|permit| permit.is_idle())?;
            Some((permit.idle_since.load(Ordering::Relaxed), at, permit))
        });
        let Some((_, at, longest)) = idle.min_by_key(|(since, ..)| *since) else { return false };
        self.permits.swap_remove(at);
        longest.leaving.notify_one();
        true
    }
}

impl ConnectionPermit {
    /// Whether nothing is in progress.
    pub fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Resolves when the connection must close, because it was idle and another one arrived.
    pub async fn evicted(&self) {
        self.leaving.notified().await;
    }

    /// Marks the seat as busy until the returned value is dropped.
    pub fn mark_busy(self: &Arc<Self>) -> BusyGuard {
        self.busy.fetch_add(1, Ordering::Relaxed);
        BusyGuard(Arc::clone(self))
    }
}

/// Work in progress on a seat.
pub struct BusyGuard(Arc<ConnectionPermit>);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let permit = &*self.0;
        if permit.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            let turn = permit.falls_idle.fetch_add(1, Ordering::Relaxed);
            permit.idle_since.store(turn, Ordering::Relaxed);
        }
    }
}

/// An answer's body; the seat stays busy until the connection has sent all of it.
pub struct TrackedBody {
    body: Body,
    _occupied: BusyGuard,
}

impl TrackedBody {
    /// Keeps the seat busy while part of the body is unsent.
    pub fn new(body: Body, occupied: BusyGuard) -> Self {
        Self { body, _occupied: occupied }
    }
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_evicted(permit: &ConnectionPermit) -> bool {
        permit.evicted().now_or_never().is_some()
    }

    fn full(permits: &mut ConnectionLimiter) -> Arc<ConnectionPermit> {
        let (permit, service) = permits.acquire().unwrap();
        assert_eq!(service, ServiceLevel::Full);
        permit
    }

    #[test]
    fn the_connection_that_is_idle_for_longest_is_evicted() {
        let mut permits = ConnectionLimiter::new(3);
        let (first, second, third) = (full(&mut permits), full(&mut permits), full(&mut permits));
        drop(first.mark_busy());
        let working = second.mark_busy();
        let fourth = full(&mut permits);
        let told = [&first, &second, &third, &fourth].map(|permit| is_evicted(permit));
        assert_eq!(told, [false, false, true, false]);
        let fifth = full(&mut permits);
        let told = [&first, &second, &fourth, &fifth].map(|permit| is_evicted(permit));
        assert_eq!(told, [true, false, false, false]);
        drop(working);
        drop(fourth);
        let sixth = full(&mut permits);
        let told = [&second, &fifth, &sixth].map(|permit| is_evicted(permit));
        assert_eq!(told, [false; 3], "there was a free permit");
    }

    #[test]
    fn where_nobody_is_idle_a_few_more_are_admitted_for_health_checks() {
        let mut permits = ConnectionLimiter::new(1);
        let first = full(&mut permits);
        let working = first.mark_busy();
        let spare: Vec<_> = (0..SPARE_CONNECTIONS).map(|_| permits.acquire().unwrap()).collect();
        assert!(spare.iter().all(|(_, service)| *service == ServiceLevel::ChecksOnly));
        let (newest, service) = permits.acquire().unwrap();
        assert_eq!((service, is_evicted(&spare[0].0)), (ServiceLevel::ChecksOnly, true));
        let checks: Vec<_> = spare.iter().map(|(permit, _)| permit.mark_busy()).collect();
        let check = newest.mark_busy();
        assert!(permits.acquire().is_none(), "nobody is idle");
        drop((check, checks, working));
        assert!(!is_evicted(&first));
        assert_eq!(permits.acquire().unwrap().1, ServiceLevel::Full);
        assert!(is_evicted(&first));
    }
}
