//! What a protocol says differently from others.

use ai_factory_ports::model::{ModelAnswer, ModelCall, ModelError, TokenSink};
use serde_json::Value;

/// Whether more of a stream is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamState {
    /// The end mark has not come.
    Open,
    /// The end mark has come: what follows does not count.
    Ended,
}

/// A protocol.
pub(crate) trait Dialect: Send + Sync {
    /// Where calls are posted, from the base of the API.
    fn path(&self) -> &'static str;

    /// Headers of every request.
    fn headers(&self) -> &'static [(&'static str, &'static str)];

    /// The header with the key.
    fn key_header(&self, key: &str) -> (&'static str, String);

    /// The body of a call. `is_own` says whether the host is the provider's own.
    fn body(&self, call: &ModelCall, is_own: bool) -> Value;

    /// Reads the answer of a call.
    fn decoder(&self, call: &ModelCall) -> Box<dyn StreamDecoder>;
}

/// Reads the events of a stream.
pub(crate) trait StreamDecoder: Send {
    /// Takes the data of an event.
    fn event(&mut self, data: &str, sink: &mut dyn TokenSink) -> Result<StreamState, ModelError>;

    /// Number of parts that the model has put out, be they reasoning.
    fn outputs(&self) -> u64;

    /// The answer, after the end mark or the end of the stream.
    fn finish(self: Box<Self>) -> Result<ModelAnswer, ModelError>;
}
