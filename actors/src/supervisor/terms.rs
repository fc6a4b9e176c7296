//! The terms on which a model does the work on a goal.

use std::sync::Arc;

use ai_factory_ports::sandbox::Sandbox;
use ai_factory_schemas::{
    model::{Budget, ModelEndpoint, SessionModel, TurnLimits},
    problem::Problem,
    request::{Goal, GoalBudget},
    run::IsolationLevel,
    text::Blob,
};
use tokio::task::spawn_blocking;

use super::Supervisor;
use crate::{
    agent::{plan, prompts::PromptSet, tools::specs},
    limits::ModelLimits,
    planner::{self, service::PLANNED_IN_PLACE_BYTES_MAX},
    workspace::contents,
};

/// The word in place of a model for none.
const NO_MODEL: &str = "none";

/// The terms of a session with a model, and the blobs of them that the journal lacks.
pub(super) struct ModelTerms {
    pub(super) model: Box<SessionModel>,
    pub(super) blobs: Vec<Blob>,
}

/// A blob of the terms, and its size.
struct Listed {
    blob: Blob,
    bytes: u64,
}

impl Listed {
    fn new(written: Result<Blob, serde_json::Error>) -> Result<Self, Problem> {
        let blob = written.map_err(|fault| Problem::internal(fault.to_string()))?;
        let bytes = blob.bytes().len() as u64;
        Ok(Self { blob, bytes })
    }
}

impl Supervisor {
    /// Asks for the model's window in the background, so that the first goal finds it.
    pub(super) async fn ask_for_window(&self) {
        let model = &*self.deps.model;
        if let Ok(Some(endpoint)) = model.endpoint(None) {
            self.window.ask(model, &endpoint).await;
        }
    }

    /// Whether a model may do the work on this goal.
    pub(super) fn may_use_model(&self, goal: &Goal) -> bool {
        match goal.model.as_deref() {
            Some(NO_MODEL) => false,
            Some(_) => true,
            None => !matches!(self.deps.model.endpoint(None), Ok(None)),
        }
    }

    /// The terms for a goal; `None` if no model does the work.
    pub(super) async fn terms(&self, goal: &Goal) -> Result<Option<ModelTerms>, Problem> {
        let named = goal.model.as_deref();
        if named == Some(NO_MODEL) {
            return Ok(None);
        }
        let wrong = |fault: String| Problem::invalid(&["body", "model"], "value_error", fault);
        let Some(endpoint) = self.deps.model.endpoint(named).map_err(wrong)? else {
            return Ok(None);
        };
        if named.is_none() && carries_code(goal, &self.deps.sandbox).await {
            return Ok(None);
        }
        self.check_place()?;
        let limits = &self.deps.limits.model;
        let (budget, turns) = checked(goal, limits)?;
        let window = limits.parameters.context_tokens;
        let model = &*self.deps.model;
        self.window.check(model, &endpoint, window).await.map_err(Problem::bad_request)?;
        self.written(goal, endpoint, budget, turns).await.map(Some)
    }

    /// Refuses where no workspace can be run in a jail, or no further session may wait.
    fn check_place(&self) -> Result<(), Problem> {
        if self.deps.sandbox.isolation().level == IsolationLevel::Process {
            return Err(Problem::bad_request(
                "a model does no work at the sandbox level `process`, which confines nothing: set `sandbox` to `full` or \
                 `reduced`, or ask with the model `none`",
            ));
        }
        let waiting_max = self.deps.limits.model.sessions_waiting_max;
        if self.deps.sessions.waiting.count() >= waiting_max {
            return Err(Problem::unavailable(format!(
                "{waiting_max} sessions wait for an answer or a budget already: answer or cancel some, or raise \
                 `sessions_waiting_max`"
            )));
        }
        Ok(())
    }

