//! Health: each component registers how to ask it, and one registry answers for all of them.
//!
//! *Promises.* A report asks every component at that moment, in the order of registration. A
//! component that works is not in it.

use std::sync::{PoisonError, RwLock};

use ai_factory_schemas::health::RebuildProgress;

/// What a component says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentHealth {
    /// What is wrong with it, for the operator; `None` while it works.
    pub problem: Option<String>,
    /// What it rebuilds, and how far it is; the present version serves meanwhile.
    pub progress: Option<String>,
}

impl From<Option<String>> for ComponentHealth {
    fn from(problem: Option<String>) -> Self {
        Self { problem, progress: None }
    }
}

/// A degraded component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DegradedComponent {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it; it may hold paths.
    pub reason: String,
    /// Whether requests can be served without it.
    pub serves: bool,
}

/// The health of all components.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// The degraded components.
    pub degraded: Vec<DegradedComponent>,
    /// Rebuilds in progress.
    pub rebuilding: Vec<RebuildProgress>,
}

/// Whether requests can be served while a component does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Necessity {
    /// Nothing is served without it.
    Required,
    /// Requests that do not need it are served.
    Optional,
}

/// Asks a component.
type HealthSource = Box<dyn Fn() -> ComponentHealth + Send + Sync>;

/// One registered component.
struct Component {
    name: &'static str,
    necessity: Necessity,
    probe: HealthSource,
}

/// All components.
#[derive(Default)]
pub struct HealthRegistry {
    components: RwLock<Vec<Component>>,
}

impl HealthRegistry {
    /// Adds a component. `probe` is called for every report and must not block.
    pub fn register(
        &self,
        name: &'static str,
        necessity: Necessity,
        probe: impl Fn() -> ComponentHealth + Send + Sync + 'static,
    ) {
        let component = Component { name, necessity, probe: Box::new(probe) };
        self.components.write().unwrap_or_else(PoisonError::into_inner).push(component);
    }

    /// Asks every component.
    pub fn report(&self) -> HealthReport {
        let mut report = HealthReport::default();
        for component in self.components.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let Component { name, necessity, probe } = component;
            let ComponentHealth { problem, progress } = probe();
            report.degraded.extend(problem.map(|reason| DegradedComponent {
                name,
                reason,
                serves: *necessity == Necessity::Optional,
            }));
            report.rebuilding.extend(
                progress.map(|progress| RebuildProgress { part: (*name).to_owned(), progress }),
            );
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_asks_each_component_anew_and_leaves_out_those_that_work() {
        let registry = HealthRegistry::default();
        let full = std::sync::Arc::new(std::sync::Mutex::new(None::<String>));
        let disk = std::sync::Arc::clone(&full);
        registry
            .register("journal", Necessity::Required, move || disk.lock().unwrap().clone().into());
        registry.register("search", Necessity::Optional, || ComponentHealth {
            problem: Some("the index is damaged".to_owned()),
            progress: Some("3 of 9 events".to_owned()),
        });
        registry.register("nats", Necessity::Optional, ComponentHealth::default);
        let names = |report: &HealthReport| {
            report.degraded.iter().map(|part| (part.name, part.serves)).collect::<Vec<_>>()
        };
        let report = registry.report();
        assert_eq!(names(&report), [("search", true)]);
        assert_eq!(report.rebuilding[0].part, "search");
        *full.lock().unwrap() = Some("the disk is full".to_owned());
        assert_eq!(names(&registry.report()), [("journal", false), ("search", true)]);
    }
}
