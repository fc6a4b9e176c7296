//! Metrics: a factory in this process, and what its registry says of the work that it did.

#![expect(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "counts are small whole numbers"
)]

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use ai_factory::{
    config::{Settings, SettingsSources, load},
    connections::Connections,
    sandbox::{SandboxSettings, SelectedSandbox},
    wiring::{Factory, UnfinishedSessions},
};
use ai_factory_ports::{
    bus::Headers,
    metrics::MetricsRegistry,
    sandbox::{Program, Sandbox as _},
    trace::NoTraces,
};
use ai_factory_schemas::{
    answer::{RunAnswer, SessionAnswer},
    problem::Problem,
    request::Goal,
    run::IsolationLevel,
    subject::operation,
};
use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;

use super::open_metrics::{MetricFamily, read, value_of};

const PATIENCE: Duration = Duration::from_mins(1);
/// Requests at the same time, of which one is admitted.
const CROWD: usize = 16;

fn settings(dir: &Path) -> Settings {
    let set = ["sandbox=none", "requests_waiting_max=1"];
    let sources = SettingsSources {
        data_dir: Some(dir.join("data").display().to_string()),
        directory: dir.to_owned(),
        set: set.map(ToOwned::to_owned).to_vec(),
        ..SettingsSources::default()
    };
    load(&sources).unwrap().settings
}

async fn start(dir: &TempDir) -> Factory {
    let connections = Connections::new(Arc::new(NoTraces));
    Factory::start(&settings(dir.path()), UnfinishedSessions::Resume, &connections).await.unwrap()
}

async fn session(factory: &Factory, goal: &str) -> Result<SessionAnswer, Problem> {
    let goal = Goal::new(goal);
    factory.call(operation::SUPERVISOR_RUN, &goal, Headers::default(), PATIENCE).await
}

/// All metrics at one moment.
struct Reading(Vec<MetricFamily>);

impl Reading {
    fn of(metrics: &MetricsRegistry) -> Self {
        Self(read(&metrics.encode().unwrap()))
    }

