//! Who may do what at a NATS server, and the ways to say who one is: users with permissions, nkeys,
//! certificates, contexts.

use std::fs;

use async_nats::{ConnectOptions, Message, RequestErrorKind, jetstream};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::Up;
use crate::support::{
    certificates::certificate,
    nats::{JetStream, TestServer},
    process::{PATIENCE, TestHome},
};

/// The example of `nats.conf`, as it is after its `#` are taken away.
fn example() -> String {
    let config = include_str!("../../../nats.conf");
    let begin = config.find("# authorization {").expect("the example");
    let block: String = config[begin..]
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or("").to_owned() + "\n")
        .collect();
    ["AI_FACTORY_NATS", "SUBMITTER", "WATCHER"]
        .iter()
        .fold(block, |block, name| block.replace(&format!("${name}_PASSWORD"), "secret"))
}

/// A user of the example, who hears when something is not allowed.
async fn user(
    server: &TestServer,
    name: &str,
) -> (async_nats::Client, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (sender, refused) = tokio::sync::mpsc::unbounded_channel();
    let options = ConnectOptions::with_user_and_password(name.to_owned(), "secret".to_owned())
        .custom_inbox_prefix(format!("_INBOX_{name}"))
        .event_callback(move |event| {
            if let async_nats::Event::ServerError(error) = event {
                let _ = sender.send(error.to_string());
            }
            std::future::ready(())
        });
    (options.connect(server.url()).await.unwrap(), refused)
}

/// Expects that a subject may not be published to.
async fn may_not_publish(
    client: &async_nats::Client,
    refused: &mut tokio::sync::mpsc::UnboundedReceiver<String>,
    subject: &str,
) {
    client.publish(subject.to_owned(), "{}".into()).await.unwrap();
    client.flush().await.unwrap();
    let said = tokio::time::timeout(PATIENCE, refused.recv()).await;
    let said = said.unwrap_or_else(|_| panic!("nobody refused {subject}")).unwrap();
    assert!(said.to_lowercase().contains("permissions violation"), "{subject}: {said}");
}

/// The reply to a request. The factory listens over NATS a moment after it listens over HTTP, and
/// its stream of goals is there a moment later.
async fn requested(client: &async_nats::Client, subject: &'static str, body: &str) -> Message {
    loop {
        match client.request(subject, body.to_owned().into()).await {
            Ok(answer) => return answer,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {}
            Err(error) => panic!("{subject}: {error}"),
        }
    }
}

#[test]
fn the_users_of_the_example_can_do_their_part_and_no_more() {
    let server = TestServer::start_as(JetStream::On, &example());
    let home = TestHome::new();
    let settings = ["--set", "nats_user=factory"];
    let url = server.url();
    let arguments = [&["--nats", &url][..], &settings].concat();
    let up = Up::start_in(&home, &arguments, &[("AI_FACTORY_NATS_PASSWORD", "secret")]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (watcher, mut watcher_refused) = user(&server, "watcher").await;
        let mut events = watcher.subscribe("factory.events.>").await.unwrap();
        watcher.flush().await.unwrap();

        let (submitter, mut submitter_refused) = user(&server, "submitter").await;
        let goal = json!({ "goal": "Think about it" }).to_string();
        let answer = requested(&submitter, "factory.supervisor.run", &goal).await;
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        requested(&submitter, "factory.goals", "Think once more").await;
        for subject in [
            "factory.supervisor.cancel",
            "factory.debugger.run",
            "factory.memory.search",
            "factory.events.session.x.opened",
            "$JS.API.STREAM.DELETE.FACTORY_EVENTS",
            "_INBOX_watcher.x",
        ] {
            may_not_publish(&submitter, &mut submitter_refused, subject).await;
        }
        for subject in ["factory.events.>", ">", "_INBOX.>"] {
            let _heard = submitter.subscribe(subject).await.unwrap();
            submitter.flush().await.unwrap();
            let said = submitter_refused.recv().await.unwrap();
            assert!(said.to_lowercase().contains("permissions violation"), "{subject}: {said}");
        }

        // Both goals are seen, live and in the stream.
        let mut opened = 0;
        while opened < 2 {
            let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
            opened += usize::from(event.subject.ends_with(".opened"));
        }
        let stream = jetstream::new(watcher.clone()).get_stream("FACTORY_EVENTS").await.unwrap();
        assert!(stream.get_raw_message(1).await.unwrap().subject.starts_with("factory.events."));
        for subject in [
            "factory.goals",
            "factory.supervisor.run",
            "factory.events.session.x.opened",
            "$JS.API.CONSUMER.CREATE.FACTORY_EVENTS",
            "$JS.API.STREAM.PURGE.FACTORY_EVENTS",
        ] {
            may_not_publish(&watcher, &mut watcher_refused, subject).await;
        }
    });
    up.terminate();
}

