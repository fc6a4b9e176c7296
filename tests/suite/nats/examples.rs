//! The programs of the README, run as they stand there, and the Rust client.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ai_factory::client::Client;
use ai_factory_schemas::{id::CommandId, request::SearchMemory, session::SessionStatus};

use crate::{
    ingress::Up,
    support::{nats::TestServer, process::TestHome},
};

/// The program in the README that is fenced as `language`.
fn example(language: &str) -> String {
    let readme = include_str!("../../../README.md");
    let (_, after) = readme.split_once(&format!("\n```{language}\n")).expect("an example");
    after.split_once("```").expect("its end").0.to_owned()
}

/// Where `tests/run` puts what programs need.
fn tools(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(name)
}

/// What a command prints that must succeed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The program, up and listening over NATS.
pub(super) fn up(home: &TestHome, server: &TestServer) -> Up {
    let up = Up::start_in(home, &["--nats", &server.url()], &[]);
    // It listens over NATS a moment after it listens over HTTP.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let factory = Client::connect(&server.url()).await.unwrap();
        while factory.submit("Is somebody there?", None).await.is_err() {}
        factory.close().await;
    });
    up
}

#[test]
fn the_python_of_the_readme_follows_its_goal() {
    let tools_dir = tools("agents");
    let hint = "`./tests/run` gets nats-py (with the agents' SDK) into target/tools/agents";
    assert!(tools_dir.join("nats").is_dir(), "{hint}");
    let (home, server) = (TestHome::new(), TestServer::start());
    let up = up(&home, &server);
    let program = home.path().join("example.py");
    fs::write(&program, example("python")).unwrap();
    let mut command = Command::new("python3");
    command.arg(program).env("PYTHONPATH", tools_dir).env("NATS_URL", server.url());
    let told = printed(&mut command);
    assert!(told.contains("session.opened") && told.contains("session.concluded"), "{told}");
    up.terminate();
}

#[test]
fn the_javascript_of_the_readme_gets_its_answer() {
    if Command::new("node").arg("--version").output().is_err() {
        println!("left out: there is no node");
        return;
    }
    let tools_dir = tools("javascript");
    let hint = "`./tests/run` gets @nats-io/transport-node into target/tools/javascript";
    assert!(tools_dir.join("node_modules/@nats-io/transport-node").is_dir(), "{hint}");
    let (home, server) = (TestHome::new(), TestServer::start());
    let up = up(&home, &server);
    // Modules are looked for from where the program lies.
    let program = home.path().join("example.mjs");
    fs::write(&program, example("javascript")).unwrap();
    std::os::unix::fs::symlink(tools_dir.join("node_modules"), home.path().join("node_modules"))
        .unwrap();
    let told = printed(Command::new("node").arg(program).env("NATS_URL", server.url()));
    assert_eq!(told.trim(), "success");
    up.terminate();
}

#[test]
fn a_rust_program_submits_watches_cancels_and_searches() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let up = up(&home, &server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let factory = Client::connect(&server.url()).await.unwrap();
        let key: CommandId = "once".parse().unwrap();
        let ended = factory.run("Water the tulips", Some(&key)).await.unwrap();
        assert_eq!(ended.status, SessionStatus::Success);
        let again = factory.submit("Water the tulips", Some(&key)).await;
        // The same key for another operation is another request, or joins: never a second session.
        assert!(again.map_or(true, |again| again.session_id == ended.session_id));

        let asked = SearchMemory { q: "tulips".into(), ..SearchMemory::default() };
        let found = factory.search(&asked).await.unwrap();
        assert!(found.results.iter().any(|it| it.text.contains("tulips")), "{found:?}");

        let endless = "Loop:\n```python\nwhile True: pass\n```\n";
        let mut all = factory.watch(None).await.unwrap();
        let submitted = factory.submit(endless, None).await.unwrap();
        while all.next().await.unwrap().event.name() != "run.dispatched" {}
        let mut own = factory.watch(Some(submitted.session_id)).await.unwrap();
        factory.cancel(submitted.session_id).await.unwrap();
        while own.next().await.unwrap().event.name() != "session.concluded" {}
        factory.close().await;
    });
    up.terminate();
}
