//! The questions of a session (§7): whether to repeat a step whose outcome a crash left unknown,
//! and whatever its model asks.
//!
//! *Promises.* Each question has a subject of its own, known only to the caller that was asked. An
//! answer counts once, and only while the question is open: until it is decided, here or elsewhere.
//! About a step an answer other than the two words decides nothing; to a model a blank one is none.

use std::time::Duration;

use ai_factory_ports::bus::Subscription;
use ai_factory_schemas::{
    id::{SessionId, ToolCallId},
    problem::Problem,
    session::{Resolution, SessionEvent},
};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    chunk::{self, Query},
    envelope,
    state::AgentState,
};

/// How often a caller is asked before it is told how to decide elsewhere.
const ASKED_MAX: u32 = 3;
/// Capacity of the answer subscription: the first answer counts.
const ANSWERS_WAITING_MAX: usize = 1;

/// What a session asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenIssue {
    /// Whether to repeat a step.
    Step {
        /// The step.
        step: u32,
        /// The attempt with an unknown outcome.
        attempt: u32,
    },
    /// A question of its model.
    Model {
        /// The id of the question.
        id: ToolCallId,
        /// The question.
        text: String,
    },
}

/// What a caller decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerDecision {
    /// About a step.
    Step(Resolution),
    /// The answer to a question of the model.
    Answer(ToolCallId, String),
}

/// What a session asks after one of its events.
pub fn open_issue(before: Option<OpenIssue>, event: &SessionEvent) -> Option<OpenIssue> {
    match event {
        SessionEvent::StepUnknown(event) => {
            Some(OpenIssue::Step { step: event.step, attempt: event.attempt })
        }
        SessionEvent::QuestionAsked(event) => {
            Some(OpenIssue::Model { id: event.question_id, text: event.question.clone() })
        }
        SessionEvent::StepResolved(_)
        | SessionEvent::QuestionAnswered(_)
        | SessionEvent::StepFailed(_)
        | SessionEvent::StepDispatched(_)
        | SessionEvent::Concluded(_) => None,
        _ => before,
    }
}

/// The decision in an answer, if it is clear.
fn decision(about: &OpenIssue, answer: &str) -> Option<CallerDecision> {
    match about {
        OpenIssue::Step { .. } => resolution(answer).map(CallerDecision::Step),
        OpenIssue::Model { id, .. } => {
            let answer = answer.trim();
            (!answer.is_empty()).then(|| CallerDecision::Answer(*id, answer.to_owned()))
        }
    }
}

fn resolution(answer: &str) -> Option<Resolution> {
    let word = answer.trim().trim_end_matches('.').to_ascii_lowercase();
    match word.as_str() {
        "repeat" => Some(Resolution::Repeat),
        "skip" => Some(Resolution::Skip),
        _ => None,
    }
}

/// The open question of one session.
pub struct CallerQuestion {
    id: SessionId,
    about: OpenIssue,
    until: Instant,
    asked: u32,
    /// `None` if the question must be asked (again).
    answers: Option<Subscription>,
}

impl CallerQuestion {
    /// The question for what a session asks: the existing one, or a new one. It is open for
    /// `limit`.
    pub fn of(
        before: Option<Self>,
        id: SessionId,
        issue: Option<&OpenIssue>,
        limit: Duration,
    ) -> Option<Self> {
        let issue = issue?;
        let until = Instant::now() + limit;
        let new = || Self { id, about: issue.clone(), until, asked: 0, answers: None };
        Some(before.filter(|before| before.about == *issue).unwrap_or_else(new))
    }

    /// The question chunk, if it must be sent (again).
    pub async fn ask(&mut self, state: &AgentState) -> Result<Option<Bytes>, Problem> {
        if self.answers.is_some() {
            return Ok(None);
        }
        let unclear = self.asked > 0;
        self.asked += 1;
        if self.asked > ASKED_MAX {
            return Err(self.decide_elsewhere(match self.about {
                OpenIssue::Step { .. } => "the answers to it were neither `repeat` nor `skip`",
                OpenIssue::Model { .. } => "the answers to it were blank",
            }));
        }
        let id: Uuid = state.ids.new_id();
        let reply = state
            .identity
            .subject_of("answer", &id.simple().to_string())
            .map_err(|wrong| Problem::internal(wrong.to_string()))?;
        let answers = state.outside.subscribe((&reply).into(), None, ANSWERS_WAITING_MAX).await;
        self.answers = Some(answers.map_err(|error| Problem::unavailable(error.to_string()))?);
        let prompt = self.about.prompt(unclear);
        Ok(Some(chunk::query(&Query { id, reply_subject: reply.as_str(), prompt: &prompt })))
    }

