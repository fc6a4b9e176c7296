//! A session with a model in memory: its effects are performed as a test says.

use ai_factory_schemas::{
    call::ToolCallHead,
    chat::{MessageRef, StopReason},
    check::{Check, CheckFinished, CheckMoment},
    event::Event,
    id::{CallId, RunId, SessionId, ToolCallId},
    model::{
        Budget, Charge, ModelEndpoint, ModelErrorClass, ModelParameters, ModelProtocol,
        SessionModel, TokenUsage, ToolProtocol, TurnLimits,
    },
    plan::{Plan, Step, TaskType},
    run::{EndedBy, RunStatus},
    session::{SessionConcluded, SessionEnd, SessionEvent, SessionOpened, SessionStatus},
    text::{BlobHash, Text},
    time::Timestamp,
    turn::{
        FinishCall, MessageReplaced, QuestionAnswered, QuestionAsked, ToolFinished, ToolOutcome,
        TurnFailed, TurnFinished,
    },
    workspace::{ChangeList, FileChange, WorkspaceEnd, WorkspaceRef},
};
use uuid::Uuid;

use super::{
    state::Session,
    vocabulary::{NextIds, SessionCommand, SessionEffect, SessionOutcome, WordsDue},
};
use crate::{
    agent::tool_names::{ASK, FINISH, RUN},
    decider::Decider,
};

pub const SESSION: SessionId =
    SessionId(Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0003));
pub const NEXT: NextIds = NextIds { session: SESSION, run: RunId(Uuid::nil()) };

/// The terms of most tests: a large window and budget, few turns.
pub fn terms() -> SessionModel {
    SessionModel {
        endpoint: ModelEndpoint {
            model: "test/model".to_owned(),
            url: "http://127.0.0.1:1/v1".to_owned(),
            protocol: ModelProtocol::ChatCompletions,
            tools: ToolProtocol::Native,
        },
        parameters: ModelParameters {
            temperature_milli: None,
            seed: None,
            output_tokens_max: 100,
            context_tokens: 100_000,
        },
        prices: None,
        budget: Budget { tokens_max: 1_000_000, cost_micros_max: None },
        limits: TurnLimits {
            turns_max: 20,
            retries_max: 2,
            tool_wall_ms_max: 1_000,
            ask_ms_max: 1_000,
            session_ms_max: 1_000,
        },
        prompts: BlobHash::of(b"prompts"),
        prompts_bytes: 200,
        tools: BlobHash::of(b"tools"),
        tools_bytes: 300,
        plan_schema: BlobHash::of(b"schema"),
        plan_schema_bytes: 50,
        may_ask: true,
    }
}

pub fn opened(terms: SessionModel, with_check: bool) -> SessionOpened {
    SessionOpened {
        request_id: Uuid::nil().into(),
        goal: "g".into(),
        task_type: TaskType::General,
        submitted_by: None,
        workspace: Some(WorkspaceRef { blob: BlobHash::of(b"{}"), files: 0, bytes: 0 }),
        check: with_check.then(|| Check { language: "bash".into(), code: "true".into() }),
        protect: Vec::new(),
        model: Some(Box::new(terms)),
    }
}

pub fn plan() -> Plan {
    let step = Step { index: 0, action: "a".into(), rationale: "r".into(), code: None };
    Plan {
        task_type: TaskType::General,
        steps: vec![step],
        estimated_tokens: 32,
        model_name: "m".into(),
        notes: String::new(),
    }
}

pub fn message(of: &str, bytes: u64) -> MessageRef {
    MessageRef { hash: BlobHash::of(of.as_bytes()), bytes }
}

/// What the model says.
#[derive(Clone, Debug, PartialEq)]
pub enum Say {
    /// A plan.
    Plan,
    /// No plan, though one was asked for.
    NoPlan,
    /// Tool calls: name and arguments.
    Calls(Vec<(&'static str, &'static str)>),
    /// A call of `finish`.
    Finish(SessionStatus),
    /// A text without tool calls.
    Text,
    /// Tool calls in an answer that ended so.
    Cut(StopReason, Vec<(&'static str, &'static str)>),
    /// Nothing at all.
    Silence,
    /// No answer.
    Fail(ModelErrorClass),
}

