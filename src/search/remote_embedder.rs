//! A remote model: patient with the vectors of memories, with a short timeout for those of queries.
//!
//! *Promises.* A query waits at most [`QUERY_MAX`], and not at all while the model rests after a
//! failure; it is then answered by keywords. Nothing here fails a write or a search.
//!
//! *Limits.* After a failure the model is not called for [`REST_MIN`] to [`REST_MAX`], or as long
//! as it asked for. The vectors of the last [`QUERIES_MAX`] queries are cached.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use ai_factory_ports::embedder::{AsyncEmbedder, EmbedError, ModelIdentity, NextTry};
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::chunking::chunks;

/// Timeout of a query's vector.
pub(crate) const QUERY_MAX: Duration = Duration::from_secs(1);
/// First pause after a failure; doubles with each further one, with jitter of up to the same again.
const REST_MIN: Duration = Duration::from_millis(250);
/// Longest pause after a failure.
const REST_MAX: Duration = Duration::from_mins(1);
/// Longest pause that the model itself may ask for.
const REST_ASKED_MAX: Duration = Duration::from_mins(10);
/// Size of the cache of query vectors.
const QUERIES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// A text for which every model has a vector.
const PROBE: &str = "search";

/// A remote model.
pub(crate) struct RemoteEmbedder {
    model: Arc<dyn AsyncEmbedder>,
    /// State of calls for memories.
    making: Mutex<ModelCondition>,
    /// State of calls for queries, which have a shorter timeout.
    asking: Mutex<ModelCondition>,
    /// Notified when a query got no vector.
    has_failed: Notify,
    queries: Mutex<LruCache<String, Vec<f32>>>,
}

#[derive(Default)]
struct ModelCondition {
    failure: Option<ModelFailure>,
}

struct ModelFailure {
    reason: String,
    backoff: ExponentialBackoff,
    until: Instant,
}

impl ModelCondition {
    /// Why it fails, if it does.
    fn reason(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.reason.as_str())
    }

    /// Whether the model may be called now. After a failure, one caller at a time may probe it;
    /// others do without.
    fn admits_one(&mut self) -> bool {
        let now = Instant::now();
        match &mut self.failure {
            Some(failure) if failure.until > now => false,
            Some(failure) => {
                failure.until = now + QUERY_MAX;
                true
            }
            None => true,
        }
    }

    /// Records a failure; returns whether it is the first one, and the pause that follows.
    fn note_failure(&mut self, error: &EmbedError) -> (bool, Duration) {
        let is_first = self.failure.is_none();
        let mut backoff = self.failure.take().map_or_else(backoff, |failure| failure.backoff);
        let rest = match error.next {
            NextTry::After(asked) => asked.min(REST_ASKED_MAX),
            _ => backoff.next().unwrap_or(REST_MAX),
        };
        let (reason, until) = (error.reason.clone(), Instant::now() + rest);
        self.failure = Some(ModelFailure { reason, backoff, until });
        (is_first, rest)
    }
}

fn backoff() -> ExponentialBackoff {
    let backoff = ExponentialBuilder::new().with_min_delay(REST_MIN).with_max_delay(REST_MAX);
    backoff.with_jitter().without_max_times().build()
}

impl RemoteEmbedder {
    pub(super) fn new(model: Arc<dyn AsyncEmbedder>) -> Self {
        let queries = Mutex::new(LruCache::new(QUERIES_MAX));
        let (making, asking) = (Mutex::default(), Mutex::default());
        Self { model, making, asking, has_failed: Notify::new(), queries }
    }

    /// Its name, for people.
    pub(crate) fn name(&self) -> &str {
        self.model.name()
    }

    pub(super) fn identity(&self) -> Option<ModelIdentity> {
        self.model.identity()
    }

    pub(super) fn recognises(&self, found: &ModelIdentity) -> bool {
        self.model.recognises(found)
    }

    pub(super) fn text_bytes_max(&self) -> usize {
        self.model.text_bytes_max()
    }

    /// Why it makes no vectors of memories, if it does not.
    pub(crate) fn makes_none(&self) -> Option<String> {
        self.making.lock().reason().map(str::to_owned)
    }

    /// Why queries get no vectors, if they do not.
    pub(crate) fn answers_none(&self) -> Option<String> {
        self.asking.lock().reason().map(str::to_owned)
    }

