//! Retention: memories beyond the limits of age or number are forgotten, and that is recorded.
//!
//! A record names the position up to which memories are forgotten, so a replay forgets the same
//! independent of its clock.
//!
//! *Limits.* `EXPIRED_MAX` memories per record; more are forgotten by several records in a row. A
//! memory that becomes too old is forgotten within `CHECK_EVERY`.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::views::RetentionPolicy;
use ai_factory_schemas::{id::MemoryId, memory::MemoryExpired, problem::Problem, time::Timestamp};

use super::record;
use crate::{append, deps::Deps, limits::Limits, request::RequestContext};

/// The interval between checks.
const CHECK_EVERY: Duration = Duration::from_mins(1);
/// The most memories that one record forgets.
const EXPIRED_MAX: u64 = 4_096;

/// Forgets expired memories, first at once and then at intervals. Ends at once if there are no
/// limits.
pub(super) async fn expire(deps: Arc<Deps>) {
    if deps.limits.memory_age_max.is_none() && deps.limits.memories_max.is_none() {
        return;
    }
    let mut checks = tokio::time::interval(CHECK_EVERY);
    checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        match expire_now(&deps).await {
            Ok(0) => {}
            Ok(memories) => tracing::info!(
                memories,
                "memories were forgotten: `memory_retention_s`, `memory_retention_max`"
            ),
            Err(problem) => {
                tracing::warn!(%problem, "expired memories could not be forgotten; trying again");
            }
        }
    }
}

/// Forgets expired memories; returns their number.
async fn expire_now(deps: &Deps) -> Result<u64, Problem> {
    let mut expired = 0;
    let policy = retention_policy(&deps.limits, deps.clock.now());
    while let Some(expired_range) =
        deps.views.expired_range(&policy, EXPIRED_MAX).await.map_err(Problem::from)?
    {
        let event = MemoryExpired {
            upto: expired_range.upto,
            memories: expired_range.memories,
            before: policy.since,
            memories_max: policy.memories_max,
        };
        let id = MemoryId(deps.ids.new_id());
        let trail = RequestContext::internal(&*deps.ids).trail();
        let append = record::append(deps, id, 0, event, trail, None);
        append::append_with_retry(&*deps.journal, append).await.map_err(Problem::from)?;
        expired += expired_range.memories;
    }
    Ok(expired)
}

fn retention_policy(limits: &Limits, now: Timestamp) -> RetentionPolicy {
    let since = limits.memory_age_max.map(|age| {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.as_micros().saturating_sub(micros))
    });
    RetentionPolicy { since, memories_max: limits.memories_max }
}
