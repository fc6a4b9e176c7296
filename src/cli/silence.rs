//! The text for a session without output: its result is `no-op` whether its code ran or there was
//! none.

use std::borrow::Cow;

use ai_factory_schemas::{
    answer::{SessionAnswer, TimelineEntry},
    envelope::Recorded,
    event::Event,
    plan::Plan,
    session::{SessionEvent, SessionPhase, SessionStatus, StepFinished, StepSkipped},
};

/// The contract's result of a session without output.
pub(crate) const NO_OUTPUT: &str = "no-op";

/// In place of the result of a model that declared none.
const NO_RESULT: &str = "no result";

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StepEnd {
    /// Its code ran.
    Ran {
        /// Which step, from 0.
        step: u32,
        /// The exit code.
        exit_code: i32,
        /// Whether it wrote nothing at all, as opposed to only white space.
        is_silent: bool,
    },
    /// It was skipped.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl StepEnd {
    /// The step end in an event of a session.
    pub(crate) fn of_event(recorded: &Recorded) -> Option<Self> {
        match &recorded.event {
            Event::Session(SessionEvent::StepFinished(finished)) => Some(Self::ran(finished)),
            Event::Session(SessionEvent::StepSkipped(skipped)) => Some(Self::skipped(skipped)),
            _ => None,
        }
    }

    /// The step end in an entry of a session's timeline.
    pub(crate) fn of_entry(entry: &TimelineEntry) -> Option<Self> {
        let data = entry.data.clone();
        match entry.event.as_str() {
            "session.step_finished" => serde_json::from_value(data).ok().as_ref().map(Self::ran),
            "session.step_skipped" => serde_json::from_value(data).ok().as_ref().map(Self::skipped),
            _ => None,
        }
    }

    fn ran(finished: &StepFinished) -> Self {
        let is_silent = finished.stdout.head().is_empty() && finished.stderr.head().is_empty();
        Self::Ran { step: finished.step, exit_code: finished.exit_code, is_silent }
    }

    fn skipped(skipped: &StepSkipped) -> Self {
        Self::Skipped { reason: skipped.reason.clone() }
    }
}

/// The text to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Code ran and wrote nothing: the replacement for its output.
    Ran(String),
    /// Nothing ran, and the reason.
    NothingRan(String),
}

impl Silence {
    /// Of a session without output, from its plan and the ends of its steps.
    pub(crate) fn of(plan: &Plan, ends: impl Iterator<Item = StepEnd>) -> Self {
        let (mut lines, mut reasons): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for end in ends {
            match end {
                StepEnd::Ran { step, exit_code, is_silent } => {
                    let what = if is_silent { "output" } else { "output but white space" };
                    lines.push(format!("[step {step}] ran without {what}, exit code {exit_code}"));
                }
                StepEnd::Skipped { reason } if !reasons.contains(&reason) => reasons.push(reason),
                StepEnd::Skipped { .. } => {}
            }
        }
        if !lines.is_empty() {
            return Self::Ran(lines.join("\n"));
        }
        if plan.steps.iter().any(|step| step.code.is_some()) {
            return Self::NothingRan(format!("nothing was run: {}", reasons.join("; ")));
        }
        Self::NothingRan(
            "nothing was run: there is no code in the goal, and no language model does the work; put a program \
             behind a line ```python and end it with a line ```, or name a model with --model"
                .to_owned(),
        )
    }
}

/// The result of a session with a model in the form for people.
pub(crate) fn of_model(result: &str, phase: SessionPhase) -> &str {
    let is_success = phase == SessionPhase::Concluded(SessionStatus::Success);
    if result == NO_OUTPUT && !is_success { NO_RESULT } else { result }
}

/// A result in the form for people.
pub(crate) fn shown<'a>(answer: &'a SessionAnswer, silence: Option<&'a Silence>) -> Cow<'a, str> {
    match silence {
        Some(Silence::Ran(lines)) => lines.into(),
        Some(Silence::NothingRan(_)) | None if answer.model.is_some() => {
            of_model(&answer.result, SessionPhase::Concluded(answer.status)).into()
        }
        Some(Silence::NothingRan(_)) | None => answer.result.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::plan::{Code, Step, TaskType};

    use super::*;

    fn plan(codes: &[bool]) -> Plan {
        let code = || Code { language: "python".to_owned(), source: "pass".to_owned() };
        let step = |(index, has_code): (u32, &bool)| Step {
            index,
            action: "do".to_owned(),
            rationale: "because".to_owned(),
            code: has_code.then(code),
        };
        Plan {
            task_type: TaskType::General,
            steps: (0..).zip(codes).map(step).collect(),
            estimated_tokens: 32,
            model_name: "m".to_owned(),
            notes: String::new(),
        }
    }

    fn ran(step: u32, exit_code: i32, is_silent: bool) -> StepEnd {
        StepEnd::Ran { step, exit_code, is_silent }
    }

    fn skipped(reason: &str) -> StepEnd {
        StepEnd::Skipped { reason: reason.to_owned() }
    }

    #[test]
    fn code_that_wrote_nothing_is_told_with_its_exit_code() {
        let ends = [skipped("no code to run"), ran(1, 0, true), ran(2, 3, true), ran(3, 0, false)];
        let Silence::Ran(lines) = Silence::of(&plan(&[false, true, true, true]), ends.into_iter())
        else {
            panic!("code ran");
        };
        assert_eq!(
            lines,
            "[step 1] ran without output, exit code 0\n[step 2] ran without output, exit code 3\n\
             [step 3] ran without output but white space, exit code 0"
        );
    }

    #[test]
    fn a_model_that_declared_no_end_has_no_result() {
        let error = SessionPhase::Concluded(SessionStatus::Error);
        assert_eq!(of_model(NO_OUTPUT, error), "no result");
        assert_eq!(of_model("It works.", error), "It works.");
        assert_eq!(of_model(NO_OUTPUT, SessionPhase::Concluded(SessionStatus::Success)), NO_OUTPUT);
    }

    #[test]
    fn where_nothing_ran_it_is_told_why() {
        let why = |codes: &[bool], ends: &[StepEnd]| match Silence::of(
            &plan(codes),
            ends.iter().cloned(),
        ) {
            Silence::NothingRan(why) => why,
            Silence::Ran(lines) => panic!("{lines}"),
        };
        let no_code = skipped("no code to run");
        let said = why(&[false, false], &[no_code.clone(), no_code.clone()]);
        assert!(
            said.contains("no code in the goal") && said.contains("no language model"),
            "{said}"
        );
        let not_reached = skipped("not reached: cancelled");
        let said = why(&[true, true], &[not_reached.clone(), not_reached]);
        assert_eq!(said, "nothing was run: not reached: cancelled");
    }
}
