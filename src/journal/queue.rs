//! The queue of appends for the writer, bounded in appends and bytes, and the replies to them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ai_factory_ports::{
    journal::{AppendError, Appended},
    retry_after,
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{prepare::PreparedAppend, settings::JournalSettings};

/// Receives the reply to an append.
type AppendReply = oneshot::Sender<Result<Appended, AppendError>>;

/// An append in the queue.
pub(super) struct AppendRequest {
    pub(super) append: PreparedAppend,
    reply: AppendReply,
    /// The runtime of the waiting caller.
    runtime: Option<Handle>,
}

/// Why an append is not in the queue.
pub(super) enum EnqueueError {
    Full,
    Closed,
}

/// The callers' side of the queue.
pub(super) struct AppendQueue {
    /// `None` once it is closed.
    requests: Mutex<Option<mpsc::Sender<AppendRequest>>>,
    /// Of the appends in the queue, and of those that the writer is committing.
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// The writer's side of the queue.
pub(super) struct AppendRequests(mpsc::Receiver<AppendRequest>);

impl AppendQueue {
    pub(super) fn new(settings: &JournalSettings) -> (Self, AppendRequests) {
        let (sender, receiver) = mpsc::channel(settings.queue_appends_max.max(1));
        let queue = Self {
            requests: Mutex::new(Some(sender)),
            bytes: AtomicUsize::new(0),
            bytes_max: settings.queue_bytes_max,
        };
        (queue, AppendRequests(receiver))
    }

    /// Adds an append. The reply comes through the receiver, which is closed if there is none.
    pub(super) fn push(
        &self,
        append: PreparedAppend,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, EnqueueError> {
        let bytes = append.bytes;
        let waiting = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let sent = if waiting > 0 && waiting + bytes > self.bytes_max {
            Err(EnqueueError::Full)
        } else {
            self.send(append)
        };
        if sent.is_err() {
            self.release(bytes);
        }
        sent
    }

    fn send(
        &self,
        append: PreparedAppend,
    ) -> Result<oneshot::Receiver<Result<Appended, AppendError>>, EnqueueError> {
        let (reply, replied) = oneshot::channel();
        let request = AppendRequest { append, reply, runtime: Handle::try_current().ok() };
        let requests = self.requests.lock();
        let requests = requests.as_ref().ok_or(EnqueueError::Closed)?;
        requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EnqueueError::Full,
            mpsc::error::TrySendError::Closed(_) => EnqueueError::Closed,
        })?;
        Ok(replied)
    }

    /// Appends that wait for the writer.
    pub(super) fn appends(&self) -> usize {
        let requests = self.requests.lock();
        requests.as_ref().map_or(0, |sender| sender.max_capacity() - sender.capacity())
    }

    /// Bytes of the appends that wait, and of those that the writer is committing.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Frees the room of appends that were committed or refused.
    pub(super) fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Accepts no further append. What is queued stays queued.
    pub(super) fn close(&self) {
        self.requests.lock().take();
    }

    /// The answer to an append that found the queue full.
    pub(super) fn busy() -> AppendError {
        AppendError::Busy { retry_after: retry_after::COMMIT }
    }
}

impl AppendRequests {
    /// Waits for an append, and takes those behind it until the commit has `bytes_max` bytes.
    /// `false` when the queue is closed and empty.
    pub(super) fn drain(&mut self, batch: &mut Vec<AppendRequest>, bytes_max: usize) -> bool {
        let Some(request) = self.0.blocking_recv() else { return false };
        let mut bytes = request.append.bytes;
        batch.push(request);
        while bytes < bytes_max {
            let Ok(request) = self.0.try_recv() else { break };
            bytes += request.append.bytes;
            batch.push(request);
        }
        true
    }

    /// Refuses these and everything queued. Later appends find the queue closed.
    pub(super) fn refuse_all(&mut self, mut batch: Vec<AppendRequest>, reason: &Arc<str>) {
        self.0.close();
        batch.extend(std::iter::from_fn(|| self.0.try_recv().ok()));
        for request in batch {
            let _ = request.reply.send(Err(AppendError::Storage(reason.clone())));
        }
    }
}

/// Replies to all requests of a batch, in order, and empties it. To many from within their runtime,
/// if they share one: waking them from this thread costs one system call each.
pub(super) fn reply_to_all(
    batch: &mut Vec<AppendRequest>,
    replies: impl Iterator<Item = Result<Appended, AppendError>>,
) {
    let (runtime, is_many) = (shared_runtime(batch), batch.len() > 1);
    let replies: Vec<_> =
        batch.drain(..).zip(replies).map(|(request, reply)| (request.reply, reply)).collect();
    let send = move || {
        for (sender, reply) in replies {
            // A caller that was dropped needs no reply; the append stands.
            let _ = sender.send(reply);
        }
    };
    match runtime {
        Some(runtime) if is_many => drop(runtime.spawn(async move { send() })),
        _ => send(),
    }
}

/// The runtime of all callers, if they share one.
fn shared_runtime(batch: &[AppendRequest]) -> Option<Handle> {
    let first = batch.first()?.runtime.clone()?;
    let id = first.id();
    let same = |request: &AppendRequest| request.runtime.as_ref().is_some_and(|it| it.id() == id);
    batch.iter().all(same).then_some(first)
}
