//! The sessions under way in this process, and who waits for them.
//!
//! Kept outside the actors, so that who waits outlives the death of an actor.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ai_factory_schemas::{
    answer::{SessionAnswer, SessionTold, Submitted},
    id::SessionId,
    problem::Problem,
};
use ractor::ActorRef;
use tokio::sync::watch;

use super::shell::SessionMessage;
use crate::service::{Reply, json};

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// That the session is on disk.
    Acceptance,
    /// That it is over.
    End,
}

#[derive(Default)]
struct Entry {
    shell: Option<ActorRef<SessionMessage>>,
    /// What is to be told to a shell that has not started yet.
    mail: Vec<SessionMessage>,
    acceptance: Vec<Reply>,
    end: Vec<Reply>,
}

impl Entry {
    fn await_with(&mut self, awaited: Awaited, reply: Reply) {
        match awaited {
            Awaited::Acceptance => self.acceptance.push(reply),
            Awaited::End => self.end.push(reply),
        }
    }
}

/// The sessions under way in this process.
#[derive(Default)]
pub struct Live {
    entries: Mutex<HashMap<SessionId, Entry>>,
    /// Changes whenever a session is taken out.
    taken_out: watch::Sender<()>,
}

impl Live {
    fn entries(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_out(&self, id: SessionId) -> Option<Entry> {
        let entry = self.entries().remove(&id);
        self.taken_out.send_replace(());
        entry
    }

    /// Whether the session is under way here.
    pub fn has(&self, id: SessionId) -> bool {
        self.entries().contains_key(&id)
    }

    /// Waits until the session is not under way here.
    pub async fn gone(&self, id: SessionId) {
        let mut taken_out = self.taken_out.subscribe();
        while self.entries().contains_key(&id) {
            if taken_out.changed().await.is_err() {
                return;
            }
        }
    }

    /// Adds a new session with whoever waits for it; gives the reply back where `sessions_max` are under way.
    pub fn admit(
        &self,
        id: SessionId,
        awaited: Awaited,
        reply: Reply,
        sessions_max: usize,
    ) -> Result<(), Reply> {
        let mut entries = self.entries();
        if entries.len() >= sessions_max {
            return Err(reply);
        }
        entries.entry(id).or_default().await_with(awaited, reply);
        Ok(())
    }

    /// Adds a session that is about to start, with whoever waits for it; `false` where it was already here.
    pub fn enter(&self, id: SessionId, waiting: Option<(Awaited, Reply)>) -> bool {
        let mut entries = self.entries();
        let is_new = !entries.contains_key(&id);
        let entry = entries.entry(id).or_default();
        if let Some((awaited, reply)) = waiting {
            entry.await_with(awaited, reply);
        }
        is_new
    }

    /// Adds somebody who waits for a session's end; gives the reply back where the session is not under way.
    pub fn join(&self, id: SessionId, reply: Reply) -> Result<(), Reply> {
        match self.entries().get_mut(&id) {
            Some(entry) => {
                entry.end.push(reply);
                Ok(())
            }
            None => Err(reply),
        }
    }

    /// Notes the shell that has the session, and gives it its mail.
    pub fn shell_started(&self, id: SessionId, shell: ActorRef<SessionMessage>) {
        let mut entries = self.entries();
        let entry = entries.entry(id).or_default();
        for message in entry.mail.drain(..) {
            let _ = shell.cast(message);
        }
        entry.shell = Some(shell);
    }

    /// The wish to end a session that came before its shell had started, if one did.
    pub fn early_cancel(&self, id: SessionId) -> Option<Reply> {
        let mut entries = self.entries();
        let mail = &mut entries.get_mut(&id)?.mail;
        let at = mail.iter().position(|message| matches!(message, SessionMessage::Cancel(_)))?;
        match mail.remove(at) {
            SessionMessage::Cancel(reply) => Some(reply),
            _ => None,
        }
    }

    /// Tells a session something, now or when its shell starts; gives the message back where the session is
    /// not under way. When the shell dies with the message, dropping it answers it.
    pub fn tell(&self, id: SessionId, message: SessionMessage) -> Result<(), Box<SessionMessage>> {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&id) else { return Err(Box::new(message)) };
        match &entry.shell {
            Some(shell) => {
                let _ = shell.cast(message);
            }
            None => entry.mail.push(message),
        }
        Ok(())
    }

    /// Tells who waited for it that the session is on disk.
    pub async fn accepted(&self, id: SessionId, submitted: &Submitted) {
        let waiting = match self.entries().get_mut(&id) {
            Some(entry) => std::mem::take(&mut entry.acceptance),
            None => Vec::new(),
        };
        for reply in waiting {
            reply.send(json(Ok(submitted))).await;
        }
    }

    /// Takes the session out and tells who waited for its end; `answer` is called only if somebody did.
    pub async fn ended(
        &self,
        id: SessionId,
        answer: impl AsyncFnOnce() -> Result<SessionAnswer, Problem>,
    ) {
        let Some(entry) = self.take_out(id) else { return };
        if entry.end.is_empty() {
            return;
        }
        let answer = json(answer().await);
        for reply in entry.end {
            reply.send(answer.clone()).await;
        }
    }

    /// Takes the session out and tells everybody who waited that it was refused.
    pub async fn refused(&self, id: SessionId, problem: &Problem) {
        let Some(entry) = self.take_out(id) else { return };
        for reply in entry.acceptance.into_iter().chain(entry.end) {
            reply.send(Err(problem.clone())).await;
        }
    }

    /// Takes the session out and gives back everybody who waited.
    pub fn withdraw(&self, id: SessionId) -> (Vec<Reply>, Vec<Reply>) {
        let entry = self.take_out(id).unwrap_or_default();
        (entry.acceptance, entry.end)
    }
}

/// What is answered to whoever told a session something.
pub fn told(id: SessionId, status: &str) -> SessionTold {
    SessionTold { session_id: id, status: status.to_owned() }
}