    /// Waits for the caller's decision; `None` if the answer is unclear. Without a question it
    /// waits for ever. Cancel-safe.
    pub async fn wait_for_decision(
        question: &mut Option<Self>,
    ) -> Result<Option<CallerDecision>, Problem> {
        let Some(Self { answers: Some(answers), until, .. }) = question else {
            return std::future::pending().await;
        };
        let answer = timeout_at(*until, answers.next()).await;
        let Some(question) = question else { return Ok(None) };
        let Ok(answer) = answer else {
            return Err(question.decide_elsewhere("no answer came here in time"));
        };
        question.answers = None;
        let answer = answer.and_then(|answer| envelope::text(&answer.payload).ok());
        Ok(answer.as_deref().and_then(|answer| decision(&question.about, answer)))
    }

    /// The problem that says how to decide elsewhere.
    fn decide_elsewhere(&self, why: &str) -> Problem {
        let id = self.id;
        let (what, command, verb) = match &self.about {
            OpenIssue::Step { step, .. } => (
                format!("step {step} waits for a decision"),
                format!("decide with `ai-factory resolve {id} repeat` (or `skip`)"),
                "resolve",
            ),
            OpenIssue::Model { .. } => (
                "a question of the model waits for an answer".to_owned(),
                format!("answer with `ai-factory answer {id} TEXT`"),
                "answer",
            ),
        };
        Problem::conflict(format!(
            "{what}, and {why}: {command} or POST /supervisor/sessions/{id}/{verb}, or prompt again under the same \
             `Nats-Msg-Id` and be asked again"
        ))
    }
}

impl OpenIssue {
    /// The text for the caller; `is_unclear` if its last answer decided nothing.
    fn prompt(&self, is_unclear: bool) -> String {
        match self {
            Self::Step { step, .. } => {
                let again = if is_unclear { "That was neither `repeat` nor `skip`. " } else { "" };
                format!(
                    "{again}The factory died while step {step} ran, and how far it came is unknown. `repeat` runs it again, \
                     `skip` counts it as failed and goes on."
                )
            }
            Self::Model { text, .. } if is_unclear => format!("That was blank. {text}"),
            Self::Model { text, .. } => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        session::{StepResolved, StepUnknown},
        time::Timestamp,
        turn::{QuestionAnswered, QuestionAsked},
    };

    use super::*;

    #[test]
    fn only_the_two_words_decide() {
        for (answer, expected) in [
            ("repeat", Some(Resolution::Repeat)),
            (" Skip.\n", Some(Resolution::Skip)),
            ("", None),
            ("yes", None),
            ("do not repeat", None),
            ("repeat or skip", None),
        ] {
            assert_eq!(resolution(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_step_is_unknown_until_somebody_decided() {
        let run_id = ai_factory_schemas::id::RunId(Uuid::nil());
        let lost = StepUnknown { step: 2, run_id, attempt: 1 }.into();
        let resolved = StepResolved { step: 2, resolution: Resolution::Skip }.into();
        let about = Some(OpenIssue::Step { step: 2, attempt: 1 });
        assert_eq!(open_issue(None, &lost), about);
        assert_eq!(open_issue(about, &resolved), None);
    }

    #[test]
    fn a_question_of_the_model_takes_any_answer_that_is_not_blank() {
        let id = ToolCallId(Uuid::nil());
        let asked = QuestionAsked {
            turn: 1,
            index: 0,
            question_id: id,
            question: "Which colour?".to_owned(),
            expires: Timestamp::default(),
        };
        let about = open_issue(None, &asked.into()).unwrap();
        assert_eq!(about.prompt(false), "Which colour?");
        assert_eq!(decision(&about, " \n"), None);
        let blue = CallerDecision::Answer(id, "blue".to_owned());
        assert_eq!(decision(&about, " blue\n"), Some(blue));
        let answered = QuestionAnswered { question_id: id, answer: None, by: None };
        assert_eq!(open_issue(Some(about), &answered.into()), None);
    }
}
