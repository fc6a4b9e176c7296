//! The planner: from a prompt to a plan, without a model and without the network.
//!
//! A heuristic follows the layout of the goal. `CommonMark` defines blocks, quotes, headings and
//! lists; other kinds of lists, lines, sentences and the words between them (`then`, `after that`)
//! define where a step ends; fenced and inline code is what a step can run.
//!
//! *Promises.* Pure: the same prompt gives the same plan. No prompt panics. A plan has between 1
//! and [`STEPS_MAX`] steps, numbered from 0, none with an empty action. Nothing is cut inside code,
//! quotes, addresses, numbers, file names or abbreviations. Time is linear in the prompt.
//!
//! *What runs.* A fenced block in a known language, byte for byte except for CRLF, which becomes
//! LF; one without a language if it is a Python program; of a transcript (`console`, `pycon`) the
//! text after prompts; inline code that is labelled as a program. Never: indented blocks, tables,
//! markup, comments, front matter, and blocks whose info string names no language.
//!
//! *What is a step.* The visible document: no comments, tags, front matter and link addresses.
//! Headings are the reason of the steps below them. A table, an indented block, and a block of data
//! belong unchanged to the step before them: their rows and lines are no steps.
//!
//! *Limits.* [`GOAL_BYTES_MAX`], [`STEPS_MAX`], [`CODE_BYTES_MAX`].
//!
//! *Not here.* No judgement whether a step makes sense or is possible: that needs a model.
//!
//! The stages: `markdown` finds blocks, `odd` blocks that are intended but not Markdown, `code`
//! their programs, `mask` other protected stretches, `outline` the lines; `split` cuts lines into
//! pieces, `action` words each piece, `draft` assembles steps, and `frame` adds those of the task
//! type.

mod action;
mod code;
mod document;
mod dot;
mod draft;
mod frame;
mod html;
mod inline_list;
mod language;
mod lexer;
mod markdown;
mod marker;
mod mask;
mod odd;
mod outline;
mod piece;
mod program;
mod prompts;
mod python;
pub mod service;
mod split;
mod token;
mod word;

#[cfg(test)]
mod commonmark;
#[cfg(test)]
mod fences;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod table;

use std::fmt::Write as _;

use ai_factory_schemas::{
    limit::{CODE_BYTES_MAX, GOAL_BYTES_MAX, STEPS_MAX},
    plan::{Plan, Step, TaskType},
};
use mask::Mask;

/// The name of this heuristic in a plan; it changes when plans do.
pub const MODEL_NAME: &str = "heuristic-2";
/// Characters per token of a model, roughly, in prose and code.
const TOKEN_CHARS: usize = 4;
/// The lowest estimate of a plan: the instructions around a prompt cost tokens too.
const TOKENS_MIN: usize = 32;

/// Why a prompt has no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is nothing to plan.
    #[error("the goal is blank: say what is to be done")]
    Blank,
    /// The prompt has a NUL character, which no program and no terminal passes on.
    #[error("the goal holds a NUL character at byte {at}: remove it")]
    Nul {
        /// Its place, in bytes.
        at: usize,
    },
    /// The prompt is longer than [`GOAL_BYTES_MAX`].
    #[error(
        "the goal has {bytes} bytes, at most {GOAL_BYTES_MAX} are allowed: shorten it or split it up"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The plan would have more than [`STEPS_MAX`] steps.
    #[error("the goal has {steps} steps, a plan at most {STEPS_MAX}: split the goal up")]
    TooManySteps {
        /// Their number, steps of the task type included.
        steps: usize,
    },
    /// The code of one step is longer than [`CODE_BYTES_MAX`].
    #[error(
        "the code of step {step} has {bytes} bytes, at most {CODE_BYTES_MAX} are allowed: shorten it"
    )]
    CodeTooLong {
        /// The step, from 0.
        step: u32,
        /// The length of its code.
        bytes: usize,
    },
}

