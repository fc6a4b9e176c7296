//! The plan that a model makes: its schema, and how an answer is read as one.
//!
//! *Promises.* Code in a plan is data: it is kept, and nothing runs it.

use ai_factory_schemas::{
    limit::STEPS_MAX,
    plan::{Code, Plan, Step, TaskType},
    quote::printable,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::planner::estimate;

/// The longest plan, in bytes: it stands in one record.
const PLAN_BYTES_MAX: usize = 64 * 1024;
/// The longest description of a fault, in characters.
const FAULT_CHARS_MAX: usize = 300;
/// The notes of a plan that the model made.
const NOTES: &str = "Made by the model, which may depart from it. Nothing in it runs by itself.";
/// What is added to the notes of the heuristic plan if the model made none.
pub const HEURISTIC_NOTE: &str = "The model answered twice with something that is no plan, so this one is the built-in planner's.";

/// The JSON Schema of a plan.
pub fn schema() -> Value {
    let step = json!({
        "type": "object",
        "properties": {
            "action": { "type": "string", "description": "What to do, in one sentence" },
            "rationale": { "type": "string", "description": "Why, in one sentence" },
        },
        "required": ["action", "rationale"],
    });
    json!({
        "type": "object",
        "properties": {
            "steps": { "type": "array", "items": step, "description": "The steps in their order" },
        },
        "required": ["steps"],
    })
}

/// A plan as a model writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum PlanText {
    Object { steps: Vec<StepText> },
    Steps(Vec<StepText>),
}

/// A step as a model writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum StepText {
    Action(String),
    Step {
        action: String,
        #[serde(default)]
        rationale: Option<String>,
        #[serde(default)]
        code: Option<CodeText>,
    },
}

/// Code as a model writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum CodeText {
    Source(String),
    Code {
        #[serde(default)]
        language: String,
        source: String,
    },
}

/// The plan that an answer is. Words around its JSON, and a Markdown fence, are ignored.
///
/// # Errors
/// Why it is none, as a sentence for the model.
pub fn plan_of(text: &str, goal: &str, task_type: TaskType, model: &str) -> Result<Plan, String> {
    if text.len() > PLAN_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {PLAN_BYTES_MAX} are read.", text.len()));
    }
    let steps = match read(text)? {
        PlanText::Object { steps } | PlanText::Steps(steps) => steps,
    };
    if steps.is_empty() || steps.len() > STEPS_MAX {
        return Err(format!("it has {} steps, 1 to {STEPS_MAX} are needed.", steps.len()));
    }
    let steps = steps.into_iter().zip(0..).map(|(step, index)| step_of(step, index));
    let steps = steps.collect::<Result<Vec<_>, _>>()?;
    Ok(Plan {
        task_type,
        estimated_tokens: estimate(goal, &steps),
        steps,
        model_name: model.to_owned(),
        notes: NOTES.to_owned(),
    })
}

/// Reads the whole answer, or else what stands in it between the first and the last brace.
fn read(text: &str) -> Result<PlanText, String> {
    let parse = |json: &str| serde_json::from_str::<Value>(json).ok();
    let within = || {
        let (start, end) = (text.find('{')?, text.rfind('}')? + 1);
        text.get(start..end)
    };
    let Some(value) = parse(text.trim()).or_else(|| within().and_then(parse)) else {
        return Err("it is not JSON.".to_owned());
    };
    if let Some(steps) = value.get("steps")
        && !steps.is_array()
    {
        return Err("`steps` must be a list.".to_owned());
    }
    let form = "it must be an object with the list `steps`; each step needs `action`, a text.";
    serde_json::from_value(value).map_err(|_| form.to_owned())
}

