//! stub
use ai_factory_schemas::plan::*;
pub mod service;
#[derive(Debug, thiserror::Error)]
#[error("no")]
pub struct PlanError;
pub fn propose(prompt: &str, task_type: TaskType) -> Result<Plan, PlanError> {
    if prompt.is_empty() {
        return Err(PlanError);
    }
    Ok(Plan {
        task_type,
        steps: vec![Step { index: 0, action: prompt.into(), rationale: "r".into(), code: None }],
        estimated_tokens: 32,
        model_name: "m".into(),
        notes: String::new(),
    })
}
