//! What the supervision tree and the actors in it agree on: pauses before restarts, and names.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause before a restart; each further one doubles it.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
/// The longest pause before a restart.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// The pause before a child is restarted.
pub fn back_off(
    _child: &str,
    restarts: usize,
    _failed_at: Instant,
    _reset_after: Option<Duration>,
) -> Option<Duration> {
    let doublings = u32::try_from(restarts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    Some((BACK_OFF_FIRST * 2_u32.pow(doublings)).min(BACK_OFF_MAX))
}

/// The name of the supervisor of session actors.
pub fn sessions_name(factory: &str) -> String {
    format!("{factory}.sessions")
}
