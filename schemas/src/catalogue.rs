//! The JSON Schema of every event, request and answer, as generated from the Rust types.

use schemars::{Schema, SchemaGenerator, schema_for};

use crate::{answer, event, health, problem, request};

macro_rules! named {
    ($($name:literal => $kind:ty),* $(,)?) => {
        fn named() -> Vec<(String, Schema)> {
            vec![$(($name.to_owned(), schema_for!($kind))),*]
        }

        /// The schema with that name as part of a larger document, whose definitions `generator` collects.
        pub fn part(name: &str, generator: &mut SchemaGenerator) -> Option<Schema> {
            match name {
                $($name => Some(generator.subschema_for::<$kind>()),)*
                _ => None,
            }
        }
    };
}

named! {
    "planner.dispatch.request" => request::Dispatch,
    "planner.dispatch.answer" => answer::Dispatched,
    "memory.logs.request" => request::Newest,
    "memory.logs.answer" => Vec<answer::LogRow>,
    "memory.search.request" => request::Search,
    "memory.search.answer" => answer::SearchAnswer,
    "memory.snapshot.request" => request::Newest,
    "memory.snapshot.answer" => answer::SnapshotAnswer,
    "memory.snapshot.line" => answer::SnapshotLine,
    "memory.remember.request" => request::Remember,
    "memory.remember.answer" => answer::Remembered,
    "debugger.run.request" => request::Run,
    "debugger.run.answer" => answer::RunAnswer,
    "debugger.cancel.request" => request::CancelRun,
    "debugger.cancel.answer" => answer::RunCancelled,
    "debugger.logs.request" => request::Newest,
    "debugger.logs.answer" => Vec<answer::RunRow>,
    "debugger.search.request" => request::Search,
    "debugger.search.answer" => answer::RunSearchAnswer,
    "supervisor.run.request" => request::Goal,
    "supervisor.run.answer" => answer::SessionAnswer,
    "supervisor.submit.request" => request::Goal,
    "supervisor.submit.answer" => answer::Submitted,
    "supervisor.session.request" => request::WhichSession,
    "supervisor.session.answer" => answer::SessionStory,
    "supervisor.cancel.request" => request::WhichSession,
    "supervisor.cancel.answer" => answer::SessionTold,
    "supervisor.resolve.request" => request::Resolve,
    "supervisor.resolve.answer" => answer::SessionTold,
    "supervisor.status.request" => request::Newest,
    "supervisor.status.answer" => Vec<answer::SessionRow>,
    "supervisor.history.request" => request::Newest,
    "supervisor.history.answer" => Vec<answer::HistoryRow>,
    "door.welcome.answer" => health::Welcome,
    "door.health.answer" => health::Health,
    "door.live.answer" => health::Probe,
    "door.ready.answer" => health::Probe,
    "problem" => problem::ProblemBody,
}

/// File name (without `.json`) and schema of everything that travels or is recorded.
pub fn schemas() -> Vec<(String, Schema)> {
    let mut all = event::event_schemas();
    all.extend(named());
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
