//! One sample of every event type and version, with every optional field set.
//!
//! The samples are in `schemas/golden/`: added with each type or version, never edited, so that
//! every event ever recorded can still be read (I-12).

mod parts;
mod turns;

use std::collections::BTreeMap;

use uuid::Uuid;

use self::parts::{RUN, SESSION, changes};
use crate::{
    check::{Check, CheckDispatched, CheckFinished, CheckMoment},
    diagnosis::{Diagnosis, FailureKind, SourceLine},
    envelope::{ChainHash, EventDraft, Trail, seal},
    event::Event,
    file::KeptFile,
    goal::GoalRejected,
    id::{Category, EventId, StreamId},
    memory::{MemoryExpired, MemoryForgotten, MemoryRemembered},
    plan::{Code, Plan, PlanProposed, Step, TaskType},
    run::{
        EndedBy, FileLeftOut, Isolation, IsolationLevel, RunAbandoned, RunDispatched, RunEnd,
        RunFinished, RunInput, RunRequested, RunStatus,
    },
    session::{
        Ingress, Recalled, Resolution, SessionConcluded, SessionEnd, SessionOpened, SessionPlanned,
        SessionRecalled, SessionResumed, SessionStatus, StepDispatched, StepFailed, StepFinished,
        StepResolved, StepSkipped, StepUnknown, Submitter,
    },
    text::{BlobHash, Text},
    time::Timestamp,
    workspace::{ChangeList, RunTree, WorkspaceEnd, WorkspaceRef},
};

fn plan() -> Plan {
    Plan {
        task_type: TaskType::Coding,
        steps: vec![Step {
            index: 0,
            action: "Print \"a greeting\"".to_owned(),
            rationale: "It was asked for.".to_owned(),
            code: Some(Code {
                language: "python".to_owned(),
                source: "print('héllo')\n".to_owned(),
            }),
        }],
        estimated_tokens: 32,
        model_name: "heuristic-1".to_owned(),
        notes: "1 step.".to_owned(),
    }
}

fn blob_text() -> Text {
    Text::Blob { head: "first".to_owned(), blob: BlobHash::of(b"first and all"), bytes: 13 }
}

fn opened(submitted_by: Option<Submitter>) -> SessionOpened {
    SessionOpened {
        request_id: Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001).into(),
        goal: "Greet".to_owned(),
        task_type: TaskType::General,
        submitted_by,
        check: None,
        protect: Vec::new(),
        workspace: None,
        model: None,
    }
}

fn diagnosis() -> Diagnosis {
    Diagnosis {
        kind: FailureKind::TestsFailed,
        message: "1 failed, 2 passed".to_owned(),
        exception: Some("AssertionError".to_owned()),
        missing: None,
        file: Some("test_shop.py".to_owned()),
        line: Some(2),
        excerpt: vec![SourceLine { line: 2, text: "    assert total() == 3".to_owned() }],
        failing_tests: vec!["test_shop.py::test_total".to_owned()],
    }
}

fn check_finished() -> CheckFinished {
    CheckFinished {
        moment: CheckMoment::After,
        run_id: RUN,
        status: RunStatus::Error,
        exit_code: 1,
        ended_by: EndedBy::Exit,
        stdout: Text::from("1 failed, 2 passed\n"),
        stderr: Text::default(),
        duration_ms: 12,
        restored: Some(ChangeList::Blob { blob: BlobHash::of(b"many"), changed: 2 }),
        changed_tests: vec!["test_shop.py".to_owned()],
        diagnosis: Some(diagnosis()),
        turn: None,
    }
}

/// A run that a signal ended.
fn killed() -> RunFinished {
    RunFinished {
        attempt: 1,
        end: RunEnd {
            status: RunStatus::Error,
            exit_code: 137,
            signal: Some(9),
            ended_by: EndedBy::Signal,
            stdout: blob_text(),
            stderr: Text::from("Killed by signal 9"),
            stdout_bytes: 13,
            stderr_bytes: 18,
            duration_ms: 12,
            isolation: None,
            files: Vec::new(),
            files_left_out: Vec::new(),
            reason: None,
            diagnosis: None,
            workspace: None,
        },
    }
}

