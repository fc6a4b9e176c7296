//! The agent's identity: its subjects (§2), metadata (§3.2) and heartbeat (§8.3).

use std::fmt::Write as _;

use ai_factory_schemas::{
    subject::{ParseSubjectError, Subject},
    time::Timestamp,
};
use serde::Serialize;

/// The harness identifier (§3.2), also its token in subjects (§2).
pub const AGENT: &str = "ai-factory";
/// The protocol's version (§11.1).
pub const PROTOCOL_VERSION: &str = "0.3";
/// The service name of all agents (§3.1).
pub const SERVICE_NAME: &str = "agents";
/// The queue group in which instances of one agent share its prompts (§3.3).
pub const QUEUE_GROUP: &str = "agents";
/// The longest token of a subject, in bytes (§2.2).
const TOKEN_BYTES_MAX: usize = 63;

/// Distinguishes this agent from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentIdentity {
    /// Operator or account: one token.
    pub owner: String,
    /// The agent's name within its owner: one token. It is the session label too.
    pub name: String,
}

/// A text as one subject token (§2.2): lower case, with `-` for every character not allowed there.
pub fn token(text: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let lower = text.chars().take(TOKEN_BYTES_MAX).map(|c| c.to_ascii_lowercase());
    let token: String = lower.map(|c| if plain(c) { c } else { '-' }).collect();
    if token.is_empty() { AGENT.to_owned() } else { token }
}

/// A heartbeat, also the answer of `status`.
#[derive(Debug, Serialize)]
pub struct Heartbeat<'a> {
    agent: &'static str,
    owner: &'a str,
    session: &'a str,
    instance_id: &'a str,
    ts: Timestamp,
    interval_s: u64,
}

impl AgentIdentity {
    /// `agents.{verb}.ai-factory.{owner}.{name}`.
    pub fn subject(&self, verb: &str) -> Result<Subject, ParseSubjectError> {
        let mut subject = String::new();
        let _ = write!(subject, "agents.{verb}.{AGENT}.{}.{}", self.owner, self.name);
        subject.parse()
    }

    /// The same for one instance of this name.
    pub fn subject_of(&self, verb: &str, instance_id: &str) -> Result<Subject, ParseSubjectError> {
        format!("{}.{instance_id}", self.subject(verb)?).parse()
    }

    /// The heartbeat at time `ts`.
    pub fn heartbeat<'a>(
        &'a self,
        instance_id: &'a str,
        ts: Timestamp,
        interval_s: u64,
    ) -> Heartbeat<'a> {
        let Self { owner, name } = self;
        Heartbeat { agent: AGENT, owner, session: name, instance_id, ts, interval_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_one_token() {
        for (text, expected) in [
            ("local", "local"),
            ("Build-7.example.org", "build-7-example-org"),
            ("Ärger über", "-rger--ber"),
            ("$SYS.>", "-sys--"),
            ("", "ai-factory"),
        ] {
            assert_eq!(token(text), expected);
        }
        assert_eq!(token(&"x".repeat(100)).len(), TOKEN_BYTES_MAX);
    }

    #[test]
    fn subjects_and_heartbeats_are_as_the_protocol_has_them() {
        let identity = AgentIdentity { owner: "alice".to_owned(), name: "bench".to_owned() };
        let prompt = identity.subject("prompt").unwrap();
        assert_eq!(prompt.as_str(), "agents.prompt.ai-factory.alice.bench");
        let beat = identity.heartbeat("7", Timestamp::from_micros(1_780_000_000_000_000), 30);
        assert_eq!(
            serde_json::to_value(beat).unwrap(),
            serde_json::json!({
                "agent": "ai-factory", "owner": "alice", "session": "bench", "instance_id": "7",
                "ts": "2026-05-28T20:26:40.000000Z", "interval_s": 30,
            })
        );
    }
}