/// A session and its stream.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub state: Session,
    pub stream: Vec<SessionEvent>,
    /// Lengths of the stream at which an append ended.
    pub borders: Vec<usize>,
    /// The usage that answers report.
    pub usage: Option<TokenUsage>,
    /// The size of a tool's result; 80 if it is 0.
    pub result_bytes: u64,
    /// What the factory said.
    pub heard: Vec<WordsDue>,
}

impl Script {
    /// Opened, with nothing performed.
    pub fn open(terms: SessionModel, with_check: bool) -> Self {
        let mut script = Self::default();
        script.decide(SessionCommand::Open(Box::new(opened(terms, with_check))));
        script
    }

    /// Planned, with the first work turn asked; the check before the work failed, if there is one.
    pub fn at_work(terms: SessionModel, with_check: bool) -> Self {
        let mut script = Self::open(terms, with_check);
        script.go(&[Say::Plan]);
        script
    }

    /// Appends events: each can follow, and the budget holds.
    pub fn append(&mut self, events: Vec<SessionEvent>) {
        for event in events {
            if let Err(illegal) = self.state.evolve(&event) {
                panic!("I-1: {event:?}: {illegal}");
            }
            self.stream.push(event);
            self.is_within_budget();
        }
        self.borders.push(self.stream.len());
    }

    /// Spent and reserved are within the limit, but for an overrun.
    pub fn is_within_budget(&self) {
        let spend = self.state.conversation().unwrap().spend();
        let shown = spend.shown();
        let taken = shown.tokens_spent.saturating_add(shown.tokens_reserved);
        assert!(taken <= shown.tokens_max || spend.has_overrun(), "{shown:?}");
        let reserved = shown.cost_micros_reserved.unwrap_or(0);
        let cost = shown.cost_micros_spent.unwrap_or(0).saturating_add(reserved);
        let is_held = shown.cost_micros_max.is_none_or(|most| cost <= most);
        assert!(is_held || spend.has_overrun(), "{shown:?}");
    }

    pub fn decide(&mut self, command: SessionCommand) {
        let events = self.state.decide(command).unwrap();
        self.append(events);
    }

    pub fn settle(&mut self, outcome: SessionOutcome) {
        let events = self.state.settle(outcome);
        self.append(events);
    }

    pub fn resume(&mut self) {
        self.decide(SessionCommand::Resume {
            repeatable: true,
            resumes_max: 1_000,
            after_crash: true,
            next: NEXT,
        });
    }

    /// The effect that is owed; there is never more than one.
    pub fn pending(&self) -> Option<SessionEffect> {
        let mut pending = self.state.pending();
        assert!(pending.len() <= 1, "{pending:?}");
        pending.pop()
    }

    pub fn concluded(&self) -> &SessionConcluded {
        self.state.concluded().expect("it is over")
    }

    /// Whether the factory said this.
    pub fn heard(&self, words: &WordsDue) -> bool {
        self.heard.contains(words)
    }

    /// Performs what is owed until the model has said everything and is asked again, or nothing is
    /// owed. Programs and the check fail, each program in a way of its own.
    pub fn go(&mut self, says: &[Say]) {
        self.go_until(says, |_| false);
    }

    /// As [`Self::go`], until a run is with the debugger.
    pub fn go_until_tool(&mut self, says: &[Say]) {
        self.go_until(says, |effect| match effect {
            SessionEffect::Tool { run, .. } => run.is_some(),
            _ => false,
        });
    }

    /// As [`Self::go`], until this effect is owed.
    pub fn go_until(&mut self, says: &[Say], is_last: impl Fn(&SessionEffect) -> bool) {
        let mut says = says.iter();
        while let Some(effect) = self.pending().filter(|effect| !is_last(effect)) {
            let said = match &effect {
                SessionEffect::Call { .. } => match says.next() {
                    Some(say) => Some(say.clone()),
                    None => return,
                },
                _ => None,
            };
            self.perform(&effect, said);
        }
    }

