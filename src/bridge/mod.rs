//! The HTTP door: carries requests to the actors over the bus, and their answers back.
//!
//! *Promises.* A route of the table (`ai_factory_schemas::route`) is an operation on the bus and nothing else: bodies
//! and answers go through as they are. Every answer, whatever becomes of the request, has the headers
//! `X-Request-ID` and `X-Duration`, and a problem is `{"detail": …}`. No answer carries a path of the disk, that of
//! a snapshot aside. A page of another site cannot use it, and nothing listens beyond loopback without a token
//! ([`may_listen`]). Events are served from the journal: a client that comes back with the last position it saw
//! misses none and gets none twice.
//!
//! *Limits.* All in [`BridgeSettings`]. What is over a limit of room is refused with the time to try again; a client
//! that is too slow, in asking or in taking the answer, is let go.
//!
//! *Not here.* What an operation does, and whether a body makes sense: the actors decide that for every door alike.
//! Encryption: a proxy in front does it.

mod answer;
mod body;
mod carry;
mod docs;
mod door;
mod events;
mod guard;
mod pages;
mod peer;
mod query;
mod seats;
mod serve;
mod settings;
mod trace;
mod wire;

use std::sync::Arc;

use ai_factory_actors::ports::{bus::Bus, journal::Journal, trace::Traces, world::World};
use ai_factory_schemas::{health::UnderWay, subject::Subjects};

pub use guard::{MayNotListen, may_listen};
pub use seats::SPARE_SEATS;
pub use settings::{
    ANSWER_MAX, BODY_BYTES_MAX, BODY_READ_MAX, BridgeSettings, CONNECTIONS_MAX,
    DISCARDED_BYTES_MAX, HEAD_BYTES_MAX, HEAD_READ_MAX, HEADERS_MAX, HEARTBEAT, ParseTokenError,
    REQUESTS_MAX, RUN_ANSWER_MAX, SESSION_ANSWER_MAX, STREAMS_MAX, Token, URI_BYTES_MAX,
    WRITE_STALL_MAX,
};

/// A part of the factory that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailment {
    /// Which.
    pub part: &'static str,
    /// What is wrong with it; paths of the disk in it are not told to clients.
    pub reason: String,
    /// Whether requests can be served without it.
    pub serves: bool,
}

/// How the factory is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// What does not work.
    pub ailing: Vec<Ailment>,
    /// What is made anew meanwhile.
    pub under_way: Vec<UnderWay>,
}

/// The HTTP door. See the module.
pub struct Bridge {
    /// Where operations are asked for.
    pub bus: Arc<dyn Bus>,
    /// Under which subjects.
    pub subjects: Subjects,
    /// Where events are read.
    pub journal: Arc<dyn Journal>,
    /// Makes ids of requests.
    pub world: Arc<dyn World>,
    /// Joins requests to the traces of their clients.
    pub traces: Arc<dyn Traces>,
    /// Tells how the factory is; asked at each check of health.
    pub vitals: Arc<dyn Fn() -> Vitals + Send + Sync>,
    /// How much of everything.
    pub settings: BridgeSettings,
}
