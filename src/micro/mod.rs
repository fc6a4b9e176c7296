//! NATS services (ADR-32) over any bus: what they say of themselves, and how their endpoints are served.
//!
//! *Promises.* A service answers on `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, for all, by its name and by its id, with
//! the types `io.nats.micro.v1.*`. Every request that reaches an endpoint is counted, with its time and its refusal. When
//! it is to end, an endpoint asks for no more, and everything that had reached it is still answered.
//!
//! *Not here.* What an endpoint does. The client library's own services answer a refusal with an empty body, and count
//! none that has one (decision 0010): so they are made here, on the port `Bus`.

mod discovery;
mod serve;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ai_factory_actors::ports::bus::QueueGroup;
use ai_factory_schemas::{problem::Problem, subject::Subject, time::Timestamp};

pub use discovery::answer_discovery;
pub use serve::serve;

/// Names and values that a service, or one of its endpoints, says of itself; made when somebody asks.
pub type Metadata = Box<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

/// Metadata that never change.
pub fn metadata<const N: usize>(pairs: [(&str, &str); N]) -> Metadata {
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let fixed = BTreeMap::from(pairs);
    Box::new(move || fixed.clone())
}

/// A service: one of its instances.
pub struct Service {
    /// Of letters, digits, `-` and `_`; the same for all instances.
    pub name: String,
    /// This instance's own.
    pub id: String,
    /// As semantic versioning has it: `1.2.3`.
    pub version: &'static str,
    /// What it is for, for people.
    pub description: String,
    /// What programs may want to know of it.
    pub metadata: Metadata,
    /// When it began.
    pub started: Timestamp,
    /// What can be asked of it.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// One thing that can be asked of a service.
pub struct Endpoint {
    /// Of letters, digits, `-` and `_`.
    pub name: String,
    /// Where it is asked.
    pub subject: Subject,
    /// The group in which instances share its requests.
    pub queue_group: QueueGroup,
    /// What programs may want to know of it.
    pub metadata: Metadata,
    counts: Counts,
}

/// What an endpoint has done since it began.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
    /// `CODE:SENTENCE` of the last refusal.
    last_error: Mutex<String>,
}

impl Endpoint {
    /// One that has not been asked yet.
    pub fn new(
        name: impl Into<String>,
        subject: Subject,
        queue_group: QueueGroup,
        metadata: Metadata,
    ) -> Arc<Self> {
        let counts = Counts::default();
        Arc::new(Self { name: name.into(), subject, queue_group, metadata, counts })
    }

    /// Notes that a request was answered, or refused, after so much time.
    pub fn count(&self, refused: Option<&Problem>, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        self.counts.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        if let Some(problem) = refused {
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
            let said = format!("{}:{}", problem.status, problem.sentence());
            *self.counts.last_error.lock().unwrap_or_else(PoisonError::into_inner) = said;
        }
    }
}
