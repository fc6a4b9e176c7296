//! Lookup of a session by a name.
//!
//! A name is the session's id; if no session has it, the id of the request that opened it;
//! otherwise the key that opened it. A request id may be used more than once: a reader gets the
//! newest session, a caller that changes one has to name it.

use ai_factory_ports::{
    journal::{Command, Journal},
    views::{SessionFilter, Views},
};
use ai_factory_schemas::{
    answer::SessionRow,
    id::{Category, CommandId, RequestId, SessionId, SessionRef},
    problem::Problem,
};

/// Sessions looked at per request id: more than one make the name ambiguous.
const OF_REQUEST_MAX: usize = 5;

/// The command recorded under a key, and the session that it opened; `None` in place of the session
/// if it did something else.
pub async fn of_key(
    journal: &dyn Journal,
    key: &CommandId,
) -> Result<Option<(Command, Option<SessionId>)>, Problem> {
    let known = journal.command(key).await.map_err(Problem::from)?;
    Ok(known.map(|(command, appended)| {
        let is_session = appended.stream.category == Category::Session;
        (command, is_session.then_some(SessionId(appended.stream.id)))
    }))
}

/// The sessions that a request opened, newest first.
pub async fn of_request(views: &dyn Views, id: &RequestId) -> Result<Vec<SessionRow>, Problem> {
    let filter = SessionFilter::of_request(id.clone());
    views.sessions_where(&filter, OF_REQUEST_MAX).await.map_err(Problem::from)
}

/// The sessions with this name, newest first; several only if one request id opened several.
pub async fn called(
    journal: &dyn Journal,
    views: &dyn Views,
    name: &SessionRef,
) -> Result<Vec<SessionRow>, Problem> {
    let text = name.as_str().trim();
    if let Ok(id) = text.parse::<SessionId>()
        && let Some(row) = views.session(id).await.map_err(Problem::from)?
    {
        return Ok(vec![row]);
    }
    if let Ok(request) = text.parse::<RequestId>() {
        let rows = of_request(views, &request).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
    }
    // A key is used unchanged.
    let Ok(key) = name.as_str().parse() else { return Ok(Vec::new()) };
    let Some((_, Some(id))) = of_key(journal, &key).await? else { return Ok(Vec::new()) };
    let row = views.session(id).await.map_err(Problem::from)?;
    Ok(row.into_iter().collect())
}

/// The newest of the sessions, if there is one.
pub fn newest(rows: &[SessionRow]) -> Option<SessionId> {
    rows.first().map(|row| row.session_id)
}

/// The only session that `what` opened, if there is one; several are an error instead of a guess.
pub fn only(rows: &[SessionRow], what: &str) -> Result<Option<SessionId>, Problem> {
    if rows.len() < 2 {
        return Ok(newest(rows));
    }
    let ids: Vec<_> = rows.iter().map(|row| row.session_id.to_string()).collect();
    let more = if rows.len() == OF_REQUEST_MAX { ", …" } else { "" };
    Err(Problem::conflict(format!(
        "several sessions were opened by the request `{what}`: name one by its id ({}{more})",
        ids.join(", ")
    )))
}
