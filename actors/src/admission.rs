//! Admission control of an actor: how many requests, and how many bytes of them, are in progress.
//!
//! *Limits.* [`crate::limits::Limits::requests_waiting_max`] requests at once, with bodies of
//! [`REQUESTS_BYTES_MAX`] together.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies of the requests that one actor has in progress, together, in bytes: 32 of the largest
/// over HTTP.
pub const REQUESTS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Admission control of an actor: requests and bytes in progress.
pub(crate) struct Admission {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// The permits that a request holds until it is answered.
pub(crate) struct Permit {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(requests_max: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests_max)),
            bytes: Arc::new(Semaphore::new(REQUESTS_BYTES_MAX)),
        }
    }

    /// Permits for a request with this body, if there are enough. A body larger than all of them
    /// takes all of them.
    pub(crate) fn admit(&self, body: &Bytes) -> Option<Permit> {
        let bytes = u32::try_from(body.len().min(REQUESTS_BYTES_MAX)).unwrap_or(u32::MAX);
        Some(Permit {
            _request: Arc::clone(&self.requests).try_acquire_owned().ok()?,
            _bytes: Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?,
        })
    }
}
