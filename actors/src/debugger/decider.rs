//! Decider of a run: requested, dispatched once or more, finished.

use ai_factory_schemas::{
    id::{RequestId, SessionId},
    run::{
        EndedBy, Isolation, RunAbandoned, RunDispatched, RunEnd, RunEvent, RunFinished, RunInput,
        RunRequested, RunStatus,
    },
    text::Text,
};

use crate::decider::{Decider, IllegalEvent};

/// Exit code of a run in an unsupported language, given by the contract.
const EXIT_UNSUPPORTED: i32 = 2;
/// Exit code of a run that failed in the sandbox itself, as container engines use it.
const EXIT_SANDBOX: i32 = 125;
/// Exit code of a cancelled run: as for SIGTERM, 128 + 15.
const EXIT_CANCELLED: i32 = 143;

/// The fold of a run's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    requested: Option<RunRequested>,
    dispatched: Option<RunDispatched>,
    finished: Option<RunFinished>,
    abandoned: Option<RunAbandoned>,
}

/// Commands of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunCommand {
    /// Begin with code, and dispatch the first attempt.
    Request {
        /// The request that asked for the run.
        request_id: RequestId,
        /// The session that the run is a step of.
        session_id: Option<SessionId>,
        /// In lower case.
        language: String,
        /// The program text.
        code: String,
        /// Standard input, files and patterns of files to return.
        input: Box<RunInput>,
        /// The isolation in force; for an unsupported language the sentence that lists the
        /// supported ones.
        isolation: Result<Isolation, String>,
        /// Wall time limit in milliseconds.
        wall_ms_max: u64,
    },
    /// Begin another attempt: the end of the last one is unknown.
    Repeat {
        /// The isolation in force.
        isolation: Isolation,
        /// Wall time limit in milliseconds.
        wall_ms_max: u64,
    },
    /// End the record: nobody waits for the run.
    Abandon {
        /// Why.
        reason: String,
    },
}

/// The effect of a run: one attempt in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEffect {
    /// In lower case.
    pub language: String,
    /// The program.
    pub code: String,
    /// Standard input, files and patterns of files to return.
    pub input: RunInput,
    /// From 1.
    pub attempt: u32,
    /// Wall time limit in milliseconds.
    pub wall_ms_max: u64,
}

/// Outcome of the effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// The program ended.
    Ended(Box<RunEnd>),
    /// The sandbox failed, or lost the program.
    Broken {
        /// Why.
        reason: String,
    },
    /// The run was cancelled.
    Cancelled,
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunRejection {
    /// The run was already requested.
    #[error("the run was already requested")]
    AlreadyRequested,
    /// There is no such run.
    #[error("the run does not exist")]
    NotRequested,
    /// The run is over.
    #[error("the run is already over")]
    Over,
}

impl Run {
    /// The request.
    pub fn requested(&self) -> Option<&RunRequested> {
        self.requested.as_ref()
    }

    /// The last attempt.
    pub fn dispatched(&self) -> Option<&RunDispatched> {
        self.dispatched.as_ref()
    }

    /// The end, if it is known.
    pub fn finished(&self) -> Option<&RunFinished> {
        self.finished.as_ref()
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.finished.is_some() || self.abandoned.is_some()
    }

    /// The number of attempts.
    pub fn attempts(&self) -> u32 {
        self.dispatched.as_ref().map_or(0, |dispatched| dispatched.attempt)
    }

    fn end(&self, exit_code: i32, ended_by: EndedBy, stderr: &str) -> RunFinished {
        RunFinished {
            attempt: self.attempts(),
            end: RunEnd {
                status: RunStatus::Error,
                exit_code,
                signal: None,
                ended_by,
                stdout: Text::default(),
                stderr: Text::from(stderr),
                stdout_bytes: 0,
                stderr_bytes: stderr.len() as u64,
                duration_ms: 0,
                isolation: None,
                files: Vec::new(),
                files_left_out: Vec::new(),
                reason: None,
                diagnosis: None,
                workspace: None,
            },
        }
    }

    /// The end of a run in an unsupported language: it is recorded and never starts.
    fn unsupported(&self, language: &str, reason: String) -> RunFinished {
        let stderr = format!("Unsupported language: {language}");
        let mut finished = self.end(EXIT_UNSUPPORTED, EndedBy::Unsupported, &stderr);
        finished.end.reason = Some(reason);
        finished
    }
}

impl Decider for Run {
    type Command = RunCommand;
    type Event = RunEvent;
    type Effect = RunEffect;
    type Outcome = RunOutcome;
    type Rejection = RunRejection;

    fn decide(&self, command: RunCommand) -> Result<Vec<RunEvent>, RunRejection> {
        match command {
            RunCommand::Request {
                request_id,
                session_id,
                language,
                code,
                input,
                isolation,
                wall_ms_max,
            } => {
                if self.requested.is_some() {
                    return Err(RunRejection::AlreadyRequested);
                }
                let second = match isolation {
                    Ok(isolation) => RunDispatched { attempt: 1, isolation, wall_ms_max }.into(),
                    Err(reason) => self.unsupported(&language, reason).into(),
                };
                let input = *input;
                let requested = RunRequested { request_id, session_id, language, code, input };
                Ok(vec![requested.into(), second])
            }
            _ if self.requested.is_none() => Err(RunRejection::NotRequested),
            _ if self.is_over() => Err(RunRejection::Over),
            RunCommand::Repeat { isolation, wall_ms_max } => {
                let attempt = self.attempts() + 1;
                Ok(vec![RunDispatched { attempt, isolation, wall_ms_max }.into()])
            }
            RunCommand::Abandon { reason } => Ok(vec![RunAbandoned { reason }.into()]),
        }
    }

