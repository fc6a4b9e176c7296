//! Messages of the bus: address, headers and body.

use std::collections::BTreeMap;

use ai_factory_schemas::subject::Subject;
use bytes::Bytes;

/// Header names (case-sensitive) and their values, one value per name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a header, replacing an earlier value. Line breaks in the value become spaces: a header
    /// is one line.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let value: String = value.into();
        let value =
            if value.contains(['\r', '\n']) { value.replace(['\r', '\n'], " ") } else { value };
        self.0.insert(name.into(), value);
    }

    /// All headers by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The size on the wire of NATS (ADR-4), in bytes.
    fn bytes(&self) -> usize {
        const VERSION_LINE_AND_END: usize = "NATS/1.0\r\n\r\n".len();
        if self.is_empty() {
            return 0;
        }
        let lines = self.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len());
        VERSION_LINE_AND_END + lines.sum::<usize>()
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The address.
    pub subject: Subject,
    /// The subject for the answer, if one is expected.
    pub reply: Option<Subject>,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub payload: Bytes,
}

impl Message {
    /// A message without headers that expects no answer.
    pub fn new(subject: Subject, payload: impl Into<Bytes>) -> Self {
        Self { subject, reply: None, headers: Headers::default(), payload: payload.into() }
    }

    /// Size of payload and headers in bytes, as NATS counts it: every bus refuses the same messages
    /// as too large.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.headers.bytes()
    }
}
