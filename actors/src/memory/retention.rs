//! Retention: memories beyond the limits of age or number are forgotten, and that is recorded.
//!
//! A record names the position up to which memories are forgotten, so a replay forgets the same
//! independent of its clock.
//!
//! *Limits.* `EXPIRED_MAX` memories per record; more are forgotten by several records in a row. A
//! memory that becomes too old is forgotten within `CHECK_EVERY`.

use std::{sync::Arc, time::Duration};

use ai_factory_schemas::{id::MemoryId, memory::MemoryExpired, problem::Problem, time::Timestamp};

use super::record;
use crate::{
    append,
    convert::{not_appended, not_viewed},
    deps::{Deps, Limits},
    ports::views::Kept,
    service::Context,
};

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
    let kept = kept(&deps.limits, deps.world.now());
    while let Some(outlived) =
        deps.views.outlived(&kept, EXPIRED_MAX).await.map_err(|error| not_viewed(&error))?
    {
        let event = MemoryExpired {
            upto: outlived.upto,
            memories: outlived.memories,
            before: kept.since,
            memories_max: kept.memories_max,
        };
        let id = MemoryId(deps.world.new_id());
        let trail = Context::internal(&*deps.world).trail();
        let append = record::append(deps, id, 0, event, trail, None);
        append::patiently(&*deps.journal, append).await.map_err(|error| not_appended(&error))?;
        expired += outlived.memories;
    }
    Ok(expired)
}

fn kept(limits: &Limits, now: Timestamp) -> Kept {
    let since = limits.memory_age_max.map(|age| {
        let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(now.as_micros().saturating_sub(micros))
    });
    Kept { since, memories_max: limits.memories_max }
}
