//! Seats: how many connections there may be at once, and which of them goes when another one comes.
//!
//! *Promises.* Connections that do nothing keep nobody out: when all seats are taken, the one that has been idle for
//! longest is let go. Idle is one without a request under way or an answer to take, whether it has spoken before or not;
//! half a head of a request is none. When nobody is idle, a newcomer gets one of a few seats more, on which only checks of
//! health are answered.

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

/// The seats for when no other is left, on which only checks of health are answered.
pub const SPARE_SEATS: usize = 32;

/// All seats. The order in which connections fell idle is counted, not timed.
pub struct Seats {
    taken: Row,
    spare: Row,
    falls_idle: Arc<AtomicU64>,
}

/// A row of seats.
struct Row {
    seats: Vec<Weak<Seat>>,
    max: usize,
}

/// One connection's seat; free again when it is dropped.
pub struct Seat {
    /// Requests under way, and answers that are being taken.
    busy: AtomicUsize,
    /// Which one it was to fall idle.
    idle_since: AtomicU64,
    falls_idle: Arc<AtomicU64>,
    leaving: Notify,
}

/// What a connection may ask for on its seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Everything.
    Full,
    /// Checks of health: there is no room for more.
    ChecksOnly,
}

impl Seats {
    /// So many, and the spare ones.
    pub fn new(seats_max: usize) -> Self {
        let row = |max| Row { seats: Vec::new(), max };
        Self { taken: row(seats_max), spare: row(SPARE_SEATS), falls_idle: Arc::default() }
    }

    /// A seat for a newcomer; `None` where even the spare ones are taken by connections that are not idle.
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

    /// Lets the connection go that has been idle for longest; answers whether any was.
    pub fn let_one_go(&mut self) -> bool {
        self.taken.let_one_go() || self.spare.let_one_go()
    }
}

impl Row {
    /// Whether there is a place, after somebody was let go where need be.
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
    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Resolves when the connection is to leave, because it was idle and another one came.
    pub async fn told_to_leave(&self) {
        self.leaving.notified().await;
    }

    /// Something is under way until what is returned is dropped.
    pub fn occupied(self: &Arc<Self>) -> Occupied {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Occupied(Arc::clone(self))
    }
}

/// Something that is under way on a seat.
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

/// An answer's body, under way until the connection has all of it.
pub struct Underway {
    body: Body,
    _occupied: Occupied,
}

impl Underway {
    /// Keeps the seat occupied while there is something of the body left.
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