/// A seed for nkeys and its public half (NATS nkeys; made for this test).
const SEED: &str = "SUAJWQ36XU4NWNWFLE7SJLODCO34YNGFR5ADLD3WPKGJHMPSNBGKZT6RGE";
const PUBLIC: &str = "UD5XOBDBFFZHIZQN5JFCAQTKRRIHXVF5QLDUXQEWXGJRK3V432PJELBY";

/// Starts the factory, and asks it whether it has its connection.
fn assert_connected(home: &TestHome, arguments: &[&str]) {
    let up = Up::start(home, arguments);
    // `degraded` would say that there is no connection.
    assert_eq!(up.http.get("/healthcheck")["status"], "ok");
    up.terminate();
}

#[test]
fn a_context_of_the_nats_command_line_says_where_and_who() {
    let server = TestServer::guarded();
    let home = TestHome::new();
    let contexts = home.path().join("nats/context");
    fs::create_dir_all(&contexts).unwrap();
    let context = json!({ "url": server.url(), "user": "user", "password": "secret", "nsc": "" });
    fs::write(contexts.join("team.json"), context.to_string()).unwrap();
    let config_home = home.path().to_str().unwrap().to_owned();
    let variables = [("XDG_CONFIG_HOME", config_home.as_str())];

    let up = Up::start_in(&home, &["--context", "team"], &variables);
    assert_eq!(up.http.get("/healthcheck")["status"], "ok");
    let mut command = home.command(&["submit", "Think", "--context", "team"]);
    let output = command.env("XDG_CONFIG_HOME", &config_home).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    up.terminate();

    let mut command = home.command(&["submit", "Think", "--context", "nowhere"]);
    let output = command.env("XDG_CONFIG_HOME", &config_home).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("nowhere.json") && said.contains("contexts there: team"), "{said}");
}

#[test]
fn an_nkey_lets_the_factory_in() {
    let more = format!("authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}\n");
    let server = TestServer::start_as(JetStream::Off, &more);
    let home = TestHome::new();
    let seed = home.path().join("factory.nk");
    fs::write(&seed, format!("{SEED}\n")).unwrap();
    let setting = format!("nats_nkey={}", seed.display());
    assert_connected(&home, &["--nats", &server.url(), "--set", &setting]);
}

#[test]
fn certificates_prove_the_server_to_the_factory_and_the_factory_to_the_server() {
    let home = TestHome::new();
    let dir = home.path();
    certificate(dir, "ca", None);
    certificate(dir, "server", Some("ca"));
    certificate(dir, "factory", Some("ca"));
    let file = |name: &str| dir.join(name).display().to_string();
    let more = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let server = TestServer::start_as(JetStream::Off, &more);
    let settings: Vec<String> =
        [("nats_ca", "ca.pem"), ("nats_certificate", "factory.pem"), ("nats_key", "factory.key")]
            .iter()
            .flat_map(|(name, value)| ["--set".to_owned(), format!("{name}={}", file(value))])
            .collect();
    let url = server.url().replace("nats://", "tls://");
    let mut arguments = vec!["--nats", &url];
    arguments.extend(settings.iter().map(String::as_str));
    assert_connected(&home, &arguments);

    // Without them nobody is trusted, and the command line says which server it was.
    let output = home.ran(&["submit", "Think", "--nats", &url]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(0), "{said}");
}
