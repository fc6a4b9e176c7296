//! One goal is one trace, from the environment of the command to the program that the goal runs;
//! and whatever becomes of a collector, the work goes on.

use std::{collections::HashSet, fs, io, net::TcpListener, process::Output};

use super::collector::{Collector, ReceivedSpan};
use crate::support::process::{Bell, Running, TestHome};

pub(super) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub(super) const PARENT: &str = "b7ad6b7169203331";
const GOAL: &str =
    "Say which trace this is:\n```python\nimport os\nprint(os.environ.get('TRACEPARENT'))\n```\n";
pub(super) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

pub(super) fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

fn ran(home: &TestHome, variables: &[(&str, &str)]) -> Output {
    home.command(&["run", GOAL]).envs(variables.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(super) fn one<'a>(spans: &'a [ReceivedSpan], name: &str) -> &'a ReceivedSpan {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "`{name}` among {:?}", names(spans));
    found[0]
}

pub(super) fn names(spans: &[ReceivedSpan]) -> Vec<&str> {
    spans.iter().map(|span| &*span.name).collect()
}

/// The names on the way from the span to what began the trace elsewhere.
pub(super) fn way<'a>(spans: &'a [ReceivedSpan], from: &'a ReceivedSpan) -> Vec<&'a str> {
    let mut names = vec![&*from.name];
    let mut parent = &from.parent;
    while parent != PARENT {
        let span = spans.iter().find(|span| span.id == *parent);
        let span = span.unwrap_or_else(|| panic!("above {names:?} there is no span"));
        names.push(&span.name);
        parent = &span.parent;
    }
    names
}

/// The trace ids of all that is recorded.
pub(super) fn recorded(home: &TestHome) -> HashSet<String> {
    let traceparents = home.events().into_iter().map(|event| event.trail.traceparent);
    traceparents.map(|text| text.expect("a trace in every event")[3..35].to_owned()).collect()
}

#[test]
fn one_goal_is_one_trace_from_the_command_to_its_program() {
    let (home, collector) = (TestHome::new(), Collector::start());
    let endpoint = collector.endpoint();
    let output = ran(&home, &[(ENDPOINT, &endpoint), ("TRACEPARENT", &traceparent())]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let spans = collector.spans();

    let traces: HashSet<_> = spans.iter().map(|span| &*span.trace).collect();
    assert_eq!(traces, HashSet::from([TRACE]), "{spans:#?}");
    assert_eq!(recorded(&home), HashSet::from([TRACE.to_owned()]));

    let program = one(&spans, "run program");
    let expected = [
        "run program",
        "process factory.debugger.run",
        "request factory.debugger.run",
        "run step",
        "session",
        "process factory.supervisor.run",
        "request factory.supervisor.run",
        "ai-factory run",
    ];
    assert_eq!(way(&spans, program), expected);
    assert_eq!(program.attributes["attempt"], "1");
    assert_eq!(program.attributes["process.exit.code"], "0");
    assert!(program.attributes.contains_key("duration_ms"), "{program:?}");
    let seen = format!("00-{TRACE}-{}-01", program.id);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&seen), "{output:?}");

    // Every span hangs in the tree, those of what was published after the answer too.
    for span in &spans {
        assert_eq!(way(&spans, span).last(), Some(&"ai-factory run"), "{span:?}");
    }
    for name in ["propose", "recall", "request factory.planner.propose"] {
        one(&spans, name);
    }
    assert!(names(&spans).contains(&"append"));
    let published = one(&spans, "publish factory.events.session.{id}.opened");
    let (server, client) = (one(&spans, expected[1]), one(&spans, expected[2]));
    assert_eq!((server.kind, client.kind, published.kind), (2, 3, 4));
    for span in [server, client, published] {
        assert_eq!(span.attributes["messaging.system"], "nats");
        assert!(span.attributes.contains_key("messaging.destination.name"), "{span:?}");
    }
    assert_eq!(program.resource["service.name"], "ai-factory");
    assert!(program.resource.contains_key("service.instance.id"), "{program:?}");
}

