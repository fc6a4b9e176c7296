//! What models say while they say it, on a NATS server: core messages, never in JetStream.

use std::sync::Arc;

use ai_factory_actors::deps::Deps;
use ai_factory_ports::bus::{Bus, SubscribeError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::nats::NatsBus;

/// Parts that wait for the server; further ones are lost.
const PARTS_WAITING_MAX: usize = 4_096;

/// Forwards every part, in a task that ends with `closing`. A part that the server does not take is
/// lost: what was said is in the session's events.
pub(super) async fn forward(
    deps: &Deps,
    nats: &Arc<NatsBus>,
    tasks: &mut JoinSet<()>,
    closing: &CancellationToken,
) -> Result<(), SubscribeError> {
    let streams = deps.subjects.streams();
    let mut parts = deps.bus.subscribe(streams, None, PARTS_WAITING_MAX).await?;
    let (nats, closing) = (Arc::clone(nats), closing.clone());
    tasks.spawn(async move {
        loop {
            let part = tokio::select! {
                () = closing.cancelled() => return,
                part = parts.next() => part,
            };
            let Some(mut part) = part else { return };
            part.reply = None;
            if let Err(error) = nats.publish(part).await {
                tracing::debug!(%error, "a part of an answer was not forwarded");
            }
        }
    });
    Ok(())
}
