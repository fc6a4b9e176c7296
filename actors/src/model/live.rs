//! What a model says while it says it: masked parts of its text on the bus.
//!
//! *Promises.* Parts are numbered and in order; the last one says whether the answer counts. The
//! first is published as soon as there is one, further ones not more often than
//! [`PART_INTERVAL`]. Nothing of it is recorded, and nobody waits for a listener.

use std::{convert::Infallible, sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::{Bus, Message},
    model::TokenSink,
};
use ai_factory_schemas::{
    answer::{StreamEnd, StreamPart},
    id::{CallId, SessionId},
    subject::Subject,
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{deps::Deps, mask::StreamMask};

/// The shortest time between two parts.
pub(super) const PART_INTERVAL: Duration = Duration::from_millis(50);
/// The largest text of a part, in bytes.
const PART_BYTES_MAX: usize = 64 * 1024;

/// What arrived and is not published yet.
#[derive(Debug, Default)]
struct ArrivedText {
    text: Mutex<String>,
    first_at: Mutex<Option<Instant>>,
    is_new: Notify,
}

/// The sink of a call.
pub(super) struct LiveSink(Arc<ArrivedText>);

impl TokenSink for LiveSink {
    fn text(&mut self, part: &str) {
        if part.is_empty() {
            return;
        }
        self.0.first_at.lock().get_or_insert_with(Instant::now);
        self.0.text.lock().push_str(part);
        self.0.is_new.notify_one();
    }
}

/// The published side.
pub(super) struct LiveText {
    arrived: Arc<ArrivedText>,
    bus: Arc<dyn Bus>,
    /// Where parts are published; nowhere without a session.
    subject: Option<Subject>,
    mask: StreamMask,
    call: CallId,
    attempt: u32,
    /// The number of the next part.
    seq: u64,
}

impl LiveText {
    /// The two sides for an attempt.
    pub(super) fn open(
        deps: &Deps,
        session: Option<SessionId>,
        call: CallId,
        attempt: u32,
    ) -> (LiveSink, Self) {
        let arrived = Arc::<ArrivedText>::default();
        let live = Self {
            arrived: Arc::clone(&arrived),
            bus: Arc::clone(&deps.bus),
            subject: session.map(|session| deps.subjects.stream(session)),
            mask: StreamMask::new(Arc::clone(&deps.mask)),
            call,
            attempt,
            seq: 0,
        };
        (LiveSink(arrived), live)
    }

    /// When the first text arrived.
    pub(super) fn first_at(&self) -> Option<Instant> {
        *self.arrived.first_at.lock()
    }

    /// Publishes what arrives, as long as it is polled.
    pub(super) async fn follow(&mut self) -> Infallible {
        loop {
            self.arrived.is_new.notified().await;
            let arrived = self.take();
            let text = self.mask.push(&arrived);
            if !text.is_empty() {
                self.publish(text, None).await;
                sleep(PART_INTERVAL).await;
            }
        }
    }

    /// Publishes the last part: with the rest of the text, unless it does not count.
    pub(super) async fn close(mut self, end: StreamEnd) {
        let text = match end {
            StreamEnd::End => {
                let arrived = self.take();
                self.mask.push(&arrived) + &self.mask.finish()
            }
            StreamEnd::Void => String::new(),
        };
        self.publish(text, Some(end)).await;
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.arrived.text.lock())
    }

    async fn publish(&mut self, mut text: String, end: Option<StreamEnd>) {
        while text.len() > PART_BYTES_MAX {
            let rest = text.split_off(text.floor_char_boundary(PART_BYTES_MAX));
            self.publish_part(std::mem::replace(&mut text, rest), None).await;
        }
        self.publish_part(text, end).await;
    }

    async fn publish_part(&mut self, text: String, end: Option<StreamEnd>) {
        let Some(subject) = self.subject.clone() else { return };
        let part = StreamPart { call: self.call, attempt: self.attempt, seq: self.seq, text, end };
        self.seq += 1;
        let Ok(payload) = serde_json::to_vec(&part) else { return };
        if let Err(error) = self.bus.publish(Message::new(subject, payload)).await {
            tracing::debug!(%error, "a part of an answer was not published");
        }
    }
}
