//! The window of the configured model, as its server tells it.

use std::time::Duration;

use ai_factory_ports::model::{Model, ModelError};
use ai_factory_schemas::model::ModelEndpoint;
use tokio::{sync::OnceCell, time::timeout};

/// How long a goal waits for a server that has not yet told its window. Without it the session
/// begins, and a call that does not fit fails as such.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// The window in tokens, once the server told it for good; `None` inside if it does not tell it.
#[derive(Default)]
pub(super) struct ModelWindow(OnceCell<Option<u64>>);

/// Why a window is asked for again.
enum NotFinal {
    /// It may become another one.
    Told(Option<u64>),
    /// The server did not answer.
    Failed(ModelError),
}

impl ModelWindow {
    /// Asks the server, if what it told is not final.
    pub(super) async fn ask(&self, model: &dyn Model, endpoint: &ModelEndpoint) -> Option<u64> {
        let asking = async || {
            let facts = model.facts(endpoint).await.map_err(NotFinal::Failed)?;
            let tokens = facts.context_tokens;
            if facts.is_final { Ok(tokens) } else { Err(NotFinal::Told(tokens)) }
        };
        match self.0.get_or_try_init(asking).await {
            Ok(tokens) => *tokens,
            Err(NotFinal::Told(tokens)) => tokens,
            Err(NotFinal::Failed(error)) => {
                tracing::debug!(%error, "the model's window is not known");
                None
            }
        }
    }

    /// Refuses a window of less than `wanted` tokens, with what to do.
    pub(super) async fn check(
        &self,
        model: &dyn Model,
        endpoint: &ModelEndpoint,
        wanted: u64,
    ) -> Result<(), String> {
        match timeout(TOLD_WITHIN, self.ask(model, endpoint)).await {
            Ok(Some(tokens)) if tokens < wanted => Err(format!(
                "the window of `{}` has {tokens} tokens, and `model_context_tokens` says {wanted}: set it to {tokens}, \
                 or start the model's server with a larger window",
                endpoint.model
            )),
            _ => Ok(()),
        }
    }
}
