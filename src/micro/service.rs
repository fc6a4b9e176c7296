//! A service and its endpoints, with their statistics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ai_factory_ports::bus::QueueGroup;
use ai_factory_schemas::{problem::Problem, subject::Subject, time::Timestamp};
use parking_lot::Mutex;

/// Names and values describing a service or an endpoint; computed for each request.
pub type Metadata = Box<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

/// Constant metadata.
pub fn metadata<const N: usize>(pairs: [(&str, &str); N]) -> Metadata {
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let fixed = BTreeMap::from(pairs);
    Box::new(move || fixed.clone())
}

/// One instance of a service.
pub struct MicroService {
    /// The service's name: letters, digits, `-` and `_`; the same for all instances.
    pub name: String,
    /// The instance's id.
    pub id: String,
    /// The semantic version: `1.2.3`.
    pub version: &'static str,
    /// A description for people.
    pub description: String,
    /// Metadata for programs.
    pub metadata: Metadata,
    /// The start time.
    pub started: Timestamp,
    /// The endpoints.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// One operation of a service.
pub struct Endpoint {
    /// The endpoint's name: letters, digits, `-` and `_`.
    pub name: String,
    /// The subject of its requests.
    pub subject: Subject,
    /// The group in which instances share its requests.
    pub queue_group: QueueGroup,
    /// Metadata for programs.
    pub metadata: Metadata,
    pub(crate) counts: EndpointCounters,
}

/// An endpoint's statistics since its start.
#[derive(Default)]
pub(crate) struct EndpointCounters {
    pub(crate) requests: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) nanoseconds: AtomicU64,
    /// `CODE:SENTENCE` of the last refusal.
    pub(crate) last_error: Mutex<String>,
}

impl Endpoint {
    /// An endpoint without requests.
    pub fn new(
        name: impl Into<String>,
        subject: Subject,
        queue_group: QueueGroup,
        metadata: Metadata,
    ) -> Arc<Self> {
        let counts = EndpointCounters::default();
        Arc::new(Self { name: name.into(), subject, queue_group, metadata, counts })
    }

    /// Counts a request that was answered or refused after `took`.
    pub fn count(&self, refused: Option<&Problem>, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        self.counts.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        if let Some(problem) = refused {
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
            let said = format!("{}:{}", problem.status, problem.sentence());
            *self.counts.last_error.lock() = said;
        }
    }
}
