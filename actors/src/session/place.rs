//! Whether an unfinished session with a model can go on in this process.

use std::sync::Arc;

use ai_factory_ports::model::Model;
use ai_factory_schemas::{model::ModelEndpoint, problem::Problem, run::IsolationLevel};
use tokio::task::spawn_blocking;

use super::active::SessionActorState;

impl SessionActorState {
    /// Refuses to go on with a session whose model cannot be asked, or that nothing would confine:
    /// it stays as it is until a start with other settings.
    pub(super) async fn check_place(&self) -> Result<(), Problem> {
        let Some(terms) = self.session.model().filter(|_| self.session.concluded().is_none())
        else {
            return Ok(());
        };
        let deps = &self.start.deps;
        if deps.sandbox.isolation().level == IsolationLevel::Process {
            return Err(Problem::conflict(
                "the session has a model, and the sandbox level `process` confines nothing: start the factory with \
                 `sandbox` = `full` or `reduced`",
            ));
        }
        check_model(Arc::clone(&deps.model), terms.endpoint.clone()).await
    }
}

async fn check_model(model: Arc<dyn Model>, endpoint: ModelEndpoint) -> Result<(), Problem> {
    let name = endpoint.model.clone();
    // A recording is a file to read.
    let checked = spawn_blocking(move || model.check(&endpoint)).await;
    checked.unwrap_or_else(|fault| Err(fault.to_string())).map_err(|reason| {
        Problem::conflict(format!(
            "the model of the session, `{name}`, cannot be asked: {reason}; the session stays as it is until then"
        ))
    })
}

#[cfg(test)]
mod tests {
    use ai_factory_ports::model::NoModel;
    use ai_factory_schemas::model::{ModelProtocol, ToolProtocol};

    use super::*;

    #[tokio::test]
    async fn a_model_that_cannot_be_asked_is_refused_by_name() {
        let endpoint = ModelEndpoint {
            model: "ollama/x".to_owned(),
            url: "http://127.0.0.1:1/v1".to_owned(),
            protocol: ModelProtocol::ChatCompletions,
            tools: ToolProtocol::Native,
        };
        let problem = check_model(Arc::new(NoModel), endpoint).await.unwrap_err();
        assert_eq!(problem.status, 409);
        let said = problem.sentence();
        assert!(said.contains("`ollama/x`") && said.contains("set `model`"), "{said}");
    }
}
