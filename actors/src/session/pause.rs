//! The pause before the next try of a request that was refused for the moment.

use std::time::Duration;

use ai_factory_schemas::problem::Problem;

/// The longest pause between two tries, whatever the refusal asked for.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Waits as long as the refusal asked for, within [`PAUSE_MAX`].
pub(crate) async fn pause(problem: &Problem) {
    let asked_for = problem.retry_after.unwrap_or(PAUSE_MAX);
    tokio::time::sleep(asked_for.min(PAUSE_MAX)).await;
}
