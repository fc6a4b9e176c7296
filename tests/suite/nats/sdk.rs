//! The agent, asked by the protocol's own SDK (`synadia-ai-agents` on `PyPI`).

use std::{path::Path, process::Command};

use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{OWNER_AND_NAME, agent_up};
use crate::support::{
    nats::{JetStream, TestServer},
    process::TestHome,
};

/// Where `tests/run` puts the SDK, from the top of the tree.
const SDK_HOME: &str = "target/tools/agents";
const INSTALL: &str =
    "python3 -m pip install --target target/tools/agents synadia-ai-agents==0.8.1";

#[test]
fn the_sdk_finds_the_agent_prompts_it_and_hears_that_it_lives() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sdk_dir = top.join(SDK_HOME);
    assert!(
        sdk_dir.join("synadia_ai/agents").is_dir(),
        "this test needs the agents' SDK in {SDK_HOME}: `./tests/run` gets it from PyPI, or `{INSTALL}`"
    );
    let key = KeyPair::new_user();
    let users = format!(
        "authorization {{ users: [{{ nkey: {} }}, {{ user: factory, password: secret }}] }}\n",
        key.public_key()
    );
    let (home, server) = (TestHome::new(), TestServer::start_as(JetStream::On, &users));
    let more = ["--set", "agent_heartbeat_s=1", "--set", "nats_user=factory"];
    let up = agent_up(&home, &server, &[&more[..], &["--set", "nats_password=secret"]].concat());
    let output = Command::new("python3")
        .env("PYTHONPATH", &sdk_dir)
        .arg(top.join("tests/suite/nats/sdk.py"))
        .args([&server.url(), "Greet:\n```python\nprint('hello')\n```", &key.seed().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["owner"], &told["session"], &told["protocol"]),
        (&json!("alice"), &json!("bench"), &json!("0.3"))
    );
    assert_eq!(told["subject"], format!("agents.prompt.{OWNER_AND_NAME}"));
    assert_eq!((&told["max_payload"], &told["attachments_ok"]), (&json!(1_048_576), &json!(false)));
    let statuses: Vec<_> =
        told["statuses"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(statuses[..2], ["ack", "session.opened"], "{statuses:?}");
    assert!(statuses.contains(&"session.step_finished"), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&"session.concluded"));
    assert_eq!(told["text"], "[step 0] stdout:\nhello");
    assert_eq!(told["unexpected"], Value::Null);
    let refusal = told["refusal"].as_str().unwrap();
    assert!(refusal.starts_with("service error 400: `goal` must not"), "{refusal}");
    for beat in ["status", "heartbeat"] {
        assert_eq!(told[beat]["instance_id"], told["instance_id"]);
        assert_eq!(told[beat]["interval_s"], 1);
    }
    assert_eq!((&told["is_online"], &told["pong"]), (&json!(true), &json!(true)));
    up.terminate();
    let sessions = home.json(&["sessions"]);
    let id = sessions[0]["session_id"].as_str().unwrap();
    let signed = format!("$G.{}", key.public_key());
    let expected = if told["is_signed"] == true {
        json!({ "ingress": "agent", "claims_to_be": "caller", "proven_to_be": signed })
    } else {
        json!({ "ingress": "agent" })
    };
    assert_eq!(home.json(&["show", id])["submitted_by"], expected);
}