    fn family(&self, name: &str) -> &MetricFamily {
        let name = format!("ai_factory_{name}");
        self.0.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The sample with this suffix.
    fn value(&self, name: &str, suffix: &str) -> f64 {
        value_of(self.family(name), suffix).unwrap()
    }

    fn count(&self, name: &str) -> f64 {
        self.value(name, "_total")
    }

    fn gauge(&self, name: &str) -> f64 {
        self.value(name, "")
    }

    /// The sample whose only label has this value.
    fn labelled(&self, name: &str, label: &str) -> f64 {
        let mut samples = self.family(name).samples.iter();
        let sample = samples.find(|(_, labels, _)| labels.values().eq([label]));
        sample.unwrap_or_else(|| panic!("no {name} of {label}")).2
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_a_factory_agree_with_what_it_did() {
    let dir = TempDir::new().unwrap();
    let factory = start(&dir).await;
    let before = Reading::of(&factory.metrics);
    assert_eq!(before.count("journal_appends"), 0.0);
    assert_eq!(before.labelled("requests_admitted", "supervisor"), 0.0);

    session(&factory, "What is a monad?").await.unwrap();
    let after = Reading::of(&factory.metrics);
    for actor in ["supervisor", "planner", "memory"] {
        assert_eq!(after.labelled("requests_admitted", actor), 1.0, "{actor}");
    }
    assert_eq!(after.labelled("requests_admitted", "debugger"), 0.0);
    assert_eq!(after.count("searches"), 1.0);
    assert_eq!(after.count("journal_appends"), 1.0, "a session without code is one append");

    // Nothing runs code here: the run ends because of the sandbox, which is recorded.
    let code = json!({ "code": "print(1)" });
    let ran: Result<RunAnswer, _> =
        factory.call(operation::DEBUGGER_RUN, &code, Headers::default(), PATIENCE).await;
    ran.unwrap();
    let after = Reading::of(&factory.metrics);
    assert_eq!(after.labelled("runs", "sandbox"), 1.0);
    assert_eq!(after.labelled("runs", "exit"), 0.0);
    assert_eq!(after.count("journal_appends"), 3.0, "a run is two appends");
    assert_eq!(after.value("journal_sync_seconds", "_count"), 3.0);
    assert!(after.value("journal_sync_seconds", "_sum") > 0.0);

    let crowd = join_all((0..CROWD).map(|_| session(&factory, "What is a monad?"))).await;
    let refused = crowd.iter().filter(|answer| answer.is_err()).count();
    assert!(
        crowd.iter().filter_map(|answer| answer.as_ref().err()).all(|error| error.status == 503)
    );
    assert!(0 < refused && refused < CROWD, "{refused}");
    let after = Reading::of(&factory.metrics);
    let (refused, asked) = (refused as f64, (CROWD + 1) as f64);
    assert_eq!(after.labelled("requests_refused", "supervisor"), refused);
    assert_eq!(after.labelled("requests_admitted", "supervisor"), asked - refused);

    factory.views.logs(1).await.unwrap();
    let after = Reading::of(&factory.metrics);
    let position = factory.journal.head().position as f64;
    assert_eq!(after.gauge("journal_position"), position);
    assert_eq!(after.gauge("projection_position"), position);
    assert_eq!(after.value("journal_commit_events", "_sum"), position);
    assert!(after.labelled("relay_position", "bus") <= position);
    for queue in ["journal_queue_appends", "journal_queue_bytes"] {
        assert_eq!(after.gauge(queue), 0.0, "{queue}");
    }
    for lost in ["journal_appends_refused", "bus_messages_lost", "nats_messages_lost"] {
        assert_eq!(after.count(lost), 0.0, "{lost}");
    }
    factory.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_run_is_a_hit_or_a_miss_of_the_pool() {
    let dir = TempDir::new().unwrap();
    let sandbox = SelectedSandbox::new(
        IsolationLevel::Full,
        SandboxSettings {
            guardian: env!("CARGO_BIN_EXE_ai-factory").into(),
            pool_members: 1,
            ..SandboxSettings::new(dir.path())
        },
    );
    let metrics = MetricsRegistry::of(&[&*sandbox]);
    let counts = || {
        let reading = Reading::of(&metrics);
        ["hits", "misses", "started"].map(|name| reading.count(&format!("sandbox_pool_{name}")))
    };
    let run = async || {
        let program = Program {
            language: "python".to_owned(),
            source: "print(1)".to_owned(),
            stdin: None,
            files: Vec::new(),
            return_files: Vec::new(),
            wall_max: PATIENCE,
            traceparent: None,
            cpu_max: None,
            workspace: None,
        };
        assert_eq!(sandbox.run(program).await.unwrap().exit_code, 0);
    };
    assert_eq!(counts(), [0.0, 0.0, 0.0]);
    run().await;
    assert_eq!(counts()[..2], [0.0, 1.0], "the first use starts the pool");
    let hit = async {
        let mut runs = 1.0;
        while counts()[0] == 0.0 {
            run().await;
            runs += 1.0;
        }
        runs
    };
    let runs = tokio::time::timeout(PATIENCE, hit).await.expect("no interpreter ever waited");
    let [hits, misses, started] = counts();
    assert_eq!(hits + misses, runs);
    assert!(started >= hits);
    sandbox.drained().await;
}

/// The table of `docs/telemetry.md`.
fn table(families: &[MetricFamily]) -> String {
    let mut families: Vec<_> = families.iter().collect();
    families.sort_by(|one, other| one.name.cmp(&other.name));
    let mut table = "| metric | type | label | meaning |\n|---|---|---|---|\n".to_owned();
    for MetricFamily { name, kind, help, samples, .. } in families {
        let suffix = if kind == "counter" { "_total" } else { "" };
        let mut labels: Vec<_> = samples
            .iter()
            .flat_map(|(_, labels, _)| labels)
            .filter(|(label, _)| *label != "le")
            .collect();
        labels.sort();
        let label = labels.first().map_or(String::new(), |(label, _)| {
            let values: Vec<_> = labels.iter().map(|(_, value)| value.as_str()).collect();
            format!("`{label}`: {}", values.join(", "))
        });
        writeln!(table, "| `{name}{suffix}` | {kind} | {label} | {help} |").unwrap();
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_metrics_is_fresh() {
    let dir = TempDir::new().unwrap();
    let factory = start(&dir).await;
    let table = table(&Reading::of(&factory.metrics).0);
    factory.shutdown().await.unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/telemetry.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(&table), "put this table into docs/telemetry.md:\n\n{table}");
}