    fn evolve(&mut self, event: &RunEvent) -> Result<(), IllegalEvent> {
        if self.is_over() {
            return Err(IllegalEvent::new("run event", "the run is over"));
        }
        if self.requested.is_none() != matches!(event, RunEvent::Requested(_)) {
            return Err(IllegalEvent::new("run event", "a run begins with its request, once"));
        }
        match event {
            RunEvent::Requested(requested) => self.requested = Some(requested.clone()),
            RunEvent::Dispatched(dispatched) => {
                if dispatched.attempt != self.attempts() + 1 {
                    return Err(IllegalEvent::new("run.dispatched", "attempts count from 1"));
                }
                self.dispatched = Some(dispatched.clone());
            }
            RunEvent::Finished(finished) => {
                if finished.attempt != self.attempts() {
                    return Err(IllegalEvent::new("run.finished", "another attempt is under way"));
                }
                self.finished = Some(finished.clone());
            }
            RunEvent::Abandoned(abandoned) => self.abandoned = Some(abandoned.clone()),
        }
        Ok(())
    }

    fn pending(&self) -> Vec<RunEffect> {
        match (&self.requested, &self.dispatched) {
            (Some(requested), Some(dispatched)) if !self.is_over() => vec![RunEffect {
                language: requested.language.clone(),
                code: requested.code.clone(),
                input: requested.input.clone(),
                attempt: dispatched.attempt,
                wall_ms_max: dispatched.wall_ms_max,
            }],
            _ => Vec::new(),
        }
    }

    fn settle(&self, outcome: RunOutcome) -> Vec<RunEvent> {
        if self.is_over() || self.dispatched.is_none() {
            return Vec::new();
        }
        let finished = match outcome {
            RunOutcome::Ended(end) => RunFinished { attempt: self.attempts(), end: *end },
            RunOutcome::Broken { reason } => self.end(EXIT_SANDBOX, EndedBy::Sandbox, &reason),
            RunOutcome::Cancelled => self.end(EXIT_CANCELLED, EndedBy::Cancel, "cancelled"),
        };
        vec![finished.into()]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ai_factory_schemas::run::IsolationLevel;
    use uuid::Uuid;

    use super::*;

    fn isolation() -> Isolation {
        Isolation {
            level: IsolationLevel::Process,
            active: vec![],
            missing: vec![],
            limits: BTreeMap::new(),
        }
    }

    fn unknown() -> Result<Isolation, String> {
        Err("there is cobol".to_owned())
    }

    fn request(isolation: Result<Isolation, String>) -> RunCommand {
        RunCommand::Request {
            request_id: Uuid::nil().into(),
            session_id: None,
            language: "python".into(),
            code: "1".into(),
            input: Box::default(),
            isolation,
            wall_ms_max: 5000,
        }
    }

    fn given(events: &[RunEvent]) -> Run {
        Run::fold(events).unwrap()
    }

    #[test]
    fn a_request_is_dispatched_at_once_and_owed_until_it_ends() {
        let mut events = Run::default().decide(request(Ok(isolation()))).unwrap();
        assert_eq!(given(&events).pending().len(), 1);
        events.extend(given(&events).settle(RunOutcome::Broken { reason: "no".into() }));
        let run = given(&events);
        assert!(run.is_over() && run.pending().is_empty());
        assert_eq!(run.decide(request(unknown())), Err(RunRejection::AlreadyRequested));
        assert!(run.settle(RunOutcome::Cancelled).is_empty());
    }

    #[test]
    fn an_unknown_language_is_a_run_that_never_starts() {
        let run = given(&Run::default().decide(request(unknown())).unwrap());
        let end = &run.finished().unwrap().end;
        assert_eq!(end.reason.as_deref(), Some("there is cobol"));
        assert_eq!((end.exit_code, end.stderr.head()), (2, "Unsupported language: python"));
        assert_eq!(run.attempts(), 0);
    }

    #[test]
    fn a_lost_attempt_is_followed_by_one_with_the_next_number() {
        let mut events = Run::default().decide(request(Ok(isolation()))).unwrap();
        let again = RunCommand::Repeat { isolation: isolation(), wall_ms_max: 1 };
        events.extend(given(&events).decide(again).unwrap());
        assert_eq!(given(&events).pending()[0].attempt, 2);
    }

    /// I-1 and I-2 over all input sequences up to seven.
    #[test]
    fn i_1_and_i_2_hold_on_every_short_walk() {
        let mut frontier = vec![Vec::<RunEvent>::new()];
        let mut tried = 0;
        for _ in 0..7 {
            let mut next = Vec::new();
            for stream in frontier {
                let run = given(&stream);
                let commands = [
                    request(Ok(isolation())),
                    request(unknown()),
                    RunCommand::Repeat { isolation: isolation(), wall_ms_max: 1 },
                    RunCommand::Abandon { reason: "r".into() },
                ];
                let outcomes = [RunOutcome::Broken { reason: "b".into() }, RunOutcome::Cancelled];
                let decided = commands.into_iter().filter_map(|c| run.decide(c).ok());
                let settled = outcomes.into_iter().map(|o| run.settle(o));
                for events in decided.chain(settled).filter(|events| !events.is_empty()) {
                    let longer: Vec<_> = stream.iter().cloned().chain(events).collect();
                    let after = Run::fold(&longer).expect("I-1: what is decided can be evolved");
                    assert!(!after.is_over() || after.pending().is_empty());
                    tried += 1;
                    next.push(longer);
                }
            }
            frontier = next;
        }
        assert!(tried > 20, "the walk must get around: {tried}");
    }
}