fn step_of(step: StepText, index: u32) -> Result<Step, String> {
    let (action, rationale, code) = match step {
        StepText::Action(action) => (action, None, None),
        StepText::Step { action, rationale, code } => (action, rationale, code),
    };
    let action = action.trim().to_owned();
    if action.is_empty() {
        let fault = format!("step {} has an empty `action`.", index.saturating_add(1));
        return Err(printable(&fault, FAULT_CHARS_MAX));
    }
    let code = code.map(|code| match code {
        CodeText::Source(source) => Code { language: String::new(), source },
        CodeText::Code { language, source } => Code { language: language.to_lowercase(), source },
    });
    let rationale = rationale.unwrap_or_default().trim().to_owned();
    Ok(Step { index, action, rationale, code })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str) -> Result<Plan, String> {
        plan_of(text, "goal", TaskType::Coding, "a/b")
    }

    #[test]
    fn a_plan_is_read_whatever_is_around_it() {
        let json =
            r#"{"steps": [{"action": " Read it ", "rationale": "First"}, {"action": "Do it"}]}"#;
        let plan = planned(json).unwrap();
        assert_eq!((plan.task_type, plan.model_name.as_str()), (TaskType::Coding, "a/b"));
        let actions: Vec<_> = plan.steps.iter().map(|step| step.action.as_str()).collect();
        assert_eq!(actions, ["Read it", "Do it"]);
        assert_eq!((plan.steps[1].index, plan.steps[1].rationale.as_str()), (1, ""));
        assert_eq!(plan.estimated_tokens, 32);
        for around in [
            format!("```json\n{json}\n```"),
            format!("Here is the plan:\n\n```\n{json}\n```\nShall I begin?"),
            format!("<think>steps, hm</think>\n{json}"),
            format!("\n  {json}  \n"),
        ] {
            assert_eq!(planned(&around).as_ref(), Ok(&plan), "{around}");
        }
        assert_eq!(planned(r#"["Read it", "Do it"]"#).unwrap().steps.len(), 2);
        assert_eq!(planned(r#"{"steps": ["Do it"], "goal": "x"}"#).unwrap().steps.len(), 1);
    }

    #[test]
    fn code_in_a_plan_is_kept_as_data() {
        let text = r#"{"steps": [{"action": "a", "code": {"language": "Bash", "source": "ls"}},
                       {"action": "b", "code": "ls"}, {"action": "c", "code": null}]}"#;
        let codes: Vec<_> =
            planned(text).unwrap().steps.into_iter().map(|step| step.code).collect();
        let code =
            |language: &str| Some(Code { language: language.to_owned(), source: "ls".to_owned() });
        assert_eq!(codes, [code("bash"), code(""), None]);
    }

    #[test]
    fn what_is_no_plan_is_told() {
        let step = r#"{"action": "a", "rationale": "b"}"#;
        let many = vec![step; STEPS_MAX + 1].join(",");
        for (text, words) in [
            ("", "it is not JSON"),
            ("I will read the file.", "it is not JSON"),
            ("{\"steps\": [", "it is not JSON"),
            ("{\"steps\": []}", "has 0 steps, 1 to 64"),
            (&*format!("{{\"steps\": [{many}]}}"), "has 65 steps"),
            ("{\"steps\": \"a\"}", "`steps` must be a list"),
            ("{\"plan\": []}", "an object with the list `steps`"),
            ("{\"steps\": [{\"do\": \"a\"}]}", "each step needs `action`"),
            ("{\"steps\": [\"a\", \" \"]}", "step 2 has an empty `action`"),
            (&*" ".repeat(PLAN_BYTES_MAX + 1), "at most 65536"),
            ("3", "an object with the list"),
        ] {
            let fault = planned(text).unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
    }

    #[test]
    fn the_schema_has_no_other_keyword_than_small_servers_know() {
        const KEYWORDS: [&str; 6] =
            ["type", "properties", "required", "enum", "description", "items"];
        fn check(schema: &Value) {
            for (keyword, value) in schema.as_object().unwrap() {
                assert!(KEYWORDS.contains(&keyword.as_str()), "{keyword}");
                match keyword.as_str() {
                    "items" => check(value),
                    "properties" => value.as_object().unwrap().values().for_each(check),
                    _ => {}
                }
            }
        }
        check(&schema());
    }
}
