//! The window of the configured model, as its server tells it.

use std::time::Duration;

use ai_factory_ports::model::Model;
use ai_factory_schemas::model::ModelEndpoint;
use tokio::{sync::OnceCell, time::timeout};

/// How long a goal waits for a server that has not yet told its window. Without it the session
/// begins, and a call that does not fit fails as such.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// The window in tokens, once the server told it; `None` inside if it does not tell it.
#[derive(Default)]
pub(super) struct ModelWindow(OnceCell<Option<u64>>);

impl ModelWindow {
    /// Asks the server, if it did not tell yet.
    pub(super) async fn ask(&self, model: &dyn Model, endpoint: &ModelEndpoint) -> Option<u64> {
        let asking = async || model.facts(endpoint).await.map(|facts| facts.context_tokens);
        match self.0.get_or_try_init(asking).await {
            Ok(tokens) => *tokens,
            Err(error) => {
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