/// One event of every type, in the order of [`crate::event::EVENT_TYPES`].
pub fn events() -> Vec<Event> {
    let request_id = || Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001).into();
    vec![
        PlanProposed { request_id: request_id(), prompt: "Greet".to_owned(), plan: plan() }.into(),
        RunRequested {
            request_id: request_id(),
            session_id: Some(SESSION),
            language: "python".to_owned(),
            code: "print(1)".to_owned(),
            input: RunInput::default(),
        }
        .into(),
        RunDispatched {
            attempt: 1,
            isolation: Isolation {
                level: IsolationLevel::Process,
                active: vec!["process-group".to_owned()],
                missing: vec!["namespaces".to_owned()],
                limits: BTreeMap::new(),
            },
            wall_ms_max: 5000,
        }
        .into(),
        killed().into(),
        RunAbandoned { reason: "nobody waits for it".to_owned() }.into(),
        MemoryRemembered {
            request_id: request_id(),
            text: "The kettle is blue.".to_owned(),
            tags: vec!["kitchen".to_owned()],
        }
        .into(),
        MemoryForgotten { request_id: request_id(), position: 7 }.into(),
        MemoryExpired {
            upto: 7,
            memories: 3,
            before: Some(Timestamp::from_micros(1_780_000_000_000_000)),
            memories_max: Some(50_000),
        }
        .into(),
        opened(None).into(),
        SessionPlanned { plan: plan() }.into(),
        SessionRecalled {
            items: vec![Recalled { id: "m".to_owned(), text: "t".to_owned(), distance: 0.25 }],
        }
        .into(),
        StepDispatched { step: 0, run_id: RUN, attempt: 1 }.into(),
        StepFinished {
            step: 0,
            run_id: RUN,
            status: RunStatus::Success,
            exit_code: 0,
            ended_by: EndedBy::Exit,
            stdout: Text::from("héllo\n"),
            stderr: Text::default(),
            duration_ms: 12,
            workspace: None,
        }
        .into(),
        StepSkipped { step: 0, reason: "no code to run".to_owned() }.into(),
        StepFailed { step: 0, reason: "the step's deadline passed".to_owned() }.into(),
        StepUnknown { step: 0, run_id: RUN, attempt: 1 }.into(),
        StepResolved { step: 0, resolution: Resolution::Repeat }.into(),
        CheckDispatched { moment: CheckMoment::Before, run_id: RUN, attempt: 1, turn: None }.into(),
        check_finished().into(),
    ]
    .into_iter()
    .chain(turns::of_turns())
    .chain([
        SessionResumed { count: 1 }.into(),
        SessionConcluded {
            end: SessionEnd::Cancelled,
            status: SessionStatus::Error,
            summary: "no-op".to_owned(),
            reason: Some("cancelled".to_owned()),
        }
        .into(),
        GoalRejected {
            request_id: request_id(),
            key: "order-7".parse().ok(),
            status: 422,
            reason: "goal: this field is required".to_owned(),
            payload: "{}".to_owned(),
            payload_bytes: 2,
        }
        .into(),
    ])
    .chain(turns::of_calls())
    .collect()
}

/// Samples with fields added after a type's first sample: what they show, and the event.
fn extended() -> Vec<(&'static str, Event)> {
    let file = |name: &str| KeptFile { name: name.to_owned(), content_base64: Text::from("gA==") };
    let isolation = || Isolation {
        level: IsolationLevel::Full,
        active: vec!["namespaces".to_owned()],
        missing: vec!["cgroup".to_owned()],
        limits: BTreeMap::from([("wall_ms".to_owned(), 5000)]),
    };
    let requested = RunRequested {
        request_id: Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001).into(),
        session_id: None,
        language: "python".to_owned(),
        code: "print(1)".to_owned(),
        input: RunInput {
            stdin: Some(blob_text()),
            files: vec![file("in.bin")],
            return_files: vec!["out.*".to_owned()],
            workspace: None,
        },
    };
    let dispatched = RunDispatched { attempt: 1, isolation: isolation(), wall_ms_max: 5000 };
    let end = RunEnd {
        status: RunStatus::Error,
        exit_code: 137,
        signal: Some(9),
        ended_by: EndedBy::Memory,
        stdout: Text::default(),
        stderr: Text::default(),
        stdout_bytes: 0,
        stderr_bytes: 0,
        duration_ms: 12,
        isolation: Some(isolation()),
        files: vec![file("out.bin")],
        files_left_out: vec![FileLeftOut {
            name: "log.txt".to_owned(),
            reason: "there is no such file".to_owned(),
        }],
        reason: None,
        diagnosis: None,
        workspace: None,
    };
    let unsupported = RunEnd {
        exit_code: 2,
        signal: None,
        ended_by: EndedBy::Unsupported,
        stderr: Text::from("Unsupported language: ruby"),
        stderr_bytes: 26,
        duration_ms: 0,
        isolation: None,
        files: Vec::new(),
        files_left_out: Vec::new(),
        reason: Some("\"ruby\" does not run here; these do: python, javascript, bash".to_owned()),
        ..end.clone()
    };
    let said = |claims: &str| Submitter {
        ingress: Ingress::Agent,
        claims_to_be: Some(claims.to_owned()),
        proven_to_be: None,
    };
    let key = "$G.UAWW24XPLGOX3R3JF4OZEZZ6RUXMB55DSWJCEFFSUDFBCKJD4MSCMQYI";
    let proven = Submitter { proven_to_be: Some(key.to_owned()), ..said("cc") };
    vec![
        ("submitter", opened(Some(said("alice"))).into()),
        ("proven", opened(Some(proven)).into()),
        ("input", requested.into()),
        ("limits", dispatched.into()),
        ("files", RunFinished { attempt: 1, end }.into()),
        ("reason", RunFinished { attempt: 0, end: unsupported }.into()),
    ]
}

