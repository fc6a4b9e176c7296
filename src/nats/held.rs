//! Held goals: refused goals whose dead letter cannot be stored. They stay in the queue until it
//! can.
//!
//! *Promises.* The server is told that such a goal is still in progress, so it is not redelivered;
//! it takes no place among the goals in progress. The oldest letter is retried for all of them,
//! with pauses that grow from `PAUSE_FIRST` to `PAUSE_MAX`; the health report has their number and
//! the reason.
//!
//! *Limits.* At most `HELD_MAX` goals are held, without their payloads, which are in the queue;
//! further ones wait where they were refused. A goal that could not stay in the queue, because it
//! cannot be delivered, is held with its payload, up to `HELD_BYTES_MAX` in all; beyond that it
//! leaves no letter, which is reported, and its journal record is all that remains of it.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use ai_factory_retry::Retry;
use async_nats::jetstream::AckKind;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    bus::NatsBus,
    metrics::DEAD_LETTERS,
    queue::{GoalConsumer, HeldGoal, PROGRESS_PERIOD, QueueConfig, log_dead_letter},
    streams::{Trouble, server},
};

/// The limit of held goals.
pub(super) const HELD_MAX: usize = 1_024;
/// The limit of held payloads, in bytes.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The pause before the first retry of a letter; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Their name in the health report.
const ABOUT: &str = DEAD_LETTERS;

/// Holds incoming goals until their letters are stored.
pub(super) async fn hold(
    mut came: mpsc::Receiver<HeldGoal>,
    outside: &NatsBus,
    consumer: &GoalConsumer,
    queue: &QueueConfig<'_>,
) -> Result<Infallible, Trouble> {
    outside.note_waiting(ABOUT, None);
    let mut held: VecDeque<HeldGoal> = VecDeque::new();
    let mut retry = Retry::counting(PAUSE_FIRST, PAUSE_MAX, outside.metrics().retries(ABOUT));
    let mut due = Instant::now();
    let mut progress = interval(PROGRESS_PERIOD);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let refused = tokio::select! {
            Some(goal) = came.recv(), if held.len() < HELD_MAX => {
                // It was redelivered, because the server was not told in time that it is here.
                held.retain(|other| other.sequence != goal.sequence);
                let bytes = held.iter().map(|other| other.letter.payload.len()).sum::<usize>();
                if bytes + goal.letter.payload.len() > HELD_BYTES_MAX {
                    outside.note_left_out(ABOUT, goal.sequence, &goal.refused);
                    continue;
                }
                let refused = held.is_empty().then(|| goal.refused.clone());
                held.push_back(goal);
                refused
            }
            _ = progress.tick(), if !held.is_empty() => {
                for handle in held.iter().filter_map(|goal| goal.handle.as_ref()) {
                    let _ = handle.ack_with(AckKind::Progress).await;
                }
                continue;
            }
            () = sleep_until(due), if !held.is_empty() => {
                let refused = match held.front() {
                    Some(goal) => bury(goal, consumer, queue).await?,
                    None => None,
                };
                if refused.is_none() {
                    held.pop_front();
                    if retry.went_on() {
                        tracing::info!("dead letters are stored again");
                    }
                }
                refused
            }
        };
        if let Some(reason) = &refused {
            let failure = retry.failed(reason);
            if failure.is_news {
                tracing::warn!(reason, "a dead letter is refused; its goal stays in the queue");
            }
            due = Instant::now() + failure.pause;
        }
        match held.front() {
            Some(first) => {
                let (count, reason) = (held.len(), refused.as_ref().unwrap_or(&first.refused));
                let problem =
                    format!("{reason}; {count} refused goals stay in the queue until then");
                outside.note_waiting(ABOUT, Some(&problem));
            }
            None => outside.note_waiting(ABOUT, None),
        }
    }
}

/// Tries to store a goal's letter and to remove the goal. Returns the reason if the letter cannot
/// be stored.
async fn bury(
    goal: &HeldGoal,
    consumer: &GoalConsumer,
    queue: &QueueConfig<'_>,
) -> Result<Option<String>, Trouble> {
    let mut letter = goal.letter.clone();
    if goal.is_in_queue {
        let Some(stored) = consumer.stored(goal.sequence).await? else {
            // It was removed.
            return Ok(None);
        };
        letter.payload = stored.payload;
    }
    if let Err(error) = queue.letters.store(&letter).await {
        return Ok(Some(error.to_string()));
    }
    log_dead_letter(&letter);
    match &goal.handle {
        Some(handle) => handle.ack_with(AckKind::Term).await.map_err(server)?,
        None if goal.is_in_queue => consumer.remove(goal.sequence).await?,
        None => {}
    }
    Ok(None)
}