    /// Performs an effect in the usual way.
    pub fn perform(&mut self, effect: &SessionEffect, said: Option<Say>) {
        if let SessionEffect::Prepare { words, .. } = effect {
            self.heard.push(words.clone());
        }
        let outcome = self.outcome(effect, said);
        self.settle(outcome);
    }

    pub fn outcome(&self, effect: &SessionEffect, said: Option<Say>) -> SessionOutcome {
        match effect {
            SessionEffect::Recall => SessionOutcome::Recalled { items: Vec::new(), next: NEXT },
            SessionEffect::Propose => SessionOutcome::Proposed { plan: plan(), next: NEXT },
            SessionEffect::Prepare { turn, words } => {
                let results = match words {
                    WordsDue::NotExecuted { calls, .. } | WordsDue::LeftOut { calls, .. } => {
                        calls.len() as u64
                    }
                    _ => 0,
                };
                let words = (0..=results).map(|at| message(&format!("w{turn} {at}"), 40));
                SessionOutcome::Prepared { turn: *turn, messages: words.collect(), next: NEXT }
            }
            SessionEffect::Compact { turn, at } => {
                let replaced = at.iter().map(|at| {
                    let message = message(&format!("short {at}"), 100);
                    MessageReplaced { at: *at, message }
                });
                SessionOutcome::Shortened { turn: *turn, replaced: replaced.collect(), next: NEXT }
            }
            SessionEffect::Call { turn, call_id, attempt, .. } => {
                self.said((*turn, *call_id, *attempt), said.unwrap_or(Say::Silence))
            }
            SessionEffect::Tool { turn, index, run } => {
                let (_, call) =
                    self.state.conversation().unwrap().tool_call(*turn, *index).unwrap();
                if call.name == ASK {
                    return SessionOutcome::Asks { asked: asked(*turn, *index, call.id) };
                }
                let outcome = match &*call.name {
                    RUN | "fail" => ToolOutcome::Failed,
                    FINISH | "unknown" => ToolOutcome::Invalid,
                    _ => ToolOutcome::Done,
                };
                let run_id = run.map(|(run_id, _)| run_id);
                let mut finished = tool_finished((*turn, *index), outcome, run_id);
                if self.result_bytes > 0 {
                    finished.result.bytes = self.result_bytes;
                }
                SessionOutcome::ToolEnded { finished: Box::new(finished), next: NEXT }
            }
            SessionEffect::Check { moment, run_id, .. } => {
                let finished = Box::new(checked(*moment, *run_id, 1));
                SessionOutcome::Checked { finished, next: NEXT }
            }
            SessionEffect::Run { .. } => panic!("a session with a model has no steps"),
        }
    }

    fn said(&self, of: (u32, CallId, u32), say: Say) -> SessionOutcome {
        let (turn, call_id, attempt) = of;
        let reserved = self.state.conversation().unwrap().spend().reserved().unwrap();
        if let Say::Fail(class) = say {
            let charged =
                if class.is_free() { Charge::nothing() } else { Charge::whole(&reserved) };
            let reason = "do this".to_owned();
            let retry_after_ms = None;
            let failed =
                TurnFailed { turn, call_id, attempt, class, reason, retry_after_ms, charged };
            return SessionOutcome::NotAnswered { failed, next: NEXT };
        }
        let prices = self.state.model().unwrap().prices;
        let mut finished = TurnFinished {
            turn,
            call_id,
            attempt,
            message: message(&format!("a{turn}"), 60),
            stop: StopReason::End,
            tool_calls: Vec::new(),
            usage: self.usage,
            charged: Charge::of(self.usage.as_ref(), &reserved, prices.as_ref()),
            finish: None,
            fault: None,
        };
        let end = |status| {
            Some(FinishCall { status, summary: "the result".to_owned(), files: Vec::new() })
        };
        let mut planned = None;
        match say {
            Say::Plan => planned = Some(plan()),
            Say::NoPlan => finished.fault = Some("no JSON".to_owned()),
            Say::Calls(calls) => {
                finished.stop = StopReason::ToolCalls;
                finished.tool_calls = heads(turn, &calls);
            }
            Say::Cut(stop, calls) => {
                finished.stop = stop;
                finished.tool_calls = heads(turn, &calls);
            }
            Say::Finish(status) => {
                finished.stop = StopReason::ToolCalls;
                finished.tool_calls = heads(turn, &[(FINISH, status.as_str())]);
                finished.finish = end(status);
            }
            Say::Text => finished.finish = end(SessionStatus::Success),
            Say::Silence | Say::Fail(_) => {}
        }
        SessionOutcome::Answered { finished: Box::new(finished), plan: planned, next: NEXT }
    }