#[test]
fn what_the_environment_says_of_service_and_sampling_is_honoured() {
    let (home, collector) = (TestHome::new(), Collector::start());
    let endpoint = collector.endpoint();
    let named = [("OTEL_SERVICE_NAME", "other"), ("OTEL_RESOURCE_ATTRIBUTES", "team=blue")];
    ran(&home, &[(ENDPOINT, &endpoint), named[0], named[1]]);
    ran(&home, &[(ENDPOINT, &endpoint), ("OTEL_TRACES_SAMPLER", "always_off")]);
    let spans = collector.spans();
    let program = one(&spans, "run program");
    assert_eq!((&*program.resource["service.name"], &*program.resource["team"]), ("other", "blue"));
}

#[test]
fn a_session_goes_on_in_its_trace_after_a_kill() {
    let home = TestHome::new();
    let bell = Bell::new(&home);
    let collector = Collector::start();
    let mut run = home.command(&["run", &bell.goal()]);
    run.env(ENDPOINT, collector.endpoint()).env("TRACEPARENT", traceparent());
    let running = Running::start(run);
    let rung = bell.rung();
    running.killed();
    rung.assert_gone();
    let mut resume = home.command(&["resume"]);
    resume.env(ENDPOINT, collector.endpoint());
    let resuming = Running::start(resume);
    drop(bell.rung());
    resuming.ended();
    let spans = collector.spans();
    for name in ["session", "run step", "run program"] {
        assert_eq!(one(&spans, name).trace, TRACE, "{name}");
    }
    assert_eq!(one(&spans, "session").attributes["is_resumed"], "true");
    assert_eq!(one(&spans, "run program").attributes["attempt"], "2");
    assert_eq!(recorded(&home), HashSet::from([TRACE.to_owned()]));
}

#[test]
fn a_trace_is_passed_on_where_nothing_is_exported() {
    let home = TestHome::new();
    let output = ran(&home, &[("TRACEPARENT", &traceparent())]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&traceparent()), "{output:?}");
    assert_eq!(recorded(&home), HashSet::from([TRACE.to_owned()]));

    let output = ran(&TestHome::new(), &[("TRACEPARENT", "nonsense")]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_collector_that_never_answers_or_is_not_there_does_not_stop_a_run() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let output = ran(&TestHome::new(), &[(ENDPOINT, &format!("http://{address}"))]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let warnings = said(&output).matches("traces are lost").count();
        assert!(warnings <= 1, "{}", said(&output));
    }
}

#[test]
fn where_traces_are_not_wanted_nobody_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let home = TestHome::new();
    let output = ran(&home, &[(ENDPOINT, &endpoint), ("OTEL_SDK_DISABLED", "true")]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // Reading commands are part of no trace.
    let output = home.command(&["sessions"]).env(ENDPOINT, &endpoint).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// The names of the threads of a process.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap()).collect()
}

#[test]
fn only_a_named_endpoint_costs_a_thread() {
    let collector = Collector::start();
    for (endpoint, expected) in [(String::new(), 0), (collector.endpoint(), 1)] {
        let home = TestHome::new();
        let bell = Bell::new(&home);
        let mut run = home.command(&["run", &bell.goal()]);
        run.env(ENDPOINT, endpoint);
        let running = Running::start(run);
        let rung = bell.rung();
        let threads = threads(running.pid());
        let exporting = threads.iter().filter(|name| name.starts_with("OpenTelemetry")).count();
        assert_eq!(exporting, expected, "{threads:?}");
        drop(rung);
        running.ended();
    }
    assert!(!collector.spans().is_empty());
}

#[test]
fn an_endpoint_that_makes_no_sense_is_an_error_at_the_start() {
    let home = TestHome::new();
    let output = ran(&home, &[(ENDPOINT, "localhost:4318")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("`OTEL_EXPORTER_OTLP_ENDPOINT` is `localhost:4318`"));
    assert!(home.events().is_empty());
}