    async fn written(
        &self,
        goal: &Goal,
        endpoint: ModelEndpoint,
        budget: Budget,
        limits: TurnLimits,
    ) -> Result<ModelTerms, Problem> {
        let settings = &self.deps.limits.model;
        let prompts = Listed::new(PromptSet::current().to_blob())?;
        let tools = Listed::new(specs::to_blob(&specs::specs(goal.ask)))?;
        let plan_schema = Listed::new(serde_json::to_vec(&plan::schema()).map(Blob::new))?;
        let model = SessionModel {
            endpoint,
            parameters: settings.parameters,
            prices: settings.prices,
            budget,
            limits,
            prompts: prompts.blob.hash(),
            prompts_bytes: prompts.bytes,
            tools: tools.blob.hash(),
            tools_bytes: tools.bytes,
            plan_schema: plan_schema.blob.hash(),
            plan_schema_bytes: plan_schema.bytes,
            may_ask: goal.ask,
        };
        let blobs = [prompts, tools, plan_schema].map(|listed| listed.blob).into();
        let lacking = contents::without_stored(&*self.deps.journal, blobs).await;
        Ok(ModelTerms { model: Box::new(model), blobs: lacking.map_err(Problem::from)? })
    }
}

/// Whether the heuristic plan of a goal has a step with code that the sandbox can run.
async fn carries_code(goal: &Goal, sandbox: &Arc<dyn Sandbox>) -> bool {
    let (text, task_type) = (goal.goal.clone(), goal.task_type);
    let sandbox = Arc::clone(sandbox);
    let carries = move || {
        let plan = planner::propose(&text, task_type);
        plan.is_ok_and(|plan| {
            let mut code = plan.steps.iter().filter_map(|step| step.code.as_ref());
            code.any(|code| sandbox.supports(&code.language))
        })
    };
    if goal.goal.len() <= PLANNED_IN_PLACE_BYTES_MAX {
        return carries();
    }
    // A planner that fails is the session's to tell.
    spawn_blocking(carries).await.unwrap_or(true)
}

/// Budget and limits of the turns for a goal, which can only lower those of the settings.
fn checked(goal: &Goal, limits: &ModelLimits) -> Result<(Budget, TurnLimits), Problem> {
    let GoalBudget { tokens_max, cost_micros_max } = goal.budget.unwrap_or_default();
    let has_prices = limits.prices.is_some();
    if limits.budget.cost_micros_max.or(limits.day.cost_micros_max).is_some() && !has_prices {
        return Err(Problem::bad_request(
            "a limit of cost is set and no prices: set `model_prices`, or remove the limit",
        ));
    }
    if cost_micros_max.is_some() && !has_prices {
        let sentence =
            "the factory knows no prices, so no cost: set `model_prices`, or limit tokens";
        let at = ["body", "budget", "cost_micros_max"];
        return Err(Problem::invalid(&at, "value_error", sentence));
    }
    let tokens_max =
        lowered(&["body", "budget", "tokens_max"], tokens_max, Some(limits.budget.tokens_max))?;
    let cost_micros_max = lowered(
        &["body", "budget", "cost_micros_max"],
        cost_micros_max,
        limits.budget.cost_micros_max,
    )?;
    let turns_max = Some(u64::from(limits.turns.turns_max));
    let turns_max = lowered(&["body", "turns_max"], goal.turns_max.map(u64::from), turns_max)?;
    let turns_max = turns_max.and_then(|turns| u32::try_from(turns).ok());
    let tokens_max = tokens_max.unwrap_or(limits.budget.tokens_max);
    let turns_max = turns_max.unwrap_or(limits.turns.turns_max);
    Ok((Budget { tokens_max, cost_micros_max }, TurnLimits { turns_max, ..limits.turns }))
}

