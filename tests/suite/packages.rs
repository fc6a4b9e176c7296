//! The packages: what a program that uses one of them has to compile.

use std::{ffi::OsString, fs, path::Path, process::Command};

/// Libraries of the factory that a client has no use for.
const ENGINES: [&str; 6] = ["axum", "ractor", "redb", "tantivy", "tokenizers", "opentelemetry"];

const PROGRAM: &str = r#"
//! Submits one goal.
use ai_factory_client::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let factory = Client::connect("nats://127.0.0.1:4222").await?;
    println!("{}", factory.submit("Greet the world", None).await?.session_id);
    Ok(())
}
"#;

/// Runs cargo in `dir`, without network, and returns what it printed.
fn cargo(dir: &Path, arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // Below the project's own build directory, so that a second run compiles nothing.
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target/client-program");
    let ran = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_program_on_the_client_compiles_none_of_the_engines() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\nname = \"visitor\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         ai-factory-client = {{ path = {:?} }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt\"] }}\n",
        top.join("src/client")
    );
    fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(dir.path().join("src")).unwrap();
    fs::write(dir.path().join("src/main.rs"), PROGRAM).unwrap();
    // The same versions, which are on this machine already.
    fs::copy(top.join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
    let arguments = ["tree", "--offline", "--edges", "normal", "--prefix", "none"];
    let tree = cargo(dir.path(), &arguments);
    let has = |name: &str| tree.lines().any(|line| line.starts_with(&format!("{name} v")));
    assert!(has("async-nats") && has("ai-factory-ports"), "{tree}");
    assert_eq!(ENGINES.into_iter().find(|name| has(name)), None, "{tree}");
    cargo(dir.path(), &["check", "--offline", "--quiet"]);
}
