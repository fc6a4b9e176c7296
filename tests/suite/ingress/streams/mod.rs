//! What the factory keeps at a server with JetStream.

mod dead;
mod events;
pub mod letters;
mod refusals;
mod sessions;
mod shared;

use std::thread;

use ai_factory_schemas::envelope::Recorded;
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, pull},
    stream,
};
use futures_util::StreamExt as _;

use super::{LOOK, Watcher};

pub const EVENTS: &str = "FACTORY_EVENTS";

/// The state of a stream; `None` where there is none.
pub fn state(watcher: &Watcher, name: &str) -> Option<stream::State> {
    let context = watcher.jetstream();
    watcher.wait(async {
        let stream = context.get_stream(name).await.ok()?;
        Some(stream.get_info().await.ok()?.state)
    })
}

/// Waits until the stream of the events has so many.
pub fn wait_until_kept(watcher: &Watcher, count: u64) {
    while state(watcher, EVENTS).is_none_or(|state| state.messages < count) {
        thread::park_timeout(LOOK);
    }
}

/// The first messages of a stream, in their order.
pub fn messages(watcher: &Watcher, name: &str, count: u64) -> Vec<jetstream::Message> {
    let context = watcher.jetstream();
    watcher.wait(async {
        let stream = context.get_stream(name).await.unwrap();
        let unacknowledged =
            pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
        let consumer = stream.create_consumer(unacknowledged).await.unwrap();
        let messages = consumer.messages().await.unwrap();
        let count = usize::try_from(count).unwrap();
        messages.take(count).map(Result::unwrap).collect().await
    })
}

/// The positions of the first events in the stream, in their order.
pub fn positions(watcher: &Watcher, count: u64) -> Vec<u64> {
    let messages = messages(watcher, EVENTS, count);
    messages.iter().map(|message| Recorded::decode(&message.payload).unwrap().position).collect()
}
