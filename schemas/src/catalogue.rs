//! The JSON Schema of every event, request and answer, generated from the Rust types.

use schemars::{JsonSchema, Schema, SchemaGenerator, schema_for};

use crate::{
    answer, event, health, problem, request, session_files,
    subject::{Operation, operation},
};

/// The schema of a Rust type, as a document of its own or as part of another one.
#[derive(Clone, Copy)]
pub(crate) struct TypeSchema {
    root: fn() -> Schema,
    within: fn(&mut SchemaGenerator) -> Schema,
}

impl TypeSchema {
    const fn of<T: JsonSchema>() -> Self {
        Self {
            root: || schema_for!(T),
            within: |generator: &mut SchemaGenerator| generator.subschema_for::<T>(),
        }
    }

    /// The schema, or a reference to it among the definitions of `generator`.
    pub(crate) fn within(self, generator: &mut SchemaGenerator) -> Schema {
        (self.within)(generator)
    }
}

/// Request and answer of an operation.
pub(crate) struct Contract {
    /// The operation.
    pub(crate) operation: Operation,
    /// The body of its request.
    pub(crate) request: TypeSchema,
    /// The body of its answer.
    pub(crate) answer: TypeSchema,
    /// Whether the request is a goal in either form: JSON, or plain text.
    pub(crate) is_goal_or_text: bool,
}

impl Contract {
    const fn new<Q: JsonSchema, A: JsonSchema>(operation: Operation) -> Self {
        let (request, answer) = (TypeSchema::of::<Q>(), TypeSchema::of::<A>());
        Self { operation, request, answer, is_goal_or_text: false }
    }

    const fn or_text(self) -> Self {
        Self { is_goal_or_text: true, ..self }
    }
}

/// Request and answer of each operation, one line per operation.
pub(crate) const OPERATIONS: &[Contract] = &[
    Contract::new::<request::Dispatch, answer::Dispatched>(operation::PLANNER_DISPATCH),
    Contract::new::<request::Dispatch, answer::Dispatched>(operation::PLANNER_PROPOSE),
    Contract::new::<request::Newest, Vec<answer::LogRow>>(operation::MEMORY_LOGS),
    Contract::new::<request::SearchMemory, answer::SearchAnswer>(operation::MEMORY_SEARCH),
    Contract::new::<request::Newest, answer::SnapshotAnswer>(operation::MEMORY_SNAPSHOT),
    Contract::new::<request::Remember, answer::Remembered>(operation::MEMORY_REMEMBER),
    Contract::new::<request::Import, answer::Imported>(operation::MEMORY_IMPORT),
    Contract::new::<request::Forget, answer::Forgotten>(operation::MEMORY_FORGET),
    Contract::new::<request::Rebuild, answer::RebuildAnswer>(operation::MEMORY_REBUILD),
    Contract::new::<request::RunRequest, answer::RunAnswer>(operation::DEBUGGER_RUN),
    Contract::new::<request::CancelRun, answer::RunCancelAnswer>(operation::DEBUGGER_CANCEL),
    Contract::new::<request::Newest, Vec<answer::RunRow>>(operation::DEBUGGER_LOGS),
    Contract::new::<request::SearchRuns, answer::RunSearchAnswer>(operation::DEBUGGER_SEARCH),
    Contract::new::<request::Goal, answer::GoalAnswer>(operation::SUPERVISOR_RUN),
    Contract::new::<request::Goal, answer::Submitted>(operation::SUPERVISOR_SUBMIT),
    Contract::new::<request::Goal, answer::Submitted>(operation::SUPERVISOR_ACCEPT).or_text(),
    Contract::new::<request::SessionSelector, answer::SessionStory>(operation::SUPERVISOR_SESSION),
    Contract::new::<request::ListSessions, Vec<answer::SessionRow>>(operation::SUPERVISOR_SESSIONS),
    Contract::new::<session_files::ListSessionFiles, session_files::SessionFiles>(
        operation::SUPERVISOR_FILES,
    ),
    Contract::new::<request::ReadSessionFile, answer::SessionFilePart>(operation::SUPERVISOR_FILE),
    Contract::new::<request::MissingFiles, answer::MissingFilesAnswer>(
        operation::SUPERVISOR_MISSING,
    ),
    Contract::new::<request::UploadPart, answer::Uploaded>(operation::SUPERVISOR_UPLOAD),
    Contract::new::<request::SessionSelector, answer::SessionStatusAnswer>(
        operation::SUPERVISOR_CANCEL,
    ),
    Contract::new::<request::Resolve, answer::SessionStatusAnswer>(operation::SUPERVISOR_RESOLVE),
    Contract::new::<request::AnswerQuestion, answer::SessionStatusAnswer>(
        operation::SUPERVISOR_ANSWER,
    ),
    Contract::new::<request::ChangeBudget, answer::BudgetAnswer>(operation::SUPERVISOR_BUDGET),
    Contract::new::<request::SessionSelector, answer::SessionCalls>(operation::SUPERVISOR_CALLS),
    Contract::new::<request::SessionSelector, answer::GoalAnswer>(operation::SUPERVISOR_WAIT),
    Contract::new::<request::ListSessions, Vec<answer::SessionRow>>(operation::SUPERVISOR_STATUS),
    Contract::new::<request::ListSessions, Vec<answer::HistoryRow>>(operation::SUPERVISOR_HISTORY),
];

