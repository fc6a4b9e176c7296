//! Decider of a call: attempts, each requested and then answered, failed or abandoned.

use ai_factory_schemas::{
    answer::CallEnd,
    call::{CallAbandoned, CallAnswered, CallEvent, CallFailed, CallRequested},
    model::{Charge, ModelErrorClass, TokenUsage},
};

use super::charge;
use crate::decider::{Decider, IllegalEvent};

/// The fold of a call's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The attempts, oldest first.
    attempts: Vec<CallAttempt>,
    is_abandoned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct CallAttempt {
    requested: CallRequested,
    end: Option<CallEnd>,
}

/// Commands of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallCommand {
    /// Begin an attempt.
    Request(Box<CallRequested>),
    /// End the attempt under way: a crash lost it.
    Lose,
    /// End the record: nobody waits for the call.
    Abandon {
        /// Why.
        reason: String,
    },
}

/// The effect of a call: the request to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEffect {
    /// The attempt.
    pub attempt: u32,
}

/// Outcome of the effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The model answered. What is charged is decided here, whatever it says.
    Answered(Box<CallAnswered>),
    /// It did not.
    Failed {
        /// The class of the failure.
        class: ModelErrorClass,
        /// What is wrong, and what to do.
        reason: String,
        /// When the provider wants to be asked again, in milliseconds.
        retry_after_ms: Option<u64>,
        /// What the provider says that it took.
        usage: Option<TokenUsage>,
        /// From the request to the failure, in milliseconds.
        duration_ms: u64,
    },
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallRejection {
    /// An attempt is under way.
    #[error("an attempt of the call is under way")]
    UnderWay,
    /// No attempt is under way.
    #[error("no attempt of the call is under way")]
    NotUnderWay,
    /// The call is over.
    #[error("the call is over: it was answered, or nobody waited for it")]
    Over,
    /// A later attempt was made already.
    #[error("attempts of a call count up")]
    AttemptTooLow,
}

impl Call {
    /// The request of an attempt.
    pub fn requested(&self, attempt: u32) -> Option<&CallRequested> {
        self.attempts.iter().map(|it| &it.requested).find(|it| it.attempt == attempt)
    }

    /// The end of an attempt, if it is known.
    pub fn end(&self, attempt: u32) -> Option<&CallEnd> {
        self.attempts.iter().find(|it| it.requested.attempt == attempt)?.end.as_ref()
    }

    /// The attempt under way.
    pub fn under_way(&self) -> Option<&CallRequested> {
        self.attempts.last().filter(|last| last.end.is_none()).map(|last| &last.requested)
    }

    /// Whether no further attempt follows.
    pub fn is_over(&self) -> bool {
        let last = self.attempts.last().and_then(|last| last.end.as_ref());
        self.is_abandoned || matches!(last, Some(CallEnd::Answered(_)))
    }
}

impl Decider for Call {
    type Command = CallCommand;
    type Event = CallEvent;
    type Effect = CallEffect;
    type Outcome = CallOutcome;
    type Rejection = CallRejection;

    fn decide(&self, command: CallCommand) -> Result<Vec<CallEvent>, CallRejection> {
        let under_way = self.under_way();
        match command {
            CallCommand::Request(_) if self.is_over() => Err(CallRejection::Over),
            CallCommand::Request(_) if under_way.is_some() => Err(CallRejection::UnderWay),
            CallCommand::Request(requested) => {
                let last = self.attempts.last().map_or(0, |last| last.requested.attempt);
                if requested.attempt <= last {
                    return Err(CallRejection::AttemptTooLow);
                }
                Ok(vec![(*requested).into()])
            }
            CallCommand::Lose => {
                let requested = under_way.ok_or(CallRejection::NotUnderWay)?;
                let reason = "the factory stopped while the call was under way: whether it was \
                              answered is unknown"
                    .to_owned();
                Ok(vec![failure(requested, ModelErrorClass::Unknown, reason).into()])
            }
            CallCommand::Abandon { reason } => {
                let requested = under_way.ok_or(CallRejection::NotUnderWay)?;
                let (attempt, charged) = (requested.attempt, Charge::whole(&requested.reserved));
                Ok(vec![CallAbandoned { attempt, reason, charged }.into()])
            }
        }
    }

