//! Finding the session that a person means.

use ai_factory_actors::ports::views::Views;
use ai_factory_schemas::{
    answer::SessionRow,
    id::{RequestId, SessionId},
};

use super::{
    exit::{Exit, Failure},
    remote::Remote,
    text::short,
};

/// How many of the newest sessions are looked through for the beginning of an id.
const SESSIONS_MAX: usize = 100_000;
/// How many candidates an ambiguous beginning shows.
const CANDIDATES_MAX: usize = 5;

/// How long an id is as text, in characters.
const ID_CHARS: usize = 36;
/// How many of its newest sessions a running factory tells.
const REMOTE_SESSIONS_MAX: u32 = 100;

/// The session with this id, or with an id or request id that begins so and is the only one.
pub(crate) async fn session(views: &dyn Views, text: &str) -> Result<SessionRow, Failure> {
    let wanted = text.trim().to_ascii_lowercase();
    if let Ok(id) = wanted.parse::<SessionId>()
        && let Some(row) = views.session(id).await?
    {
        return Ok(row);
    }
    if let Ok(request) = text.trim().parse::<RequestId>()
        && let Some(id) = views.session_of_request(&request).await?
        && let Some(row) = views.session(id).await?
    {
        return Ok(row);
    }
    if wanted.is_empty() {
        return Err(Failure::usage("an id is needed: `ai-factory sessions` lists them"));
    }
    let mut found = views.sessions(SESSIONS_MAX).await?;
    found.retain(|row| {
        row.session_id.to_string().starts_with(&wanted)
            || row.request_id.as_str().starts_with(text.trim())
    });
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::usage(format_args!(
            "no session's id or request id begins with `{}`: `ai-factory sessions` lists them",
            short(text, 60)
        ))),
        n => {
            let shown: Vec<_> = found
                .iter()
                .take(CANDIDATES_MAX)
                .map(|row| format!("\n  {}  {}", row.session_id, short(&row.goal, 60)))
                .collect();
            let more = if n > CANDIDATES_MAX { "\n  …" } else { "" };
            Err(Failure::usage(format_args!(
                "{n} sessions begin with `{}`; give more of the id:{}{more}",
                short(text, 60),
                shown.concat()
            )))
        }
    }
}

/// The id of a session of a running factory, or the beginning of one, as events have it. Refused where the factory says that there
/// is no such session; where it cannot tell, events that are kept elsewhere may still.
pub(crate) fn remote_session(remote: &Remote, text: &str) -> Result<String, Failure> {
    let wanted = text.trim().to_ascii_lowercase();
    let is_beginning = !wanted.is_empty()
        && wanted.len() <= ID_CHARS
        && wanted.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if !is_beginning {
        return Err(Failure::usage(format_args!(
            "`{}` is no session's id and no beginning of one: an id has {ID_CHARS} hexadecimal digits and dashes",
            short(text, 60)
        )));
    }
    if let Ok(id) = wanted.parse::<SessionId>() {
        return match remote.session(id) {
            Err(refused @ Failure::Said { exit: Exit::USAGE, .. }) => Err(refused),
            _ => Ok(id.to_string()),
        };
    }
    // A list that is full may have left the session out.
    let Ok(rows) = remote.sessions(REMOTE_SESSIONS_MAX) else { return Ok(wanted) };
    let is_known = rows.iter().any(|row| row.session_id.to_string().starts_with(&wanted));
    if is_known || rows.len() >= REMOTE_SESSIONS_MAX as usize {
        return Ok(wanted);
    }
    Err(Failure::usage(format_args!("no session's id begins with `{wanted}`")))
}
