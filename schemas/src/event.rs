//! All events, and the mapping from wire type and version to the Rust type.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    call::{CallAbandoned, CallAnswered, CallEvent, CallFailed, CallRequested},
    check::{CheckDispatched, CheckFinished},
    goal::{GoalEvent, GoalRejected},
    id::Category,
    memory::{MemoryEvent, MemoryExpired, MemoryForgotten, MemoryRemembered},
    plan::{PlanEvent, PlanProposed},
    run::{RunAbandoned, RunDispatched, RunEvent, RunFinished, RunRequested},
    session::{
        SessionConcluded, SessionEvent, SessionOpened, SessionPlanned, SessionRecalled,
        SessionResumed, StepDispatched, StepFailed, StepFinished, StepResolved, StepSkipped,
        StepUnknown,
    },
    turn::{
        BudgetChanged, Compacted, QuestionAnswered, QuestionAsked, ToolDispatched, ToolFinished,
        TurnDispatched, TurnFailed, TurnFinished,
    },
};

/// An event of any category.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Of the category `plan`.
    Plan(PlanEvent),
    /// Of the category `run`.
    Run(RunEvent),
    /// Of the category `memory`.
    Memory(MemoryEvent),
    /// Of the category `session`.
    Session(SessionEvent),
    /// Of the category `goal`.
    Goal(GoalEvent),
    /// Of the category `call`.
    Call(CallEvent),
}

/// Data that is not an event of its type.
#[derive(Debug, thiserror::Error)]
pub enum DecodeEventError {
    /// The type is of a newer version, or not of this program.
    #[error(
        "event type `{name}` version {version} is not known here; a newer ai-factory can read it"
    )]
    UnknownType {
        /// The wire type without prefix and version.
        name: String,
        /// The schema version.
        version: u32,
    },
    /// The data does not fit the type.
    #[error("the data of `{name}` version {version} cannot be read: {source}")]
    Data {
        /// The wire type without prefix and version.
        name: String,
        /// The schema version.
        version: u32,
        /// The fault.
        source: serde_json::Error,
    },
}

/// One row per event type: its wire name, its schema version, its Rust type. Wire names are frozen
/// once released. A changed payload gets a new version and an upcast here (I-12).
macro_rules! events {
    ($($name:literal, $version:literal, $outer:ident, $inner:ident :: $variant:ident, $payload:ident;)*) => {
        /// The wire names and current schema versions of all event types.
        pub const EVENT_TYPES: &[(&str, u32)] = &[$(($name, $version)),*];

        impl Event {
            /// The wire name: `plan.proposed`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$outer($inner::$variant(_)) => $name,)*
                }
            }

            /// The version of the payload's schema.
            pub fn schema_version(&self) -> u32 {
                match self {
                    $(Self::$outer($inner::$variant(_)) => $version,)*
                }
            }

            /// The event in `data`.
            pub fn decode(name: &str, version: u32, data: &RawValue) -> Result<Self, DecodeEventError> {
                match (name, version) {
                    $(($name, $version) => read::<$payload>(name, version, data)
                        .map(|payload| Self::$outer($inner::$variant(payload))),)*
                    _ => Err(DecodeEventError::UnknownType { name: name.to_owned(), version }),
                }
            }
        }

        $(
            impl From<$payload> for Event {
                fn from(payload: $payload) -> Self {
                    Self::$outer($inner::$variant(payload))
                }
            }

            impl From<$payload> for $inner {
                fn from(payload: $payload) -> Self {
                    Self::$variant(payload)
                }
            }
        )*

        pub(crate) fn event_schemas() -> Vec<(String, schemars::Schema)> {
            vec![$((format!("{}.v{}", $name, $version), schemars::schema_for!($payload))),*]
        }

        /// Wire name, version and schema of each event, the schemas as parts of one document.
        pub(crate) fn event_payloads(
            generator: &mut schemars::SchemaGenerator,
        ) -> Vec<(&'static str, u32, schemars::Schema)> {
            vec![$(($name, $version, generator.subschema_for::<$payload>())),*]
        }
    };
}

