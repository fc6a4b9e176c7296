//! Finding the session that a person means.

use ai_factory_actors::ports::views::Views;
use ai_factory_schemas::{
    answer::SessionRow,
    id::{RequestId, SessionId},
};

use super::{exit::Failure, text::short};

/// How many of the newest sessions are looked through for the beginning of an id.
const SESSIONS_MAX: usize = 100_000;
/// How many candidates an ambiguous beginning shows.
const CANDIDATES_MAX: usize = 5;

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