/// What a request asks for within a setting; the setting, if it asks for nothing.
fn lowered(at: &[&str], asked: Option<u64>, max: Option<u64>) -> Result<Option<u64>, Problem> {
    match (asked, max) {
        (None, max) => Ok(max),
        (Some(0), _) => Err(Problem::invalid(at, "out_of_range", "must be at least 1")),
        (Some(asked), Some(max)) if asked > max => {
            let sentence = format!("is limited by the settings: at most {max}, not {asked}");
            Err(Problem::invalid(at, "out_of_range", sentence))
        }
        (Some(asked), _) => Ok(Some(asked)),
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_ports::sandbox::{Language, Program, ProgramOutcome, SandboxError};
    use ai_factory_schemas::{model::TokenPrices, run::Isolation};

    use super::*;

    /// Supports bash alone.
    struct BashSandbox;

    #[ractor::async_trait]
    impl Sandbox for BashSandbox {
        fn isolation(&self) -> Isolation {
            Isolation::default()
        }

        async fn languages(&self) -> Vec<Language> {
            Vec::new()
        }

        fn supports(&self, language: &str) -> bool {
            language == "bash"
        }

        fn is_repeatable(&self) -> bool {
            true
        }

        async fn run(&self, _: Program) -> Result<ProgramOutcome, SandboxError> {
            Err(SandboxError::Refused("not here".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_goal_carries_code_only_in_a_language_that_can_be_run() {
        let sandbox: Arc<dyn Sandbox> = Arc::new(BashSandbox);
        for (language, carries) in [("bash", true), ("rust", false), ("javascript", false)] {
            let goal = Goal::new(format!("Make this faster:\n```{language}\nls\n```\n"));
            assert_eq!(carries_code(&goal, &sandbox).await, carries, "{language}");
        }
    }

    const PRICES: TokenPrices =
        TokenPrices { input: 1, cache_read: None, cache_write: None, output: 1 };

    fn limits(cost_micros_max: Option<u64>, prices: Option<TokenPrices>) -> ModelLimits {
        let budget = Budget { tokens_max: 100, cost_micros_max };
        ModelLimits { prices, budget, ..ModelLimits::default() }
    }

    fn goal(tokens: Option<u64>, cost: Option<u64>, turns_max: Option<u32>) -> Goal {
        let budget = GoalBudget { tokens_max: tokens, cost_micros_max: cost };
        Goal { budget: Some(budget), turns_max, ..Goal::new("g") }
    }

    #[test]
    fn a_goal_only_lowers_the_settings() {
        let priced = limits(Some(10), Some(PRICES));
        let (budget, turns) = checked(&goal(None, None, None), &priced).unwrap();
        assert_eq!(
            (budget.tokens_max, budget.cost_micros_max, turns.turns_max),
            (100, Some(10), 100)
        );
        let (budget, turns) = checked(&goal(Some(99), Some(9), Some(7)), &priced).unwrap();
        assert_eq!((budget.tokens_max, budget.cost_micros_max, turns.turns_max), (99, Some(9), 7));
        for (higher, field) in [
            (goal(Some(101), None, None), "body.budget.tokens_max"),
            (goal(Some(0), None, None), "body.budget.tokens_max"),
            (goal(None, Some(11), None), "body.budget.cost_micros_max"),
            (goal(None, None, Some(101)), "body.turns_max"),
        ] {
            let problem = checked(&higher, &priced).unwrap_err();
            assert!(problem.status == 422 && problem.sentence().starts_with(field), "{problem}");
        }
    }

    #[test]
    fn a_limit_of_cost_needs_prices() {
        let unpriced = checked(&goal(None, None, None), &limits(Some(10), None)).unwrap_err();
        assert!(unpriced.sentence().contains("`model_prices`"), "{unpriced}");
        let asked = checked(&goal(None, Some(1), None), &limits(None, None)).unwrap_err();
        assert_eq!(asked.status, 422);
        let (budget, _) = checked(&goal(None, Some(1), None), &limits(None, Some(PRICES))).unwrap();
        assert_eq!(budget.cost_micros_max, Some(1));
    }
}
