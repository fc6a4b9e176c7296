//! Looks up a session by id, request id, key, or the beginning of an id.

use ai_factory_actors::session::{lookup, story};
use ai_factory_ports::{journal::Journal, views::Views};
use ai_factory_schemas::{
    answer::SessionRow,
    id::{SessionId, SessionRef},
};

use super::{
    exit::{CommandError, Exit},
    remote::RemoteFactory,
    text::short,
};
use crate::wiring::Reader;

/// Number of candidates shown for an ambiguous beginning.
const CANDIDATES_MAX: usize = 5;

/// Length of an id as text, in characters.
const ID_CHARS: usize = 36;
/// Number of newest sessions that a running factory lists.
const REMOTE_SESSIONS_MAX: u32 = 100;

/// The session with this id, request id (the newest of several) or key; or the only one whose id or
/// request id begins so.
pub(crate) async fn find_session(reader: &Reader, text: &str) -> Result<SessionRow, CommandError> {
    match called(reader, text).await?.into_iter().next() {
        Some(row) => Ok(row),
        None => beginning(&*reader.views, text).await,
    }
}

/// The same for commands that change the session: fails if a request opened several.
pub(crate) async fn only(reader: &Reader, text: &str) -> Result<SessionRow, CommandError> {
    let rows = called(reader, text).await?;
    lookup::only(&rows, text.trim())?;
    match rows.into_iter().next() {
        Some(row) => Ok(row),
        None => beginning(&*reader.views, text).await,
    }
}

/// A row with the exact phase of its session: the list does not know what a session with a model
/// is told before its next call, and so not always that it waits for a larger budget.
pub(crate) async fn exact(
    journal: &dyn Journal,
    mut row: SessionRow,
) -> Result<SessionRow, CommandError> {
    if row.budget.is_some()
        && row.end.is_none()
        && let Some(folded) = story::fold(journal, row.session_id).await?
    {
        row.status = folded.session.phase();
    }
    Ok(row)
}

async fn called(reader: &Reader, text: &str) -> Result<Vec<SessionRow>, CommandError> {
    if text.trim().is_empty() {
        return Err(CommandError::usage("an id is needed: `ai-factory sessions` lists them"));
    }
    let Ok(name) = text.parse::<SessionRef>() else { return Ok(Vec::new()) };
    Ok(lookup::called(&*reader.journal, &*reader.views, &name).await?)
}

async fn beginning(views: &dyn Views, text: &str) -> Result<SessionRow, CommandError> {
    let wanted = text.trim();
    let mut found = views.sessions_beginning(wanted, CANDIDATES_MAX + 1).await?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(CommandError::usage(format_args!(
            "no session has the id, request id or key `{}`, or an id that begins so: \
             `ai-factory sessions` lists them",
            short(text, 60)
        ))),
        n => {
            let shown: Vec<_> = found
                .iter()
                .take(CANDIDATES_MAX)
                .map(|row| format!("\n  {}  {}", row.session_id, short(&row.goal, 60)))
                .collect();
            let (many, more) = if n > CANDIDATES_MAX {
                ("many".to_owned(), "\n  …")
            } else {
                (n.to_string(), "")
            };
            Err(CommandError::usage(format_args!(
                "{many} sessions begin with `{}`; give more of the id:{}{more}",
                short(text, 60),
                shown.concat()
            )))
        }
    }
}

/// The name of a session of a running factory.
pub(crate) fn reference(text: &str) -> Result<SessionRef, CommandError> {
    let name = text.trim().parse();
    name.map_err(|_| CommandError::usage("an id is needed: `ai-factory sessions` lists them"))
}

/// The id of a session of a running factory, or the beginning of one, as in events. Refused if the
/// factory says that there is no such session; if it cannot be asked, events stored elsewhere may
/// still be found by an id or its beginning.
pub(crate) fn remote_session(remote: &RemoteFactory, text: &str) -> Result<String, CommandError> {
    let name = reference(text)?;
    let refused = match remote.session(&name) {
        Ok(story) => return Ok(story.row.session_id.to_string()),
        Err(refused) => refused,
    };
    let wanted = name.as_str().to_ascii_lowercase();
    let is_beginning =
        wanted.len() <= ID_CHARS && wanted.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if !is_beginning {
        return Err(refused);
    }
    let is_unknown = matches!(refused, CommandError::Said { exit: Exit::USAGE, .. });
    if wanted.parse::<SessionId>().is_ok() {
        return if is_unknown { Err(refused) } else { Ok(wanted) };
    }
    // A full list may lack the session.
    let Ok(rows) = remote.sessions(REMOTE_SESSIONS_MAX) else { return Ok(wanted) };
    let is_known = rows.iter().any(|row| row.session_id.to_string().starts_with(&wanted));
    if is_known || rows.len() >= REMOTE_SESSIONS_MAX as usize {
        return Ok(wanted);
    }
    Err(CommandError::usage(format_args!(
        "no session has the id, request id or key `{}`, or an id that begins so",
        short(text, 60)
    )))
}
