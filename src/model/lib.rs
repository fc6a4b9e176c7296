//! Language models: a [`Model`] behind chat completions, behind Anthropic messages, or played
//! from a recording.
//!
//! *Promises.* Those of the port, and: the environment is not read; a provider's usual key goes to
//! that provider's own host only, the configured key to the configured host only.
//!
//! *Not here.* Retries, budgets and masking of what is said: the callers of the port.
//!
//! [`Model`]: ai_factory_ports::model::Model

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::needless_pass_by_value))]

mod chat_body;
mod chat_completions;
mod client;
mod configured;
mod dialect;
mod draft;
mod errors;
mod facts;
mod fence;
mod key_policy;
mod messages;
mod messages_body;
mod patience;
mod provider;
mod recording;
mod settings;
mod sse;
mod text_protocol;
mod wire_text;

pub use configured::ConfiguredModel;
pub use provider::{PROVIDERS, Provider};
pub use recording::{
    RECORDING_BYTES_MAX, RecordedAnswer, RecordedCall, RecordingLine, recorded_events,
};
pub use settings::ModelSettings;