/// Further schema files, neither request nor answer of an operation: name and shape.
const OTHERS: &[(&str, TypeSchema)] = &[
    ("memory.snapshot.line", TypeSchema::of::<answer::SnapshotLine>()),
    ("http.welcome.answer", TypeSchema::of::<health::Welcome>()),
    ("http.health.answer", TypeSchema::of::<health::Health>()),
    ("http.live.answer", TypeSchema::of::<health::Probe>()),
    ("http.ready.answer", TypeSchema::of::<health::Probe>()),
    ("stream.part", TypeSchema::of::<answer::StreamPart>()),
    ("problem", TypeSchema::of::<problem::ProblemBody>()),
];

/// The schema with that name as part of a larger document, whose definitions `generator` collects.
pub fn part(name: &str, generator: &mut SchemaGenerator) -> Option<Schema> {
    let of_operation = |contract: &Contract| {
        let rest = name.strip_prefix(&contract.operation.to_string())?;
        match rest {
            ".request" => Some(contract.request),
            ".answer" => Some(contract.answer),
            _ => None,
        }
    };
    let of_others = || OTHERS.iter().find(|(other, _)| *other == name).map(|(_, shape)| *shape);
    let shape = OPERATIONS.iter().find_map(of_operation).or_else(of_others)?;
    Some(shape.within(generator))
}

/// The JSON Schemas of an operation's request and answer; `None` for an unknown operation.
pub fn of_operation(operation: Operation) -> Option<(Schema, Schema)> {
    let contract = OPERATIONS.iter().find(|contract| contract.operation == operation)?;
    Some(((contract.request.root)(), (contract.answer.root)()))
}

/// File name (without `.json`) and schema of every event, request and answer.
pub fn schemas() -> Vec<(String, Schema)> {
    let mut all = event::event_schemas();
    for Contract { operation, request, answer, .. } in OPERATIONS {
        all.push((format!("{operation}.request"), (request.root)()));
        all.push((format!("{operation}.answer"), (answer.root)()));
    }
    all.extend(OTHERS.iter().map(|(name, shape)| ((*name).to_owned(), (shape.root)())));
    all
}

/// File name and text of every schema file.
pub fn files() -> Result<Vec<(String, String)>, serde_json::Error> {
    schemas()
        .into_iter()
        .map(|(name, schema)| {
            let text = serde_json::to_string_pretty(&schema)?;
            Ok((format!("{name}.json"), text + "\n"))
        })
        .collect()
}
