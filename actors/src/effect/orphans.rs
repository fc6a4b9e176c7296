//! Effects that were under way when the process died and that nobody waits for.

use ai_factory_ports::views::{ViewError, Views};
use ai_factory_schemas::{id::SessionId, problem::Problem};

/// Of the effects without an end those that no open session waits for: open sessions ask for theirs
/// again. `open` lists the effects without an end, each with its session if it has one; it is read
/// after the open sessions.
pub(crate) async fn orphans<I>(
    views: &dyn Views,
    open: impl Future<Output = Result<Vec<(I, Option<SessionId>)>, ViewError>>,
) -> Result<Vec<I>, Problem> {
    let sessions = views.open_sessions().await.map_err(Problem::from)?;
    let open = open.await.map_err(Problem::from)?.into_iter();
    let is_orphan =
        |session: &Option<SessionId>| session.is_none_or(|session| !sessions.contains(&session));
    Ok(open.filter(|(_, session)| is_orphan(session)).map(|(id, _)| id).collect())
}
