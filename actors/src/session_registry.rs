//! Registry of the sessions under way in this process, and of the callers that wait for them.
//!
//! It is kept outside the actors, so that a caller's wait survives the death of an actor.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use ai_factory_ports::journal::Command;
use ai_factory_schemas::{
    answer::{GoalAnswer, Submitted},
    id::SessionId,
    problem::Problem,
    request::{AnswerQuestion, ChangeBudget},
    session::{Resolution, Submitter},
};
use parking_lot::{Mutex, MutexGuard};
use ractor::DerivedActorRef;
use tokio::{sync::watch, time::Instant};

use crate::{
    request::{Reply, json},
    tasks::note_hand_over,
    waiting::{AwaitedBy, WaitingSessions},
};

/// An answer to a question, and who gives it.
pub struct AnswerRequest {
    /// The answer.
    pub asked: AnswerQuestion,
    /// Who gives it.
    pub by: Option<Submitter>,
}

/// Another budget, and who sets it.
pub struct BudgetRequest {
    /// The change.
    pub asked: ChangeBudget,
    /// Who sets it.
    pub by: Option<Submitter>,
    /// Whether it may be raised.
    pub may_raise: bool,
    /// The command to record, if the request has a key.
    pub command: Option<Command>,
}

/// Requests to a session under way.
pub enum SessionRequest {
    /// Cancel the session.
    Cancel(Reply),
    /// Decide about the step whose end is unknown.
    Resolve(Resolution, Reply),
    /// Answer the open question.
    Answer(Box<AnswerRequest>, Reply),
    /// Set another budget.
    Budget(Box<BudgetRequest>, Reply),
    /// Give the open question up if its time is over.
    QuestionExpired,
    /// Try again what the day's budget had no room for.
    RetryTurn,
}

impl SessionRequest {
    /// The reply, for who cannot pass the request on.
    pub(crate) fn into_reply(self) -> Option<Reply> {
        match self {
            Self::Cancel(reply)
            | Self::Resolve(_, reply)
            | Self::Answer(_, reply)
            | Self::Budget(_, reply) => Some(reply),
            Self::QuestionExpired | Self::RetryTurn => None,
        }
    }
}

/// What a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The session is on disk.
    Acceptance,
    /// The session is over, or waits for somebody.
    End {
        /// When the caller wants to hear how far it is; `None` if it waits for the end.
        until: Option<Instant>,
    },
}

/// A caller that waits for a session's end.
struct EndWaiter {
    reply: Reply,
    until: Option<Instant>,
}

#[derive(Default)]
struct SessionEntry {
    actor: Option<DerivedActorRef<SessionRequest>>,
    /// Requests to a session actor that has not started yet.
    mail: Vec<SessionRequest>,
    /// Requests that the actor was sent and has not taken.
    unread: usize,
    acceptance: Vec<Reply>,
    end: Vec<EndWaiter>,
}

impl SessionEntry {
    fn add_waiter(&mut self, milestone: Milestone, reply: Reply) {
        match milestone {
            Milestone::Acceptance => self.acceptance.push(reply),
            Milestone::End { until } => self.end.push(EndWaiter { reply, until }),
        }
    }
}

/// The sessions under way in this process.
#[derive(Default)]
pub struct SessionRegistry {
    entries: Mutex<HashMap<SessionId, SessionEntry>>,
    /// Changes whenever a session is removed.
    removed: watch::Sender<()>,
    /// The sessions that wait for somebody and are not under way.
    pub waiting: WaitingSessions,
    /// Actors started so far.
    started: AtomicU64,
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

