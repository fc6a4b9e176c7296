//! Messages as the port has them, and as the NATS client has them.

use ai_factory_actors::ports::bus::{Headers, Message};
use async_nats::HeaderMap;

/// Headers for the wire.
pub(super) fn to_nats(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        map.insert(name, value);
    }
    map
}

/// The first value of each header.
pub(super) fn headers(map: Option<&HeaderMap>) -> Headers {
    let mut headers = Headers::default();
    for (name, values) in map.into_iter().flat_map(HeaderMap::iter) {
        if let Some(value) = values.first() {
            headers.set(name.to_string(), value.as_str());
        }
    }
    headers
}

/// A message from the wire; `None` where its subject is none that we could name.
pub(super) fn from_nats(message: async_nats::Message) -> Option<Message> {
    let reply = match message.reply {
        Some(reply) => Some(reply.as_str().parse().ok()?),
        None => None,
    };
    Some(Message {
        subject: message.subject.as_str().parse().ok()?,
        reply,
        headers: headers(message.headers.as_ref()),
        payload: message.payload,
    })
}
