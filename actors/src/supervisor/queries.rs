//! Questions about sessions.

use ai_factory_ports::views::SessionFilter;
use ai_factory_schemas::{
    answer::{
        HistoryRow, MissingFilesAnswer, SessionCalls, SessionFilePart, SessionFiles, SessionRow,
        SessionStory, Uploaded,
    },
    problem::Problem,
    request::{ListSessions, ReadSessionFile, SessionSelector},
};

use super::{Supervisor, opening::milestone};
use crate::{
    request::{Request, bounded},
    session::{calls, lookup, story},
    workspace::operations,
};

impl Supervisor {
    pub(super) async fn session(&self, request: &Request) -> Result<SessionStory, Problem> {
        let id = self.which(request.read()?, |found, _| Ok(lookup::newest(found))).await?;
        story::load(&*self.deps.journal, &*self.deps.views, id)
            .await?
            .map(|story| story.story)
            .ok_or_else(|| Problem::not_found(format!("there is no session {id}")))
    }

    pub(super) async fn files(&self, request: &Request) -> Result<SessionFiles, Problem> {
        let id = self.which(request.read()?, |found, _| Ok(lookup::newest(found))).await?;
        operations::files(&self.deps, &self.trees, id, request.read()?).await
    }

    pub(super) async fn file(&self, request: &Request) -> Result<SessionFilePart, Problem> {
        let asked: ReadSessionFile = request.read()?;
        let which = SessionSelector { id: Some(asked.id.clone()), ..SessionSelector::default() };
        let id = self.which(which, |found, _| Ok(lookup::newest(found))).await?;
        operations::file(&self.deps, &self.trees, id, asked).await
    }

    pub(super) async fn missing(&self, request: &Request) -> Result<MissingFilesAnswer, Problem> {
        operations::missing(&self.deps, request.read()?).await
    }

    pub(super) async fn upload(&self, request: &Request) -> Result<Uploaded, Problem> {
        operations::upload(&self.deps, request.read()?).await
    }

    /// Number and filter of the sessions to list; `None` if the named key opened none.
    async fn listed(&self, request: &Request) -> Result<(usize, Option<SessionFilter>), Problem> {
        let ListSessions { limit, request_id, key } = request.read()?;
        let limit = bounded(limit, "limit", 10, 100)?;
        let Some(key) = key else {
            return Ok((limit, Some(SessionFilter { request_id, session_id: None })));
        };
        let known = lookup::of_key(&*self.deps.journal, &key).await?;
        let id = known.and_then(|(_, id)| id);
        Ok((limit, id.map(|id| SessionFilter { request_id, session_id: Some(id) })))
    }

    pub(super) async fn sessions(&self, request: &Request) -> Result<Vec<SessionRow>, Problem> {
        let (limit, Some(filter)) = self.listed(request).await? else { return Ok(Vec::new()) };
        let rows = self.deps.views.sessions_where(&filter, limit).await;
        rows.map_err(Problem::from)
    }

    pub(super) async fn history(&self, request: &Request) -> Result<Vec<HistoryRow>, Problem> {
        let (limit, Some(filter)) = self.listed(request).await? else { return Ok(Vec::new()) };
        let rows = self.deps.views.history_where(&filter, limit).await;
        rows.map_err(Problem::from)
    }

    /// Every attempt of every model call of a session.
    pub(super) async fn calls(&self, request: &Request) -> Result<SessionCalls, Problem> {
        let id = self.which(request.read()?, |found, _| Ok(lookup::newest(found))).await?;
        calls::of_session(&*self.deps.journal, id).await
    }

    /// Waits until a session is over or waits for somebody, as the caller of `run` does.
    pub(super) async fn wait(&self, request: Request) {
        let asked = match request.read::<SessionSelector>() {
            Ok(asked) => self.which(asked, |found, _| Ok(lookup::newest(found))).await,
            Err(problem) => Err(problem),
        };
        let milestone = milestone(&request);
        match asked {
            Ok(id) => self.join(id, milestone, request.reply).await,
            Err(problem) => request.reply.send(Err(problem)).await,
        }
    }
}
