//! Conversion between the port's messages and those of the NATS client.

use ai_factory_ports::bus::{Headers, Message};
use async_nats::{HeaderMap, HeaderName};

/// Headers for the wire, without those whose names are invalid there.
pub(super) fn to_nats(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        if let Ok(name) = name.parse::<HeaderName>() {
            map.insert(name, value);
        }
    }
    map
}

/// The first value of each header.
pub(super) fn headers(map: Option<&HeaderMap>) -> Headers {
    let mut headers = Headers::default();
    for (name, values) in map.into_iter().flat_map(HeaderMap::iter) {
        let name = name.to_string();
        if let Some(value) = values.first() {
            headers.set(name, value.as_str());
        }
    }
    headers
}

/// A message from the wire; `None` if its subject is invalid for the port.
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
