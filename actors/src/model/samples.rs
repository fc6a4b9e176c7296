//! Samples for the tests of calls.

use ai_factory_schemas::{
    call::CallRequested,
    model::{ModelEndpoint, ModelParameters, ModelProtocol, Reservation, ToolProtocol},
    text::BlobHash,
};

/// What is set aside for an attempt.
pub(super) const RESERVED: Reservation =
    Reservation { input_tokens: 100, output_tokens: 50, cost_micros: None };

/// An attempt of a call without anything around it.
pub(super) fn requested(attempt: u32) -> CallRequested {
    CallRequested {
        session_id: None,
        turn: 0,
        attempt,
        endpoint: ModelEndpoint {
            model: "test/model".into(),
            url: "http://127.0.0.1:1/v1".into(),
            protocol: ModelProtocol::ChatCompletions,
            tools: ToolProtocol::Native,
        },
        parameters: ModelParameters {
            temperature_milli: None,
            seed: None,
            output_tokens_max: 50,
            context_tokens: 1000,
        },
        request: BlobHash::of(b"request"),
        predecessor: None,
        kept: 0,
        appended: Vec::new(),
        tools: None,
        schema: None,
        reserved: RESERVED,
        prices: None,
        day: "2026-12-01".into(),
    }
}