    /// Remaining pause before it may be called for memories.
    pub(crate) fn backoff_left(&self) -> Option<Duration> {
        let until = self.making.lock().failure.as_ref()?.until;
        until.checked_duration_since(Instant::now())
    }

    /// Requests a vector to learn the model's identity.
    pub(crate) async fn probe(&self) -> Result<(), EmbedError> {
        let answered = self.model.embed(&[PROBE]).await.map(drop);
        self.note_making(&answered);
        answered
    }

    /// The vectors of memories' texts, in order.
    pub(crate) async fn make(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for some in texts.chunks(self.model.texts_max().max(1)) {
            let made = match self.model.embed(some).await {
                Err(error) if error.next == NextTry::OtherTexts => self.make_one_by_one(some).await,
                made => made,
            };
            self.note_making(&made);
            vectors.extend(made?);
        }
        Ok(vectors)
    }

    /// Vectors of texts that the model has refused as a batch. A text that it refuses alone gets a
    /// vector of zeros.
    async fn make_one_by_one(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let dimensions = self.model.embed(&[PROBE]).await?.concat().len();
        let mut vectors = Vec::with_capacity(texts.len());
        for text in texts {
            match self.model.embed(&[text]).await {
                Ok(vector) => vectors.extend(vector),
                Err(error) if error.next == NextTry::OtherTexts => {
                    tracing::warn!(%error, bytes = text.len(), "the model refused a text: it is found by keywords alone");
                    vectors.push(vec![0.0; dimensions]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(vectors)
    }

    fn note_making<T>(&self, made: &Result<T, EmbedError>) {
        let mut making = self.making.lock();
        match made {
            Err(error) => {
                let (is_first, rest) = making.note_failure(error);
                let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
                if is_first {
                    tracing::warn!(%error, rest_ms, "new documents are found by keywords alone");
                } else {
                    tracing::debug!(%error, rest_ms, "the model still fails");
                }
            }
            Ok(_) if making.failure.take().is_some() => {
                tracing::info!(model = self.name(), "the embedding model works again");
            }
            Ok(_) => {}
        }
    }

    fn query_backoff_until(&self) -> Option<Instant> {
        self.asking.lock().failure.as_ref().map(|failure| failure.until)
    }

    /// After failed queries, probes the model until it answers again, as long as this future is
    /// polled.
    pub(crate) async fn probe_until_back(&self) {
        loop {
            self.has_failed.notified().await;
            while let Some(until) = self.query_backoff_until() {
                tokio::time::sleep_until(until).await;
                // A query may find out first.
                let _ = self.ask(PROBE).await;
            }
        }
    }

    /// The vector of the beginning of a query, within the timeout. `Ok(None)` if the model has no
    /// vector for it.
    pub(crate) async fn query(&self, text: &str) -> Result<Option<Vec<f32>>, NoQueryVector> {
        let Some(chunk) = chunks(text, self.text_bytes_max()).next() else { return Ok(None) };
        let known = self.queries.lock().get(chunk).cloned();
        let vector = match known {
            Some(vector) => vector,
            None => self.ask(chunk).await?,
        };
        Ok(Some(vector).filter(|vector| vector.iter().any(|number| number.abs() > 0.0)))
    }

    async fn ask(&self, text: &str) -> Result<Vec<f32>, NoQueryVector> {
        if !self.asking.lock().admits_one() {
            return Err(NoQueryVector);
        }
        let late = || EmbedError {
            model: self.name().to_owned(),
            reason: format!("no vector for a query within {} ms", QUERY_MAX.as_millis()),
            next: NextTry::Later,
        };
        let asked = tokio::time::timeout(QUERY_MAX, self.model.embed(&[text])).await;
        match asked.unwrap_or_else(|_| Err(late())) {
            Ok(vectors) => {
                if self.asking.lock().failure.take().is_some() {
                    tracing::info!(model = self.name(), "queries have vectors again");
                }
                let vector = vectors.concat();
                self.queries.lock().put(text.to_owned(), vector.clone());
                Ok(vector)
            }
            // The text is at fault, not the model.
            Err(error) if error.next == NextTry::OtherTexts => {
                tracing::debug!(%error, "a query has no vector");
                Err(NoQueryVector)
            }
            Err(error) => {
                if self.asking.lock().note_failure(&error).0 {
                    tracing::warn!(%error, "queries are answered by keywords alone");
                }
                self.has_failed.notify_one();
                Err(NoQueryVector)
            }
        }
    }
}

/// The model gives no vector for a query at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoQueryVector;
