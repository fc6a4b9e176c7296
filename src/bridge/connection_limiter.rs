//! Connection limiter: the maximum number of connections, and which one is closed when another
//! arrives.
//!
//! *Promises.* Idle connections keep nobody out: at the limit the connection that has been idle for
//! longest is closed. A connection is idle without a request in progress and without an answer to
//! read, whether or not it has sent requests before; a partial request head does not count. If none
//! is idle, a new connection gets one of a few spare seats, on which only health checks are
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

/// Seats beyond the limit, on which only health checks are answered.
pub const SPARE_SEATS: usize = 32;

/// All seats. Idle order is kept by a counter, not by time.
pub struct Seats {
    taken: Row,
    spare: Row,
    falls_idle: Arc<AtomicU64>,
}

/// A group of seats.
struct Row {
    seats: Vec<Weak<Seat>>,
    max: usize,
}

/// The seat of one connection; freed on drop.
pub struct Seat {
    /// Requests in progress, and answers being read.
    busy: AtomicUsize,
    /// Counter value at which it became idle.
    idle_since: AtomicU64,
    falls_idle: Arc<AtomicU64>,
    leaving: Notify,
}

/// What is served on a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Everything.
    Full,
    /// Health checks only: the limit is reached.
    ChecksOnly,
}

impl Seats {
    /// `seats_max` seats, and the spare ones.
    pub fn new(seats_max: usize) -> Self {
        let row = |max| Row { seats: Vec::new(), max };
        Self { taken: row(seats_max), spare: row(SPARE_SEATS), falls_idle: Arc::default() }
    }

    /// A seat for a new connection; `None` if no seat is free and no connection is idle, spare
    /// seats included.
    pub fn take(&mut self) -> Option<(Arc<Seat>, Service)> {
        let (row, service) = if self.taken.has_place() {
            (&mut self.taken, Service::Full)
        } else if self.spare.has_place() {
            (&mut self.spare, Service::ChecksOnly)
        } else {
            return None;
        };
        let seat = Arc::new(Seat {
            busy: AtomicUsize::new(0),
            idle_since: AtomicU64::new(self.falls_idle.fetch_add(1, Ordering::Relaxed)),
            falls_idle: Arc::clone(&self.falls_idle),
            leaving: Notify::new(),
        });
        row.seats.push(Arc::downgrade(&seat));
        Some((seat, service))
    }

    /// Closes the connection that has been idle for longest; returns whether there was one.
    pub fn let_one_go(&mut self) -> bool {
        self.taken.let_one_go() || self.spare.let_one_go()
    }
}

impl Row {
    /// Whether there is a free seat, closing an idle connection if necessary.
    fn has_place(&mut self) -> bool {
        if self.seats.len() < self.max {
            return true;
        }
        self.seats.retain(|seat| seat.strong_count() > 0);
        self.seats.len() < self.max || self.let_one_go()
    }

    fn let_one_go(&mut self) -> bool {
        let idle = self.seats.iter().enumerate().filter_map(|(at, seat)| {
            let seat = seat.upgrade().filter(|seat| seat.is_idle())?;
            Some((seat.idle_since.load(Ordering::Relaxed), at, seat))
        });
        let Some((_, at, longest)) = idle.min_by_key(|(since, ..)| *since) else { return false };
        self.seats.swap_remove(at);
        longest.leaving.notify_one();
        true
    }
}

impl Seat {
    /// Whether nothing is in progress.
    pub fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Resolves when the connection must close, because it was idle and another one arrived.
    pub async fn told_to_leave(&self) {
        self.leaving.notified().await;
    }

    /// Marks the seat as busy until the returned value is dropped.
    pub fn occupied(self: &Arc<Self>) -> Occupied {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Occupied(Arc::clone(self))
    }
}

/// Work in progress on a seat.
pub struct Occupied(Arc<Seat>);

impl Drop for Occupied {
    fn drop(&mut self) {
        let seat = &*self.0;
        if seat.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            let turn = seat.falls_idle.fetch_add(1, Ordering::Relaxed);
            seat.idle_since.store(turn, Ordering::Relaxed);
        }
    }
}

/// An answer's body; the seat stays busy until the connection has sent all of it.
pub struct Underway {
    body: Body,
    _occupied: Occupied,
}

impl Underway {
    /// Keeps the seat busy while part of the body is unsent.
    pub fn new(body: Body, occupied: Occupied) -> Self {
        Self { body, _occupied: occupied }
    }
}

impl hyper::body::Body for Underway {
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

    fn is_told_to_leave(seat: &Seat) -> bool {
        seat.told_to_leave().now_or_never().is_some()
    }

    fn full(seats: &mut Seats) -> Arc<Seat> {
        let (seat, service) = seats.take().unwrap();
        assert_eq!(service, Service::Full);
        seat
    }

    #[test]
    fn the_one_that_is_idle_for_longest_makes_room() {
        let mut seats = Seats::new(3);
        let (first, second, third) = (full(&mut seats), full(&mut seats), full(&mut seats));
        drop(first.occupied());
        let working = second.occupied();
        let fourth = full(&mut seats);
        let told = [&first, &second, &third, &fourth].map(|seat| is_told_to_leave(seat));
        assert_eq!(told, [false, false, true, false]);
        let fifth = full(&mut seats);
        let told = [&first, &second, &fourth, &fifth].map(|seat| is_told_to_leave(seat));
        assert_eq!(told, [true, false, false, false]);
        drop(working);
        drop(fourth);
        let sixth = full(&mut seats);
        let told = [&second, &fifth, &sixth].map(|seat| is_told_to_leave(seat));
        assert_eq!(told, [false; 3], "there was a free seat");
    }

    #[test]
    fn where_nobody_is_idle_a_few_more_are_taken_in_for_checks_of_health() {
        let mut seats = Seats::new(1);
        let first = full(&mut seats);
        let working = first.occupied();
        let spare: Vec<_> = (0..SPARE_SEATS).map(|_| seats.take().unwrap()).collect();
        assert!(spare.iter().all(|(_, service)| *service == Service::ChecksOnly));
        let (newest, service) = seats.take().unwrap();
        assert_eq!((service, is_told_to_leave(&spare[0].0)), (Service::ChecksOnly, true));
        let checks: Vec<_> = spare.iter().map(|(seat, _)| seat.occupied()).collect();
        let check = newest.occupied();
        assert!(seats.take().is_none(), "nobody is idle");
        drop((check, checks, working));
        assert!(!is_told_to_leave(&first));
        assert_eq!(seats.take().unwrap().1, Service::Full);
        assert!(is_told_to_leave(&first));
    }
}
