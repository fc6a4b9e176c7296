//! Finding the session that somebody means.
//!
//! A session is called by its id; where no session has that, by the id of the request that opened
//! it; else by the key that opened it. A request id may have been used again: then the newest
//! session is meant by who reads, and who would change one has to say which.

use ai_factory_schemas::{
    answer::SessionRow,
    id::{Category, CommandId, RequestId, SessionId, SessionRef},
    problem::Problem,
};

use crate::{
    convert::{not_read, not_viewed},
    ports::{
        journal::{Command, Journal},
        views::{SessionFilter, Views},
    },
};

/// How many sessions of one request are looked at: with more than one, it is not clear which is
/// meant.
const OF_REQUEST_MAX: usize = 5;

/// The command that was recorded under a key, and the session that it opened; no session where it
/// did something else.
pub async fn of_key(
    journal: &dyn Journal,
    key: &CommandId,
) -> Result<Option<(Command, Option<SessionId>)>, Problem> {
    let known = journal.command(key).await.map_err(|error| not_read(&error))?;
    Ok(known.map(|(command, appended)| {
        let is_session = appended.stream.category == Category::Session;
        (command, is_session.then_some(SessionId(appended.stream.id)))
    }))
}

/// The sessions that a request opened, newest first.
pub async fn of_request(views: &dyn Views, id: &RequestId) -> Result<Vec<SessionRow>, Problem> {
    let filter = SessionFilter::of_request(id.clone());
    views.sessions_where(&filter, OF_REQUEST_MAX).await.map_err(|error| not_viewed(&error))
}

/// The sessions that are called so, newest first; more than one only where a request opened
/// several.
pub async fn called(
    journal: &dyn Journal,
    views: &dyn Views,
    name: &SessionRef,
) -> Result<Vec<SessionRow>, Problem> {
    let text = name.as_str().trim();
    if let Ok(id) = text.parse::<SessionId>()
        && let Some(row) = views.session(id).await.map_err(|error| not_viewed(&error))?
    {
        return Ok(vec![row]);
    }
    if let Ok(request) = text.parse::<RequestId>() {
        let rows = of_request(views, &request).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
    }
    // A key is taken as it is.
    let Ok(key) = name.as_str().parse() else { return Ok(Vec::new()) };
    let Some((_, Some(id))) = of_key(journal, &key).await? else { return Ok(Vec::new()) };
    let row = views.session(id).await.map_err(|error| not_viewed(&error))?;
    Ok(row.into_iter().collect())
}

/// The newest of the sessions, where there is one.
pub fn newest(rows: &[SessionRow]) -> Option<SessionId> {
    rows.first().map(|row| row.session_id)
}

/// The only one of the sessions that `what` opened, where there is one; it is not guessed which of
/// several is meant.
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
