//! The only question a session can ask (§7): whether to repeat a step whose outcome a crash left
//! unknown.
//!
//! *Promises.* Each question has a subject of its own, known only to the caller that was asked. An
//! answer counts once, and only while the question is open: until it is decided, here or elsewhere.
//! An answer other than the two words decides nothing.

use std::time::Duration;

use ai_factory_ports::bus::Subscription;
use ai_factory_schemas::{
    id::SessionId,
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

/// A step with an unknown outcome, and its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownStep {
    step: u32,
    attempt: u32,
}

/// The step with an unknown outcome after an event of its session.
pub fn unknown(before: Option<UnknownStep>, event: &SessionEvent) -> Option<UnknownStep> {
    match event {
        SessionEvent::StepUnknown(event) => {
            Some(UnknownStep { step: event.step, attempt: event.attempt })
        }
        SessionEvent::StepResolved(_)
        | SessionEvent::StepFailed(_)
        | SessionEvent::StepDispatched(_)
        | SessionEvent::Concluded(_) => None,
        _ => before,
    }
}

/// The decision in an answer, if it is clear.
fn decision(answer: &str) -> Option<Resolution> {
    let word = answer.trim().trim_end_matches('.').to_ascii_lowercase();
    match word.as_str() {
        "repeat" => Some(Resolution::Repeat),
        "skip" => Some(Resolution::Skip),
        _ => None,
    }
}

/// The open question of one step.
pub struct StepQuestion {
    id: SessionId,
    about: UnknownStep,
    until: Instant,
    asked: u32,
    /// `None` if the question must be asked (again).
    answers: Option<Subscription>,
}

impl StepQuestion {
    /// The question for an unknown step: the existing one, or a new one. It is open for `limit`.
    pub fn of(
        before: Option<Self>,
        id: SessionId,
        unknown: Option<UnknownStep>,
        limit: Duration,
    ) -> Option<Self> {
        let about = unknown?;
        let new = || Self { id, about, until: Instant::now() + limit, asked: 0, answers: None };
        Some(before.filter(|before| before.about == about).unwrap_or_else(new))
    }

    /// The question chunk, if it must be sent (again).
    pub async fn ask(&mut self, state: &AgentState) -> Result<Option<Bytes>, Problem> {
        if self.answers.is_some() {
            return Ok(None);
        }
        let unclear = self.asked > 0;
        self.asked += 1;
        if self.asked > ASKED_MAX {
            return Err(self.decide_elsewhere("the answers to it were neither `repeat` nor `skip`"));
        }
        let id: Uuid = state.ids.new_id();
        let reply = state
            .identity
            .subject_of("answer", &id.simple().to_string())
            .map_err(|wrong| Problem::internal(wrong.to_string()))?;
        let answers = state.outside.subscribe((&reply).into(), None, ANSWERS_WAITING_MAX).await;
        self.answers = Some(answers.map_err(|error| Problem::unavailable(error.to_string()))?);
        let again = if unclear { "That was neither `repeat` nor `skip`. " } else { "" };
        let prompt = format!(
            "{again}The factory died while step {} ran, and how far it came is unknown. `repeat` runs it again, `skip` counts it \
             as failed and goes on.",
            self.about.step
        );
        Ok(Some(chunk::query(&Query { id, reply_subject: reply.as_str(), prompt: &prompt })))
    }

    /// Waits for the caller's decision; `None` if the answer is unclear. Without a question it
    /// waits for ever. Cancel-safe.
    pub async fn wait_for_decision(
        question: &mut Option<Self>,
    ) -> Result<Option<Resolution>, Problem> {
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
        Ok(answer.as_deref().and_then(decision))
    }

    /// The problem that says how to decide elsewhere.
    fn decide_elsewhere(&self, why: &str) -> Problem {
        let Self { id, about: UnknownStep { step, .. }, .. } = self;
        Problem::conflict(format!(
            "step {step} waits for a decision, and {why}: decide with `ai-factory resolve {id} repeat` (or `skip`) or POST \
             /supervisor/sessions/{id}/resolve, or prompt again under the same `Nats-Msg-Id` and be asked again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::session::{StepResolved, StepUnknown};

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
            assert_eq!(decision(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_step_is_unknown_until_somebody_decided() {
        let run_id = ai_factory_schemas::id::RunId(Uuid::nil());
        let lost = StepUnknown { step: 2, run_id, attempt: 1 }.into();
        let resolved = StepResolved { step: 2, resolution: Resolution::Skip }.into();
        let about = Some(UnknownStep { step: 2, attempt: 1 });
        assert_eq!(unknown(None, &lost), about);
        assert_eq!(unknown(about, &resolved), None);
    }
}