    fn evolve(&mut self, event: &CallEvent) -> Result<(), IllegalEvent> {
        if self.is_over() {
            return Err(IllegalEvent::new("call event", "the call is over"));
        }
        let (attempt, end) = match event {
            CallEvent::Requested(requested) => {
                let last = self.attempts.last();
                if last.is_some_and(|last| last.end.is_none()) {
                    return Err(IllegalEvent::new("call.requested", "an attempt is under way"));
                }
                if requested.attempt <= last.map_or(0, |last| last.requested.attempt) {
                    return Err(IllegalEvent::new("call.requested", "attempts count up"));
                }
                self.attempts.push(CallAttempt { requested: requested.clone(), end: None });
                return Ok(());
            }
            CallEvent::Answered(it) => (it.attempt, CallEnd::Answered(Box::new(it.clone()))),
            CallEvent::Failed(it) => (it.attempt, CallEnd::Failed(it.clone())),
            CallEvent::Abandoned(it) => (it.attempt, CallEnd::Failed(unknown(it))),
        };
        let under_way = self
            .attempts
            .last_mut()
            .filter(|last| last.end.is_none() && last.requested.attempt == attempt);
        let Some(under_way) = under_way else {
            return Err(IllegalEvent::new("call event", "this attempt is not under way"));
        };
        under_way.end = Some(end);
        self.is_abandoned = matches!(event, CallEvent::Abandoned(_));
        Ok(())
    }

    fn pending(&self) -> Vec<CallEffect> {
        self.under_way().map(|it| CallEffect { attempt: it.attempt }).into_iter().collect()
    }

    fn settle(&self, outcome: CallOutcome) -> Vec<CallEvent> {
        let Some(requested) = self.under_way() else { return Vec::new() };
        let (reserved, prices) = (&requested.reserved, requested.prices.as_ref());
        match outcome {
            CallOutcome::Answered(mut answered) => {
                answered.attempt = requested.attempt;
                answered.charged = Charge::of(answered.usage.as_ref(), reserved, prices);
                vec![(*answered).into()]
            }
            CallOutcome::Failed { class, reason, retry_after_ms, usage, duration_ms } => {
                let charged = charge::of_failure(class, usage.as_ref(), reserved, prices);
                let failed = failure(requested, class, reason);
                vec![CallFailed { retry_after_ms, usage, charged, duration_ms, ..failed }.into()]
            }
        }
    }
}

/// A failure of which no more is known: charged in full.
fn failure(requested: &CallRequested, class: ModelErrorClass, reason: String) -> CallFailed {
    CallFailed {
        attempt: requested.attempt,
        class,
        reason,
        retry_after_ms: None,
        usage: None,
        charged: Charge::whole(&requested.reserved),
        duration_ms: 0,
    }
}

