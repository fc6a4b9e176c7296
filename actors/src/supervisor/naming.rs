//! The session that a request names.

use ai_factory_schemas::{
    answer::SessionRow,
    id::{SessionId, SessionRef},
    problem::Problem,
    request::SessionSelector,
};

use super::Supervisor;
use crate::session::lookup;

/// Selects one of the sessions with the same name.
type Choice = fn(&[SessionRow], &str) -> Result<Option<SessionId>, Problem>;

impl Supervisor {
    /// The session named by the request; `choose` decides between several that a request id opened.
    pub(super) async fn which(
        &self,
        which: SessionSelector,
        choose: Choice,
    ) -> Result<SessionId, Problem> {
        let (journal, views) = (&*self.deps.journal, &*self.deps.views);
        match which {
            SessionSelector { id: Some(name), request_id: None, key: None } => {
                if let Ok(id) = name.as_str().parse()
                    && self.deps.sessions.has(id)
                {
                    // It may not be on disk yet.
                    return Ok(id);
                }
                let found = lookup::called(journal, views, &name).await?;
                choose(&found, name.as_str())?.ok_or_else(|| {
                    Problem::not_found(format!(
                        "there is no session {name}, and none that a request or key of that name opened"
                    ))
                })
            }
            SessionSelector { id: None, request_id: Some(request), key: None } => {
                let found = lookup::of_request(views, &request).await?;
                choose(&found, request.as_str())?.ok_or_else(|| {
                    Problem::not_found(format!("no session was opened by the request `{request}`"))
                })
            }
            SessionSelector { id: None, request_id: None, key: Some(key) } => {
                let known = lookup::of_key(journal, &key).await?;
                known.and_then(|(_, id)| id).ok_or_else(|| {
                    Problem::not_found(format!("no session was opened under the key `{key}`"))
                })
            }
            _ => {
                let sentence = "name the session by one of `id`, `request_id` and `key`";
                Err(Problem::bad_request(sentence))
            }
        }
    }

    /// The only session with this name.
    pub(super) async fn only(&self, name: SessionRef) -> Result<SessionId, Problem> {
        let which = SessionSelector { id: Some(name), ..SessionSelector::default() };
        self.which(which, lookup::only).await
    }
}
