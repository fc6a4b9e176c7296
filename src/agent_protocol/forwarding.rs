//! Forwards a request to the instance that has the session, key or instance it names.
//!
//! A request that no instance knows is answered by the first receiver. A new key is claimed first
//! ([`Claims`](super::claims)): of prompts under one key that reach several instances at once, the
//! holder of the claim handles all.
//!
//! *Limits.* Other instances are asked one after the other, for at most [`ANSWER_MAX`] each.

use std::time::{Duration, Instant};

use ai_factory_ports::{
    bus::{Message, RequestError, header},
    retry_after,
};
use ai_factory_schemas::{
    id::{CommandId, SessionId, StreamId},
    problem::Problem,
    quote::quoted,
};
use serde::Deserialize;

use super::{
    claims::Claim,
    state::{AgentEndpoint, AgentState},
};

/// Timeout for another instance to say whether it knows a request.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Header of a forwarded request: the endpoint's verb.
const ASKED: &str = "Factory-Verb";
/// Header of a forwarded request: the subject for the answer.
const ANSWER_TO: &str = "Factory-Reply-To";
/// Header of a forwarded prompt: whether the receiver holds the claim of its key. Always set by the
/// forwarder, never by a caller.
const CLAIMED: &str = "Factory-Claim";
const YES: &str = "yes";
const NO: &str = "no";
/// How many claims by instances that are gone are taken over for one prompt before the caller has
/// to prompt again.
const CLAIMS_MAX: usize = 4;
/// The reply of an instance that takes a request over.
const TAKEN: &[u8] = b"taken";

/// The result of forwarding a request.
#[derive(PartialEq, Eq)]
enum ForwardOutcome {
    /// It answers the request.
    Taken,
    /// The instance no longer exists.
    Gone,
    /// It does not have what the request names, or does not reply.
    Unclear,
}

/// The fields by which a request names a session, a key or an instance.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SessionReference {
    instance_id: Option<String>,
    id: Option<SessionId>,
    session_id: Option<SessionId>,
    key: Option<CommandId>,
}

impl SessionReference {
    fn read(payload: &[u8]) -> Self {
        serde_json::from_slice(payload).unwrap_or_default()
    }
}

impl AgentState {
    /// Forwards a request to the instance that has what it names or holds the claim of its key, if
    /// that is another one. Returns whether one took it.
    pub(super) async fn forward(
        &self,
        asked: AgentEndpoint,
        request: &Message,
    ) -> Result<bool, Problem> {
        let others = self.peers.others(Instant::now());
        if others.is_empty() || self.knows(asked, request).await != Some(false) {
            return Ok(false);
        }
        for instance_id in others {
            if self.forward_to(&instance_id, asked, request, NO).await == ForwardOutcome::Taken {
                return Ok(true);
            }
        }
        match asked {
            AgentEndpoint::Prompt => self.forward_to_claimer(request).await,
            _ => Ok(false),
        }
    }

    /// Forwards a prompt to the holder of its key's claim. If there is none, or it is gone, this
    /// instance claims the key.
    async fn forward_to_claimer(&self, request: &Message) -> Result<bool, Problem> {
        let key = request.headers.get(header::MESSAGE_ID).and_then(|key| key.parse().ok());
        let Some(key) = key else { return Ok(false) };
        let mut over = 0;
        for _ in 0..CLAIMS_MAX {
            let claim = self.claims.claim(&key, &self.instance_id, over).await;
            let Some(Claim::Theirs { instance_id, sequence }) = claim else { return Ok(false) };
            match self.forward_to(&instance_id, AgentEndpoint::Prompt, request, YES).await {
                ForwardOutcome::Taken => return Ok(true),
                ForwardOutcome::Gone => over = sequence,
                ForwardOutcome::Unclear => break,
            }
        }
        let sentence =
            "another instance of this agent has this key and does not answer: prompt again";
        Err(Problem::busy(sentence, retry_after::PEER))
    }

    async fn forward_to(
        &self,
        instance_id: &str,
        asked: AgentEndpoint,
        request: &Message,
        is_claimed: &str,
    ) -> ForwardOutcome {
        let Ok(subject) = self.identity.subject_of("peer", instance_id) else {
            return ForwardOutcome::Gone;
        };
        let mut message = Message::new(subject, request.payload.clone());
        message.headers = request.headers.clone();
        message.headers.set(ASKED, asked.verb());
        message.headers.set(CLAIMED, is_claimed);
        if let Some(reply) = &request.reply {
            message.headers.set(ANSWER_TO, reply.as_str());
        }
        match self.outside.request(message, ANSWER_MAX).await {
            Ok(answer) if answer.payload == TAKEN => ForwardOutcome::Taken,
            Err(RequestError::NoResponders(_)) => {
                self.peers.forget(instance_id);
                ForwardOutcome::Gone
            }
            _ => ForwardOutcome::Unclear,
        }
    }

    /// Tells the forwarder whether a request belongs to this instance, and returns the request if
    /// so.
    pub(super) async fn claim(&self, forwarded: Message) -> Option<(AgentEndpoint, Message)> {
        let asked = forwarded.headers.get(ASKED).and_then(AgentEndpoint::from_name)?;
        let subject = self.identity.subject(asked.verb()).ok()?;
        let reply = forwarded.headers.get(ANSWER_TO).and_then(|subject| subject.parse().ok());
        let peer = forwarded.reply?;
        let request = Message { subject, reply, ..forwarded };
        let is_claimed = request.headers.get(CLAIMED) == Some(YES);
        let is_ours = is_claimed || self.knows(asked, &request).await == Some(true);
        let reply = Message::new(peer, if is_ours { TAKEN } else { b"" });
        self.outside.publish(reply).await.ok()?;
        is_ours.then_some((asked, request))
    }

    /// Whether this instance has what a request names; `None` if any instance can handle it.
    async fn knows(&self, asked: AgentEndpoint, request: &Message) -> Option<bool> {
        if matches!(asked, AgentEndpoint::Prompt) {
            let key = request.headers.get(header::MESSAGE_ID)?.parse().ok()?;
            return Some(self.journal.command(&key).await.ok()?.is_some());
        }
        let SessionReference { instance_id, id, session_id, key } =
            SessionReference::read(&request.payload);
        if let Some(instance_id) = instance_id {
            return Some(instance_id == self.instance_id);
        }
        if let Some(id) = id.or(session_id) {
            let events = self.journal.load(StreamId::from(id), 0).await.ok()?;
            return Some(!events.is_empty());
        }
        Some(self.journal.command(&key?).await.ok()?.is_some())
    }

    /// Refuses a request that names another instance.
    pub(super) fn is_meant(&self, payload: &[u8]) -> Result<(), Problem> {
        match SessionReference::read(payload).instance_id {
            Some(other) if other != self.instance_id => {
                Err(Problem::not_found(format!("this agent has no instance `{}`", quoted(&other))))
            }
            _ => Ok(()),
        }
    }
}