events! {
    "plan.proposed", 1, Plan, PlanEvent::Proposed, PlanProposed;
    "run.requested", 1, Run, RunEvent::Requested, RunRequested;
    "run.dispatched", 1, Run, RunEvent::Dispatched, RunDispatched;
    "run.finished", 1, Run, RunEvent::Finished, RunFinished;
    "run.abandoned", 1, Run, RunEvent::Abandoned, RunAbandoned;
    "memory.remembered", 1, Memory, MemoryEvent::Remembered, MemoryRemembered;
    "memory.forgotten", 1, Memory, MemoryEvent::Forgotten, MemoryForgotten;
    "memory.expired", 1, Memory, MemoryEvent::Expired, MemoryExpired;
    "session.opened", 1, Session, SessionEvent::Opened, SessionOpened;
    "session.planned", 1, Session, SessionEvent::Planned, SessionPlanned;
    "session.recalled", 1, Session, SessionEvent::Recalled, SessionRecalled;
    "session.step_dispatched", 1, Session, SessionEvent::StepDispatched, StepDispatched;
    "session.step_finished", 1, Session, SessionEvent::StepFinished, StepFinished;
    "session.step_skipped", 1, Session, SessionEvent::StepSkipped, StepSkipped;
    "session.step_failed", 1, Session, SessionEvent::StepFailed, StepFailed;
    "session.step_unknown", 1, Session, SessionEvent::StepUnknown, StepUnknown;
    "session.step_resolved", 1, Session, SessionEvent::StepResolved, StepResolved;
    "session.check_dispatched", 1, Session, SessionEvent::CheckDispatched, CheckDispatched;
    "session.check_finished", 1, Session, SessionEvent::CheckFinished, CheckFinished;
    "session.turn_dispatched", 1, Session, SessionEvent::TurnDispatched, TurnDispatched;
    "session.turn_finished", 1, Session, SessionEvent::TurnFinished, TurnFinished;
    "session.turn_failed", 1, Session, SessionEvent::TurnFailed, TurnFailed;
    "session.tool_dispatched", 1, Session, SessionEvent::ToolDispatched, ToolDispatched;
    "session.tool_finished", 1, Session, SessionEvent::ToolFinished, ToolFinished;
    "session.question_asked", 1, Session, SessionEvent::QuestionAsked, QuestionAsked;
    "session.question_answered", 1, Session, SessionEvent::QuestionAnswered, QuestionAnswered;
    "session.budget_changed", 1, Session, SessionEvent::BudgetChanged, BudgetChanged;
    "session.compacted", 1, Session, SessionEvent::Compacted, Compacted;
    "session.resumed", 1, Session, SessionEvent::Resumed, SessionResumed;
    "session.concluded", 1, Session, SessionEvent::Concluded, SessionConcluded;
    "goal.rejected", 1, Goal, GoalEvent::Rejected, GoalRejected;
    "call.requested", 1, Call, CallEvent::Requested, CallRequested;
    "call.answered", 1, Call, CallEvent::Answered, CallAnswered;
    "call.failed", 1, Call, CallEvent::Failed, CallFailed;
    "call.abandoned", 1, Call, CallEvent::Abandoned, CallAbandoned;
}

fn read<T: DeserializeOwned>(
    name: &str,
    version: u32,
    data: &RawValue,
) -> Result<T, DecodeEventError> {
    serde_json::from_str(data.get()).map_err(|source| DecodeEventError::Data {
        name: name.to_owned(),
        version,
        source,
    })
}

impl Event {
    /// The category of its streams.
    pub fn category(&self) -> Category {
        match self {
            Self::Plan(_) => Category::Plan,
            Self::Run(_) => Category::Run,
            Self::Memory(_) => Category::Memory,
            Self::Session(_) => Category::Session,
            Self::Goal(_) => Category::Goal,
            Self::Call(_) => Category::Call,
        }
    }

    /// The last token of its subject: `proposed`.
    pub fn verb(&self) -> &'static str {
        let name = self.name();
        name.split_once('.').map_or(name, |(_, verb)| verb)
    }

    /// The payload as JSON.
    pub fn data(&self) -> Result<String, serde_json::Error> {
        fn json(payload: &impl Serialize) -> Result<String, serde_json::Error> {
            serde_json::to_string(payload)
        }
        match self {
            Self::Plan(event) => json(event),
            Self::Run(event) => json(event),
            Self::Memory(event) => json(event),
            Self::Session(event) => json(event),
            Self::Goal(event) => json(event),
            Self::Call(event) => json(event),
        }
    }
}

macro_rules! category_event {
    ($outer:ident, $inner:ident) => {
        impl From<$inner> for Event {
            fn from(event: $inner) -> Self {
                Self::$outer(event)
            }
        }
    };
}
category_event!(Plan, PlanEvent);
category_event!(Run, RunEvent);
category_event!(Memory, MemoryEvent);
category_event!(Session, SessionEvent);
category_event!(Goal, GoalEvent);
category_event!(Call, CallEvent);
