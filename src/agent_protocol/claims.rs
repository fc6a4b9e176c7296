//! Decides which instance handles a new key: the first to write its name under the key into a
//! bucket on the server.
//!
//! Two prompts under one new key may reach two instances at the same moment, when neither has
//! recorded it. The bucket is a JetStream key-value bucket (NATS ADR-8), whose server accepts only
//! one of two first writes. It is used only if there are other instances.
//!
//! *Promises.* At most one instance holds the claim of a key, until one other instance takes the
//! claim over as a whole.
//!
//! *Limits.* A claim is kept for [`CLAIM_AGE_MAX`], much longer than recording a session takes:
//! then the journal knows the key. Without JetStream, or if the bucket is unusable, nothing is
//! claimed.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::bus::{Bus, Message, RequestError};
use ai_factory_schemas::{id::CommandId, subject::Subject};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::identity::AgentIdentity;

/// Retention of a claim.
const CLAIM_AGE_MAX: Duration = Duration::from_hours(1);
/// Size of the bucket, in bytes; the oldest claims are removed.
const CLAIMS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Timeout for the server's reply.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Header with the sequence number expected as the subject's last message (NATS ADR-8): 0 for none.
const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";

/// Settings of the bucket.
#[derive(Clone, Debug)]
pub struct ClaimsSettings {
    /// The name of the bucket.
    pub bucket: String,
    /// Replicas in a cluster, if the bucket is created here.
    pub replicas: usize,
}

/// The claims of one agent's keys.
pub(super) struct Claims {
    outside: Arc<dyn Bus>,
    settings: ClaimsSettings,
    /// The agent that the keys belong to.
    agent: String,
}

/// The holder of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// This instance.
    Ours,
    /// Another instance, by the bucket's message with that sequence number.
    Theirs { instance_id: String, sequence: u64 },
}

/// The acknowledgement of a publication.
#[derive(Deserialize)]
struct ClaimAck {
    #[serde(default)]
    error: Option<Value>,
}

/// A message of the bucket.
#[derive(Deserialize)]
struct BucketEntry {
    message: BucketMessage,
}

#[derive(Deserialize)]
struct BucketMessage {
    seq: u64,
    #[serde(default)]
    data: String,
}

impl Claims {
    pub(super) fn new(outside: Arc<dyn Bus>, settings: ClaimsSettings, of: &AgentIdentity) -> Self {
        Self { outside, settings, agent: format!("{}.{}", of.owner, of.name) }
    }

    /// Claims a key whose last claim was message number `over`; 0 if there was none. `None` if the
    /// bucket cannot be used.
    pub(super) async fn claim(&self, key: &CommandId, own: &str, over: u64) -> Option<Claim> {
        let bucket = &self.settings.bucket;
        let name = Sha256::digest(key.as_str());
        let subject: Subject = format!("$KV.{bucket}.{}.{name:x}", self.agent).parse().ok()?;
        let mut claim = Message::new(subject.clone(), own.to_owned());
        claim.headers.set(EXPECTED_LAST, over.to_string());
        let ack: ClaimAck = match self.ask(claim.clone()).await {
            Err(RequestError::NoResponders(_)) => {
                self.make().await?;
                self.ask(claim).await.ok()??
            }
            reply => reply.ok()??,
        };
        if ack.error.is_none() {
            return Some(Claim::Ours);
        }
        let get: Subject = format!("$JS.API.STREAM.MSG.GET.KV_{bucket}").parse().ok()?;
        let last = json!({ "last_by_subj": subject.as_str() }).to_string();
        let BucketEntry { message } = self.ask(Message::new(get, last)).await.ok()??;
        let instance_id = String::from_utf8(BASE64_STANDARD.decode(message.data).ok()?).ok()?;
        let is_own = instance_id == own;
        let theirs = Claim::Theirs { instance_id, sequence: message.seq };
        Some(if is_own { Claim::Ours } else { theirs })
    }

    /// Creates the bucket. An existing one, also with other limits, is accepted.
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