    /// The number of the next start of an actor: an actor that ends and its successor have
    /// different names.
    pub fn next_start(&self) -> u64 {
        self.started.fetch_add(1, Ordering::Relaxed)
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

    /// Waits until fewer than `sessions_max` sessions are under way.
    pub async fn wait_for_place(&self, sessions_max: usize) {
        let mut removed = self.removed.subscribe();
        while self.entries().len() >= sessions_max {
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

    /// Adds a caller that waits for a session's end, up to a time; returns the reply if the session
    /// is not under way.
    pub fn join(&self, id: SessionId, reply: Reply, until: Option<Instant>) -> Result<(), Reply> {
        match self.entries().get_mut(&id) {
            Some(entry) => {
                entry.end.push(EndWaiter { reply, until });
                Ok(())
            }
            None => Err(reply),
        }
    }

    /// Takes out the callers that wait for the end up to `now` at most.
    pub fn overdue(&self, id: SessionId, now: Instant) -> Vec<Reply> {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&id) else { return Vec::new() };
        let is_over = |waiter: &mut EndWaiter| waiter.until.is_some_and(|until| until <= now);
        entry.end.extract_if(.., is_over).map(|waiter| waiter.reply).collect()
    }

    /// Registers the session's actor, and sends it the requests that wait for it.
    pub fn actor_started(&self, id: SessionId, actor: DerivedActorRef<SessionRequest>) {
        let mut entries = self.entries();
        let entry = entries.entry(id).or_default();
        entry.unread = entry.mail.len();
        for request in entry.mail.drain(..) {
            let _ = actor.send_message(request);
        }
        entry.actor = Some(actor);
        self.waiting.remove(id);
    }

    /// The actor takes up a request.
    pub fn request_taken(&self, id: SessionId) {
        if let Some(entry) = self.entries().get_mut(&id) {
            entry.unread = entry.unread.saturating_sub(1);
        }
    }

    /// The request to cancel a session that arrived before its actor started, if there is one.
    pub fn early_cancel(&self, id: SessionId) -> Option<Reply> {
        let mut entries = self.entries();
        let mail = &mut entries.get_mut(&id)?.mail;
        let at = mail.iter().position(|request| matches!(request, SessionRequest::Cancel(_)))?;
        mail.remove(at).into_reply()
    }

    /// Sends a request to a session, or keeps it until the session's actor starts; returns it if
    /// the session is not under way. If the actor dies with the request, dropping it answers it.
    pub fn send(&self, id: SessionId, request: SessionRequest) -> Result<(), Box<SessionRequest>> {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&id) else { return Err(Box::new(request)) };
        match &entry.actor {
            Some(actor) => {
                note_hand_over("session");
                entry.unread += 1;
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
        answer: impl AsyncFnOnce() -> Result<GoalAnswer, Problem>,
    ) {
        let Some(entry) = self.remove(id) else { return };
        tell(entry, answer).await;
    }

    /// Removes a session that waits for somebody, and answers the callers that waited for its end;
    /// `false` if its actor has a request to take up first.
    pub async fn notify_waiting(
        &self,
        id: SessionId,
        awaited: AwaitedBy,
        answer: impl AsyncFnOnce() -> Result<GoalAnswer, Problem>,
    ) -> bool {
        let entry = {
            let mut entries = self.entries();
            if entries.get(&id).is_some_and(|entry| entry.unread > 0) {
                return false;
            }
            let entry = entries.remove(&id);
            self.waiting.insert(id, awaited);
            entry
        };
        self.removed.send_replace(());
        if let Some(entry) = entry {
            tell(entry, answer).await;
        }
        true
    }

    /// Removes the session and answers every caller with the refusal.
    pub async fn notify_refused(&self, id: SessionId, problem: &Problem) {
        let Some(entry) = self.remove(id) else { return };
        let end = entry.end.into_iter().map(|waiter| waiter.reply);
        let mail = entry.mail.into_iter().filter_map(SessionRequest::into_reply);
        for reply in entry.acceptance.into_iter().chain(end).chain(mail) {
            reply.send(Err(problem.clone())).await;
        }
    }

    /// Removes the session and returns its callers.
    pub fn withdraw(&self, id: SessionId) -> (Vec<Reply>, Vec<Reply>) {
        let entry = self.remove(id).unwrap_or_default();
        (entry.acceptance, entry.end.into_iter().map(|waiter| waiter.reply).collect())
    }
}

/// Answers the callers that waited for the end, if there are any.
async fn tell(entry: SessionEntry, answer: impl AsyncFnOnce() -> Result<GoalAnswer, Problem>) {
    if entry.end.is_empty() {
        return;
    }
    let answer = json(answer().await);
    for waiter in entry.end {
        waiter.reply.send(answer.clone()).await;
    }
}