/// Plans `prompt` as work of the kind `task_type`.
pub fn propose(prompt: &str, task_type: TaskType) -> Result<Plan, PlanError> {
    if prompt.len() > GOAL_BYTES_MAX {
        return Err(PlanError::TooLong { bytes: prompt.len() });
    }
    if let Some(at) = prompt.find('\0') {
        return Err(PlanError::Nul { at });
    }
    if is_blank(prompt) {
        return Err(PlanError::Blank);
    }
    let steps = number(&normal(prompt), task_type)?;
    let notes = notes(&steps, task_type);
    Ok(Plan {
        task_type,
        estimated_tokens: estimate(prompt, &steps),
        model_name: MODEL_NAME.to_owned(),
        notes,
        steps,
    })
}

/// Whether `prompt` has no visible character.
pub fn is_blank(prompt: &str) -> bool {
    prompt.chars().all(|c| c.is_whitespace() || action::is_invisible(c))
}

/// `prompt` without its byte order mark, and with CRLF as LF; programs are not changed otherwise.
fn normal(prompt: &str) -> String {
    prompt.trim_start_matches('\u{feff}').replace("\r\n", "\n")
}

/// The steps of the goal and of the task type, numbered.
fn number(text: &str, task_type: TaskType) -> Result<Vec<Step>, PlanError> {
    let (page, code) = code::scan(text);
    let seen = page.visible(text, code.iter().map(|span| span.range.clone()));
    let mask = Mask::new(&seen, &code);
    let units = outline::read(&seen, &mask, &code, &page.leaves);
    let drafts = draft::drafts(&seen, &mask, &code, &units);

    let (before, after) = (frame::before(task_type), frame::after(task_type));
    let count = before.len() + drafts.len().max(1) + after.len();
    if count > STEPS_MAX {
        return Err(PlanError::TooManySteps { steps: count });
    }
    let guard = |(index, (action, rationale)): (u32, &frame::FrameStep)| Step {
        index,
        action: (*action).to_owned(),
        rationale: (*rationale).to_owned(),
        code: None,
    };
    let mut steps: Vec<Step> = (0..).zip(before).map(guard).collect();
    let first = index(steps.len());
    let alone = drafts.len() == 1;
    if drafts.is_empty() {
        steps.push(Step {
            index: first,
            action: single_action(text, &seen, &mask),
            rationale: "The goal is this one step.".to_owned(),
            code: None,
        });
    }
    steps.extend((first..).zip(drafts).map(|(index, draft)| draft.into_step(index, first, alone)));
    let next = index(steps.len());
    steps.extend((next..).zip(after).map(guard));
    for step in &steps {
        let bytes = step.code.as_ref().map_or(0, |code| code.source.len());
        if bytes > CODE_BYTES_MAX {
            return Err(PlanError::CodeTooLong { step: step.index, bytes });
        }
    }
    Ok(steps)
}

/// The goal as one step: its visible text, or all of it if there is none.
fn single_action(text: &str, seen: &str, mask: &Mask) -> String {
    let seen = action::collapse(seen, mask, 0..seen.len());
    let seen = seen.trim();
    if seen.is_empty() {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        seen.to_owned()
    }
}

fn index(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A quarter of the characters of the prompt, code included, and of all actions: a rule of thumb
/// for English.
pub(crate) fn estimate(prompt: &str, steps: &[Step]) -> u32 {
    let plan = steps.iter().map(|step| step.action.chars().count()).sum::<usize>();
    index(((prompt.chars().count() + plan) / TOKEN_CHARS).max(TOKENS_MIN))
}

/// Notes for the reader of the plan, one or two sentences.
fn notes(steps: &[Step], task_type: TaskType) -> String {
    let coded: Vec<&str> =
        steps.iter().filter_map(|step| Some(step.code.as_ref()?.language.as_str())).collect();
    let framed = frame::before(task_type).len() + frame::after(task_type).len();
    let mut languages: Vec<&str> = coded.iter().map(|it| language::display(it)).collect();
    languages.sort_unstable();
    languages.dedup();
    let mut notes = match steps.len() {
        1 => "1 step".to_owned(),
        many => format!("{many} steps"),
    };
    if framed > 0 {
        let _ = write!(notes, ", {framed} of them added for {task_type}");
    }
    match coded.len() {
        0 => notes.push_str("; none carries code that could be run."),
        some => {
            let _ = write!(notes, "; {some} with code ({}).", languages.join(", "));
        }
    }
    notes
}
