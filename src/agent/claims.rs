//! Which instance takes a key that is new: the first one that writes its name under it into a bucket at the server.
//!
//! Two prompts under one new key may reach two instances in the same moment, when neither has recorded it. The bucket is a key-value
//! bucket of JetStream (NATS ADR-8), and its server lets one of two be the first. It is asked only where there are other instances.
//!
//! *Promises.* Of those who claim a key one has it, until its claim is taken over as a whole by one other.
//!
//! *Limits.* A claim is kept for [`CLAIM_AGE_MAX`], much longer than it takes to record a session: then the journal knows the key. Without
//! JetStream, or where the bucket cannot be used, nobody claims anything.

use std::{sync::Arc, time::Duration};

use ai_factory_actors::ports::bus::{Bus, Message, RequestError};
use ai_factory_schemas::{id::CommandId, subject::Subject};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Identity;

/// How long a claim is kept.
const CLAIM_AGE_MAX: Duration = Duration::from_hours(1);
/// How much claims may take at the server, in bytes; the oldest make room.
const CLAIMS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long the server may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The header that names the last message which a subject may have had (NATS ADR-8): 0 for none.
const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";

/// Where claims are kept.
#[derive(Clone, Debug)]
pub struct ClaimsSettings {
    /// The name of the bucket.
    pub bucket: String,
    /// On how many servers of a cluster it is kept where it is made here.
    pub replicas: usize,
}

/// Claims of the keys of one agent.
pub(super) struct Claims {
    outside: Arc<dyn Bus>,
    settings: ClaimsSettings,
    /// The agent whose keys these are.
    agent: String,
}

/// Who has a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Who asked.
    Ours,
    /// Another instance, as of that message in the bucket.
    Theirs { instance_id: String, sequence: u64 },
}

/// An acknowledgement of a publication.
#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    error: Option<Value>,
}

/// A message of the bucket.
#[derive(Deserialize)]
struct Kept {
    message: KeptMessage,
}

#[derive(Deserialize)]
struct KeptMessage {
    seq: u64,
    #[serde(default)]
    data: String,
}

impl Claims {
    pub(super) fn new(outside: Arc<dyn Bus>, settings: ClaimsSettings, of: &Identity) -> Self {
        Self { outside, settings, agent: format!("{}.{}", of.owner, of.name) }
    }

    /// Claims a key that was claimed last by message number `over`; 0 where nobody had. `None` where nobody can tell.
    pub(super) async fn claim(&self, key: &CommandId, own: &str, over: u64) -> Option<Claim> {
        let bucket = &self.settings.bucket;
        let name = Sha256::digest(key.as_str());
        let subject: Subject = format!("$KV.{bucket}.{}.{name:x}", self.agent).parse().ok()?;
        let mut claim = Message::new(subject.clone(), own.to_owned());
        claim.headers.set(EXPECTED_LAST, over.to_string());
        let ack: Ack = match self.ask(claim.clone()).await {
            Err(RequestError::NoResponders(_)) => {
                self.make().await?;
                self.ask(claim).await.ok()??
            }
            told => told.ok()??,
        };
        if ack.error.is_none() {
            return Some(Claim::Ours);
        }
        let get: Subject = format!("$JS.API.STREAM.MSG.GET.KV_{bucket}").parse().ok()?;
        let last = json!({ "last_by_subj": subject.as_str() }).to_string();
        let Kept { message } = self.ask(Message::new(get, last)).await.ok()??;
        let instance_id = String::from_utf8(BASE64_STANDARD.decode(message.data).ok()?).ok()?;
        let is_own = instance_id == own;
        let theirs = Claim::Theirs { instance_id, sequence: message.seq };
        Some(if is_own { Claim::Ours } else { theirs })
    }

    /// Makes the bucket. That it is there already, also with other limits, is as good.
    async fn make(&self) -> Option<()> {
        let ClaimsSettings { bucket, replicas } = &self.settings;
        let age_ns = u64::try_from(CLAIM_AGE_MAX.as_nanos()).ok()?;
        let wanted = json!({
            "name": format!("KV_{bucket}"), "subjects": [format!("$KV.{bucket}.>")],
            "description": "which instance of ai-factory takes a prompt's key",
            "retention": "limits", "storage": "file", "discard": "old", "num_replicas": replicas,
            "max_msgs_per_subject": 1, "max_bytes": CLAIMS_BYTES_MAX, "max_age": age_ns,
            "allow_rollup_hdrs": true, "deny_delete": true,
        });
        let create = format!("$JS.API.STREAM.CREATE.KV_{bucket}").parse().ok()?;
        let made: Option<Value> = self.ask(Message::new(create, wanted.to_string())).await.ok()?;
        if let Some(refused) = made?.get("error") {
            tracing::debug!(%refused, bucket, "the bucket of claims was not made");
        }
        Some(())
    }

    async fn ask<T: DeserializeOwned>(&self, message: Message) -> Result<Option<T>, RequestError> {
        let answer = self.outside.request(message, ANSWER_MAX).await?;
        Ok(serde_json::from_slice(&answer.payload).ok())
    }
}
