//! Sessions that a start of the factory finds unfinished.

use ai_factory_schemas::{id::SessionId, session::SessionPhase};

use super::Supervisor;
use crate::{
    session::{story, waits},
    waiting::AwaitedBy,
};

/// Crashes after which a session resumes alone. One common crash is chance; after two the wait is
/// worth it.
const SUSPECT_AFTER: u32 = 2;

/// What a start finds.
enum Found {
    /// It may be the cause of crashes.
    Suspect,
    /// It waits for somebody.
    Waiting(AwaitedBy),
    /// It goes on.
    Unfinished,
}

impl Supervisor {
    /// Resumes every session of the journal that is not over and not under way here: first all that
    /// are no suspects; then, one at a time, those that were under way in several crashes. So a
    /// session that crashes the factory is counted alone, and the others are not given up because
    /// of it.
    pub(super) async fn resume_all(&self) {
        let open = match self.deps.views.open_sessions().await {
            Ok(open) => open,
            Err(error) => return tracing::error!(%error, "unfinished sessions could not be listed"),
        };
        let mut suspects = Vec::new();
        for id in open {
            match self.look_at(id).await {
                Found::Suspect => suspects.push(id),
                Found::Waiting(awaited) => self.deps.sessions.waiting.insert(id, awaited),
                Found::Unfinished => self.resume_session(id).await,
            }
        }
        let in_turn = async {
            for id in suspects {
                // It may have been cancelled, or resumed by its key, in the meantime.
                if matches!(self.look_at(id).await, Found::Suspect) {
                    self.resume_session(id).await;
                }
                self.deps.sessions.wait_until_ended(id).await;
            }
        };
        tokio::join!(self.retry_day(), in_turn);
    }

    async fn resume_session(&self, id: SessionId) {
        if self.deps.sessions.enter(id, None) {
            tracing::info!(%id, "resuming an unfinished session");
            self.start(id, None).await;
        }
    }

    /// What is to be done with an unfinished session. One that waits for a decision is no suspect.
    async fn look_at(&self, id: SessionId) -> Found {
        match story::fold(&*self.deps.journal, id).await {
            Ok(Some(folded)) => {
                let session = &folded.session;
                let is_running = session.phase() == SessionPhase::Running;
                match waits::awaited(session) {
                    Some(_) if self.deps.sessions.has(id) => Found::Unfinished,
                    Some(awaited) => Found::Waiting(awaited),
                    None if is_running && session.resumes() >= SUSPECT_AFTER => Found::Suspect,
                    None => Found::Unfinished,
                }
            }
            _ => Found::Unfinished,
        }
    }
}