/// The end of an abandoned attempt, for who asks for it all the same.
fn unknown(abandoned: &CallAbandoned) -> CallFailed {
    CallFailed {
        attempt: abandoned.attempt,
        class: ModelErrorClass::Unknown,
        reason: abandoned.reason.clone(),
        retry_after_ms: None,
        usage: None,
        charged: abandoned.charged,
        duration_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        chat::{MessageRef, StopReason},
        text::BlobHash,
    };
    use proptest::prelude::*;

    use super::{
        super::samples::{RESERVED, requested},
        *,
    };

    fn answered(usage: Option<TokenUsage>) -> CallOutcome {
        CallOutcome::Answered(Box::new(CallAnswered {
            attempt: 0,
            message: MessageRef { hash: BlobHash::of(b"answer"), bytes: 6 },
            stop: StopReason::End,
            tool_calls: Vec::new(),
            usage,
            charged: Charge::nothing(),
            answered_by: None,
            provider_id: None,
            first_token_ms: None,
            duration_ms: 1,
        }))
    }

    fn failed(class: ModelErrorClass) -> CallOutcome {
        CallOutcome::Failed {
            class,
            reason: "r".into(),
            retry_after_ms: None,
            usage: None,
            duration_ms: 1,
        }
    }

    fn request(attempt: u32) -> CallCommand {
        CallCommand::Request(Box::new(requested(attempt)))
    }

    fn given(events: &[CallEvent]) -> Call {
        Call::fold(events).unwrap()
    }

    #[test]
    fn a_lost_attempt_fails_as_unknown_is_charged_whole_and_another_may_follow() {
        let mut events = Call::default().decide(request(1)).unwrap();
        assert_eq!(given(&events).decide(request(2)), Err(CallRejection::UnderWay));
        events.extend(given(&events).decide(CallCommand::Lose).unwrap());
        let call = given(&events);
        let Some(CallEnd::Failed(end)) = call.end(1) else { panic!("{call:?}") };
        assert_eq!((end.class, end.charged.tokens), (ModelErrorClass::Unknown, 150));
        assert_eq!(call.decide(request(1)), Err(CallRejection::AttemptTooLow));
        // A refusal of the day's budget is not recorded here: its number is left out.
        assert!(call.decide(request(3)).is_ok());
    }

    #[test]
    fn an_answered_and_an_abandoned_call_are_over() {
        let requested = Call::default().decide(request(1)).unwrap();
        let answer = given(&requested).settle(answered(None));
        let abandon = CallCommand::Abandon { reason: "r".into() };
        let abandoned = given(&requested).decide(abandon.clone()).unwrap();
        for end in [answer, abandoned] {
            let call = given(&[requested.clone(), end].concat());
            assert!(call.is_over() && call.pending().is_empty() && call.end(1).is_some());
            assert_eq!(call.decide(request(2)), Err(CallRejection::Over));
            assert_eq!(call.decide(abandon.clone()), Err(CallRejection::NotUnderWay));
            assert!(call.settle(answered(None)).is_empty());
        }
    }

    proptest! {
        /// Whatever a provider claims, an answer is charged as it says, or as reserved if it says
        /// nothing; above the reservation it is an overrun.
        #[test]
        fn a_liar_is_charged_by_the_rules(
            input in 0_u64..400, output in 0_u64..400, says in any::<bool>(),
        ) {
            let usage = TokenUsage { input, output, ..TokenUsage::default() };
            let events = Call::default().decide(request(1)).unwrap();
            let end = given(&events).settle(answered(says.then_some(usage)));
            let CallEvent::Answered(end) = &end[0] else { panic!("{end:?}") };
            let is_told = says && input > 0 && output > 0;
            let expected = if is_told { input + output } else { RESERVED.tokens() };
            prop_assert_eq!(end.charged.tokens, expected);
            prop_assert_eq!(end.charged.estimated, !is_told);
            prop_assert_eq!(end.charged.overrun, expected > RESERVED.tokens());
        }
    }

    /// I-1 and I-2 over all input sequences up to six.
    #[test]
    fn i_1_and_i_2_hold_on_every_short_walk() {
        let mut frontier = vec![Vec::<CallEvent>::new()];
        let mut tried = 0;
        for _ in 0..6 {
            let mut next = Vec::new();
            for stream in frontier {
                let call = given(&stream);
                let commands = [
                    request(1),
                    request(2),
                    request(4),
                    CallCommand::Lose,
                    CallCommand::Abandon { reason: "r".into() },
                ];
                let outcomes = [
                    answered(None),
                    failed(ModelErrorClass::RateLimited),
                    failed(ModelErrorClass::Cut),
                ];
                let decided = commands.into_iter().filter_map(|command| call.decide(command).ok());
                let settled = outcomes.into_iter().map(|outcome| call.settle(outcome));
                for events in decided.chain(settled).filter(|events| !events.is_empty()) {
                    let longer: Vec<_> = stream.iter().cloned().chain(events).collect();
                    let after = Call::fold(&longer).expect("I-1: what is decided can be evolved");
                    assert!(!after.is_over() || after.pending().is_empty());
                    assert_eq!(after.under_way().is_some(), !after.pending().is_empty());
                    tried += 1;
                    next.push(longer);
                }
            }
            frontier = next;
        }
        assert!(tried > 100, "the walk must get around: {tried}");
    }
}