/// Samples of sessions on a workspace, in the form of [`extended`].
fn on_workspaces() -> Vec<(&'static str, Event)> {
    let with_workspace = SessionOpened {
        workspace: Some(WorkspaceRef { blob: BlobHash::of(b"manifest"), files: 2, bytes: 7 }),
        check: Some(Check { language: "bash".to_owned(), code: "pytest -q".to_owned() }),
        protect: vec!["test_*.py".to_owned()],
        ..opened(None)
    };
    let with_model =
        SessionOpened { model: Some(Box::new(turns::session_model())), ..opened(None) };
    let of_a_turn =
        CheckDispatched { moment: CheckMoment::After, run_id: RUN, attempt: 1, turn: Some(3) };
    let tree = RunTree { manifest: BlobHash::of(b"manifest"), files: 2, bytes: 7 };
    let on_workspace = RunRequested {
        request_id: Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001).into(),
        session_id: Some(SESSION),
        language: "python".to_owned(),
        code: "print(1)".to_owned(),
        input: RunInput { workspace: Some(tree), ..RunInput::default() },
    };
    let left = WorkspaceEnd {
        changes: Some(changes()),
        refused: None,
        left_out: vec![FileLeftOut {
            name: "link".to_owned(),
            reason: "it is a symbolic link".to_owned(),
        }],
    };
    let refused = WorkspaceEnd {
        changes: None,
        refused: Some("`big.bin` has 4000000 bytes: at most 3145728 each".to_owned()),
        left_out: Vec::new(),
    };
    let step_on_workspace = StepFinished {
        step: 0,
        run_id: RUN,
        status: RunStatus::Success,
        exit_code: 0,
        ended_by: EndedBy::Exit,
        stdout: Text::default(),
        stderr: Text::default(),
        duration_ms: 12,
        workspace: Some(left),
    };
    let RunFinished { end, .. } = killed();
    let end_on_workspace =
        RunEnd { workspace: Some(refused), diagnosis: Some(Box::new(diagnosis())), ..end };
    vec![
        ("workspace", with_workspace.into()),
        ("model", with_model.into()),
        ("turn", of_a_turn.into()),
        ("turn", CheckFinished { turn: Some(3), ..check_finished() }.into()),
        ("tree", on_workspace.into()),
        ("workspace", step_on_workspace.into()),
        ("workspace", RunFinished { attempt: 1, end: end_on_workspace }.into()),
    ]
}

fn stream(category: Category) -> StreamId {
    StreamId { category, id: SESSION.0 }
}

/// File name and stored bytes of every sample.
pub fn envelopes() -> Result<Vec<(String, String)>, serde_json::Error> {
    let mut envelopes = Vec::new();
    let first = events().into_iter().map(|event| (None, event));
    let extended =
        extended().into_iter().chain(on_workspaces()).map(|(about, event)| (Some(about), event));
    for (about, event) in first.chain(extended) {
        let about = about.map(|about| format!(".{about}")).unwrap_or_default();
        let name = format!("{}.v{}{about}.json", event.name(), event.schema_version());
        let stream = stream(event.category());
        let draft = EventDraft {
            id: EventId(Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0004)),
            time: Timestamp::from_micros(1_780_000_000_123_456),
            event,
            trail: Trail {
                causation: Some(RUN.0),
                correlation: Some(SESSION.0),
                traceparent: Some(
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
                ),
            },
        };
        let mut json = draft.encode("/ai-factory/local", stream)?;
        seal(&mut json, 1, 1, ChainHash::GENESIS);
        envelopes.push((name, json));
    }
    Ok(envelopes)
}
