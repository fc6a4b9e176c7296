//! Registry of the sessions under way in this process, and of the callers that wait for them.
//!
//! It is kept outside the actors, so that a caller's wait survives the death of an actor.

use std::collections::HashMap;

use ai_factory_schemas::{
    answer::{SessionAnswer, Submitted},
    id::SessionId,
    problem::Problem,
    session::Resolution,
};
use parking_lot::{Mutex, MutexGuard};
use ractor::DerivedActorRef;
use tokio::sync::watch;

use crate::{
    request::{Reply, json},
    tasks::note_hand_over,
};

/// Requests to a session under way.
pub enum SessionRequest {
    /// Cancel the session.
    Cancel(Reply),
    /// Decide about the step whose end is unknown.
    Resolve(Resolution, Reply),
}

impl SessionRequest {
    /// The reply, for who cannot pass the request on.
    pub(crate) fn into_reply(self) -> Reply {
        match self {
            Self::Cancel(reply) | Self::Resolve(_, reply) => reply,
        }
    }
}

/// What a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The session is on disk.
    Acceptance,
    /// The session is over.
    End,
}

#[derive(Default)]
struct SessionEntry {
    actor: Option<DerivedActorRef<SessionRequest>>,
    /// Requests to a session actor that has not started yet.
    mail: Vec<SessionRequest>,
    acceptance: Vec<Reply>,
    end: Vec<Reply>,
}

impl SessionEntry {
    fn add_waiter(&mut self, milestone: Milestone, reply: Reply) {
        match milestone {
            Milestone::Acceptance => self.acceptance.push(reply),
            Milestone::End => self.end.push(reply),
        }
    }
}

/// The sessions under way in this process.
#[derive(Default)]
pub struct SessionRegistry {
    entries: Mutex<HashMap<SessionId, SessionEntry>>,
    /// Changes whenever a session is removed.
    removed: watch::Sender<()>,
}

impl SessionRegistry {
    fn entries(&self) -> MutexGuard<'_, HashMap<SessionId, SessionEntry>> {
        self.entries.lock()
    }

    fn remove(&self, id: SessionId) -> Option<SessionEntry> {
        let entry = self.entries().remove(&id);
        self.removed.send_replace(());
        entry
    }

    /// Whether the session is under way here.
    pub fn has(&self, id: SessionId) -> bool {
        self.entries().contains_key(&id)
    }

    /// Waits until the session is not under way here.
    pub async fn wait_until_ended(&self, id: SessionId) {
        let mut removed = self.removed.subscribe();
        while self.entries().contains_key(&id) {
            if removed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Adds a new session and its caller; returns the reply if `sessions_max` are under way.
    pub fn admit(
        &self,
        id: SessionId,
        milestone: Milestone,
        reply: Reply,
        sessions_max: usize,
    ) -> Result<(), Reply> {
        let mut entries = self.entries();
        if entries.len() >= sessions_max {
            return Err(reply);
        }
        entries.entry(id).or_default().add_waiter(milestone, reply);
        Ok(())
    }

    /// Adds a session about to start, and its caller if there is one; `false` if it was here
    /// already.
    pub fn enter(&self, id: SessionId, waiting: Option<(Milestone, Reply)>) -> bool {
        let mut entries = self.entries();
        let is_new = !entries.contains_key(&id);
        let entry = entries.entry(id).or_default();
        if let Some((milestone, reply)) = waiting {
            entry.add_waiter(milestone, reply);
        }
        is_new
    }

    /// Adds a caller that waits for a session's end; returns the reply if the session is not under
    /// way.
    pub fn join(&self, id: SessionId, reply: Reply) -> Result<(), Reply> {
        match self.entries().get_mut(&id) {
            Some(entry) => {
                entry.end.push(reply);
                Ok(())
            }
            None => Err(reply),
        }
    }

    /// Registers the session's actor, and sends it the requests that wait for it.
    pub fn actor_started(&self, id: SessionId, actor: DerivedActorRef<SessionRequest>) {
        let mut entries = self.entries();
        let entry = entries.entry(id).or_default();
        for request in entry.mail.drain(..) {
            let _ = actor.send_message(request);
        }
        entry.actor = Some(actor);
    }

    /// The request to cancel a session that arrived before its actor started, if there is one.
    pub fn early_cancel(&self, id: SessionId) -> Option<Reply> {
        let mut entries = self.entries();
        let mail = &mut entries.get_mut(&id)?.mail;
        let at = mail.iter().position(|request| matches!(request, SessionRequest::Cancel(_)))?;
        Some(mail.remove(at).into_reply())
    }

    /// Sends a request to a session, or keeps it until the session's actor starts; returns it if
    /// the session is not under way. If the actor dies with the request, dropping it answers it.
    pub fn send(&self, id: SessionId, request: SessionRequest) -> Result<(), Box<SessionRequest>> {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&id) else { return Err(Box::new(request)) };
        match &entry.actor {
            Some(actor) => {
                note_hand_over("session");
                let _ = actor.send_message(request);
            }
            None => entry.mail.push(request),
        }
        Ok(())
    }

    /// Answers the callers that waited for acceptance: the session is on disk.
    pub async fn notify_accepted(&self, id: SessionId, submitted: &Submitted) {
        let waiting = match self.entries().get_mut(&id) {
            Some(entry) => std::mem::take(&mut entry.acceptance),
            None => Vec::new(),
        };
        for reply in waiting {
            reply.send(json(Ok(submitted))).await;
        }
    }

    /// Removes the session and answers the callers that waited for its end; `answer` is called only
    /// if there are any.
    pub async fn notify_ended(
        &self,
        id: SessionId,
        answer: impl AsyncFnOnce() -> Result<SessionAnswer, Problem>,
    ) {
        let Some(entry) = self.remove(id) else { return };
        if entry.end.is_empty() {
            return;
        }
        let answer = json(answer().await);
        for reply in entry.end {
            reply.send(answer.clone()).await;
        }
    }

    /// Removes the session and answers every caller with the refusal.
    pub async fn notify_refused(&self, id: SessionId, problem: &Problem) {
        let Some(entry) = self.remove(id) else { return };
        for reply in entry.acceptance.into_iter().chain(entry.end) {
            reply.send(Err(problem.clone())).await;
        }
    }

    /// Removes the session and returns its callers.
    pub fn withdraw(&self, id: SessionId) -> (Vec<Reply>, Vec<Reply>) {
        let entry = self.remove(id).unwrap_or_default();
        (entry.acceptance, entry.end)
    }
}
