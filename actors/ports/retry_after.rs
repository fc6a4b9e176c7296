//! `Retry-After`: when a refused caller is to try again, by what has to happen meanwhile.

use std::time::Duration;

/// A commit: the journal's queue is full.
pub const COMMIT: Duration = Duration::from_millis(50);
/// The answer to a request in progress: there are as many as there may be.
pub const REQUEST: Duration = Duration::from_millis(100);
/// The restart of an actor that ended before it answered.
pub const ACTOR: Duration = Duration::from_millis(200);
/// The end of a short program: the queue of runs is full.
pub const RUN: Duration = Duration::from_millis(500);
/// The end of a page of events that another caller reads.
pub const PAGE: Duration = Duration::from_millis(500);
/// The end of a session: as many are running as there may be.
pub const SESSION: Duration = Duration::from_secs(1);
/// The return of a caller whose connection was lost: it listens again.
pub const CONNECTION: Duration = Duration::from_secs(1);
/// The answer of another instance of the same agent.
pub const PEER: Duration = Duration::from_secs(2);
/// The end of a stream of events: as many are open as there may be.
pub const STREAM: Duration = Duration::from_secs(5);
/// The next start of a factory that is shutting down.
pub const RESTART: Duration = Duration::from_secs(5);
/// The opening of sessions whose files fill the room for uploads.
pub const UPLOAD: Duration = Duration::from_secs(5);
