//! The follower: keeps up with the journal, so that queries have little to fold.

use std::time::Duration;

use ai_factory_retry::Retry;
use parking_lot::Mutex;

use super::{fold_state::FoldState, journal_fold::JournalFold};

/// Lag at which the follower catches up, in events. High enough that a busy journal is folded in
/// few large steps, low enough that a query waits for little.
const FOLLOW_EVENTS: u64 = 512;
/// The pause after a failed fold; doubles with each further failure.
const FOLLOW_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Whether new events can be folded.
#[derive(Clone, Debug, Default)]
enum FollowState {
    /// They can, as far as is known.
    #[default]
    Following,
    /// The last fold failed; it is retried.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The follower.
#[derive(Default)]
pub(super) struct Follower(Mutex<FollowState>);

impl Follower {
    /// Why new events cannot be folded, if so: a sentence for people.
    pub(super) fn problem(&self) -> Option<String> {
        match &*self.0.lock() {
            FollowState::Following => None,
            FollowState::Failed { reason } => {
                Some(format!("new events cannot be folded ({reason}); retrying"))
            }
        }
    }

    /// Follows the journal until it is closed. Needs a runtime with timers.
    pub(super) async fn run(&self, fold: &JournalFold) {
        let mut heads = fold.journal.watch();
        let mut retry =
            Retry::counting(FOLLOW_PAUSE_FIRST, FOLLOW_PAUSE_MAX, fold.metrics.follow.clone());
        loop {
            let head = heads.borrow_and_update().position;
            let is_far_behind = match fold.state() {
                FoldState::Unchecked => true,
                FoldState::Folded(position) => head >= position + FOLLOW_EVENTS,
            };
            // After a failure until a fold succeeds, however little is left to fold.
            if is_far_behind || retry.is_failing() {
                if let Err(error) = fold.catch_up().await {
                    let reason = error.to_string();
                    let failure = retry.failed(&reason);
                    *self.0.lock() = FollowState::Failed { reason };
                    if failure.is_news {
                        let reason = self.problem();
                        tracing::error!(reason, "the projections are behind the journal");
                    }
                    tokio::time::sleep(failure.pause).await;
                    if heads.has_changed().is_err() {
                        return;
                    }
                    continue;
                }
                *self.0.lock() = FollowState::Following;
                if retry.went_on() {
                    tracing::info!("the projections keep up with the journal again");
                }
            }
            if heads.changed().await.is_err() {
                return;
            }
        }
    }
}
