//! The metrics of the actors.

use ai_factory_ports::metrics::{Counter, CounterFamily, MetricSource, Registry, counter_of};
use ai_factory_schemas::{model::ModelErrorClass, run::EndedBy};

/// The actors, as in their subjects.
const ACTORS: [&str; 5] = ["planner", "memory", "debugger", "supervisor", "model"];
/// Every end of a run.
const ENDS: [EndedBy; 9] = [
    EndedBy::Exit,
    EndedBy::Signal,
    EndedBy::Wall,
    EndedBy::Cpu,
    EndedBy::Memory,
    EndedBy::Output,
    EndedBy::Cancel,
    EndedBy::Unsupported,
    EndedBy::Sandbox,
];

/// Every end of a model call but its answer.
const CALL_FAILURES: [ModelErrorClass; 15] = [
    ModelErrorClass::Credentials,
    ModelErrorClass::NoSuchModel,
    ModelErrorClass::ContextTooLong,
    ModelErrorClass::RateLimited,
    ModelErrorClass::Overloaded,
    ModelErrorClass::Refused,
    ModelErrorClass::Cut,
    ModelErrorClass::Malformed,
    ModelErrorClass::Truncated,
    ModelErrorClass::TimedOut,
    ModelErrorClass::Unreachable,
    ModelErrorClass::Unknown,
    ModelErrorClass::DayBudget,
    ModelErrorClass::NotRecorded,
    ModelErrorClass::Cancelled,
];
/// The end of a model call that was answered.
const ANSWERED: &str = "answered";

/// Counts of requests, runs and model calls.
#[derive(Clone, Debug)]
pub struct ActorMetrics {
    admitted: CounterFamily,
    cached: CounterFamily,
    refused: CounterFamily,
    runs: CounterFamily,
    calls: CounterFamily,
}

/// The counts of one actor's intake.
#[derive(Clone, Debug)]
pub(crate) struct IntakeCounters {
    /// Requests that were admitted.
    pub(crate) admitted: Counter,
    /// Questions that were answered from the cache, without admission.
    pub(crate) cached: Counter,
    /// Requests beyond the limits of admission.
    pub(crate) refused: Counter,
}

impl Default for ActorMetrics {
    fn default() -> Self {
        let metrics = Self {
            admitted: CounterFamily::default(),
            cached: CounterFamily::default(),
            refused: CounterFamily::default(),
            runs: CounterFamily::default(),
            calls: CounterFamily::default(),
        };
        // Reported from the beginning, as 0.
        for actor in ACTORS {
            metrics.intake(actor);
        }
        for end in ENDS {
            counter_of(&metrics.runs, "ended_by", word(end));
        }
        for end in CALL_FAILURES.map(ModelErrorClass::as_str).into_iter().chain([ANSWERED]) {
            counter_of(&metrics.calls, "end", end);
        }
        metrics
    }
}

impl ActorMetrics {
    /// The counts of an actor's intake. Takes a lock: resolve them when it opens.
    pub(crate) fn intake(&self, actor: &'static str) -> IntakeCounters {
        IntakeCounters {
            admitted: counter_of(&self.admitted, "actor", actor),
            cached: counter_of(&self.cached, "actor", actor),
            refused: counter_of(&self.refused, "actor", actor),
        }
    }

    /// Counts a run that ended. Takes a lock, which is little beside a run.
    pub(crate) fn run_ended(&self, by: EndedBy) {
        counter_of(&self.runs, "ended_by", word(by)).inc();
    }

    /// Counts an attempt of a model call that was answered. Takes a lock, which is little beside a
    /// call.
    pub(crate) fn call_answered(&self) {
        counter_of(&self.calls, "end", ANSWERED).inc();
    }

    /// Counts an attempt of a model call that failed. Takes a lock, as above.
    pub(crate) fn call_failed(&self, class: ModelErrorClass) {
        counter_of(&self.calls, "end", class.as_str()).inc();
    }
}

/// The wire word of an end.
fn word(end: EndedBy) -> &'static str {
    match end {
        EndedBy::Exit => "exit",
        EndedBy::Signal => "signal",
        EndedBy::Wall => "wall",
        EndedBy::Cpu => "cpu",
        EndedBy::Memory => "memory",
        EndedBy::Output => "output",
        EndedBy::Cancel => "cancel",
        EndedBy::Unsupported => "unsupported",
        EndedBy::Sandbox => "sandbox",
    }
}

impl MetricSource for ActorMetrics {
    fn register_metrics(&self, registry: &mut Registry) {
        for (name, help, family) in [
            (
                "requests_admitted",
                "Requests that an actor took, whatever their answer",
                &self.admitted,
            ),
            (
                "requests_cached",
                "Questions answered from an actor's cache, without admission",
                &self.cached,
            ),
            (
                "requests_refused",
                "Requests refused because an actor had too many or too large ones in progress",
                &self.refused,
            ),
            ("runs", "Runs of code that ended, by what ended them", &self.runs),
            ("model_calls", "Attempts of model calls that ended, by how they ended", &self.calls),
        ] {
            registry.register(name, help, family.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_an_end_is_its_wire_word() {
        for end in ENDS {
            assert_eq!(serde_json::to_value(end).unwrap(), word(end));
        }
        for class in CALL_FAILURES {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
        }
    }
}