    /// Answers the open question.
    pub fn answer(&mut self) {
        let asked = self.state.conversation().unwrap().question().unwrap().clone();
        let answer = Some(Text::from("blue"));
        let answered = QuestionAnswered { question_id: asked.question_id, answer, by: None };
        let result = tool_finished((asked.turn, asked.index), ToolOutcome::Done, None);
        self.decide(SessionCommand::Answer {
            answered: Box::new(answered),
            result: Box::new(result),
            next: NEXT,
        });
    }

    /// It ended as failed, for a reason with these words.
    pub fn failed_with(&self, words: &str) {
        let end = self.concluded();
        assert_eq!((end.end, end.status), (SessionEnd::Failed, SessionStatus::Error), "{end:?}");
        let reason = end.reason.as_deref().unwrap_or_default();
        assert!(reason.contains(words), "{reason}");
    }

    /// The events by name.
    pub fn names(&self) -> Vec<&'static str> {
        self.stream.iter().cloned().map(|event| Event::from(event).name()).collect()
    }

    /// How many events of the stream are so.
    pub fn count(&self, is: impl Fn(&SessionEvent) -> bool) -> usize {
        self.stream.iter().filter(|event| is(event)).count()
    }
}

pub fn heads(turn: u32, calls: &[(&str, &str)]) -> Vec<ToolCallHead> {
    let head = |(index, (name, arguments)): (usize, &(&str, &str))| ToolCallHead {
        id: ToolCallId(Uuid::from_u128((u128::from(turn) << 32) | index as u128)),
        name: (*name).to_owned(),
        fingerprint: BlobHash::of(format!("{name} {arguments}").as_bytes()),
    };
    calls.iter().enumerate().map(head).collect()
}

pub fn asked(turn: u32, index: u32, question_id: ToolCallId) -> QuestionAsked {
    let expires = Timestamp::default();
    QuestionAsked { turn, index, question_id, question: "which?".to_owned(), expires }
}

/// The result of a tool call; a run that failed has a failure of its own.
pub fn tool_finished(of: (u32, u32), outcome: ToolOutcome, run_id: Option<RunId>) -> ToolFinished {
    let (turn, index) = of;
    let name = format!("t{turn} {index}");
    ToolFinished {
        turn,
        index,
        outcome,
        result: message(&name, 80),
        complete: None,
        run_id,
        failure: (outcome == ToolOutcome::Failed && run_id.is_some())
            .then(|| BlobHash::of(name.as_bytes())),
        workspace: None,
    }
}

/// A change to the workspace.
pub fn changed() -> WorkspaceEnd {
    let change = FileChange { path: "a".to_owned(), file: None };
    let changes = Some(ChangeList::Inline(vec![change]));
    WorkspaceEnd { changes, ..WorkspaceEnd::default() }
}

pub fn checked(moment: CheckMoment, run_id: RunId, exit_code: i32) -> CheckFinished {
    CheckFinished {
        moment,
        run_id,
        status: if exit_code == 0 { RunStatus::Success } else { RunStatus::Error },
        exit_code,
        ended_by: EndedBy::Exit,
        stdout: Text::from("checked"),
        stderr: Text::default(),
        duration_ms: 1,
        restored: None,
        changed_tests: Vec::new(),
        diagnosis: None,
        turn: None,
    }
}
