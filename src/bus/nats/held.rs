//! Goals that were refused and whose dead letter is refused in turn: they stay in the queue until there is a letter.
//!
//! *Promises.* The server is told that such a goal is still in hand, so it is not handed out again, and takes no place among those
//! that are being taken in. Its letter is tried again with pauses that grow from `PAUSE_FIRST` to `PAUSE_MAX`, one letter for
//! all; the report of health says how many there are, and why.
//!
//! *Limits.* `HELD_MAX` goals are held, without their payloads, which the queue has; further ones wait where they were refused. A
//! goal that could not stay in the queue, because nobody can be handed it, is held with its payload, and of all such payloads
//! `HELD_BYTES_MAX`; beyond that it leaves no letter, which is told, and its record is all there is of it.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use async_nats::jetstream::{self, AckKind};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    NatsBus,
    goals::{PROGRESS_PERIOD, became_a_letter},
    queue::{Consumer, Queue},
    streams::{Trouble, Undeliverable, server},
};
use crate::retry::Retry;

/// How many goals are held.
pub(super) const HELD_MAX: usize = 1_024;
/// How much the payloads may take that are held, in bytes.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The pause before a refused letter is tried again the first time; each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// What waits, as people read it.
const ABOUT: &str = "dead letters";

/// A goal whose letter was refused.
pub(super) struct HeldGoal {
    /// Its place in the queue.
    pub(super) sequence: u64,
    /// The letter; without the goal's payload where the queue has it.
    pub(super) letter: Undeliverable,
    /// Whether the queue still has the goal.
    pub(super) is_in_queue: bool,
    /// What to acknowledge the goal by, where it was handed to us.
    pub(super) handle: Option<jetstream::Message>,
    /// Why the letter was refused.
    pub(super) refused: String,
}

/// Holds the goals that come until their letters are kept.
pub(super) async fn hold(
    mut came: mpsc::Receiver<HeldGoal>,
    outside: &NatsBus,
    consumer: &Consumer,
    queue: &Queue<'_>,
) -> Result<Infallible, Trouble> {
    outside.note_waiting(ABOUT, None);
    let mut held: VecDeque<HeldGoal> = VecDeque::new();
    let mut retry = Retry::new(PAUSE_FIRST, PAUSE_MAX);
    let mut due = Instant::now();
    let mut progress = interval(PROGRESS_PERIOD);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let refused = tokio::select! {
            Some(goal) = came.recv(), if held.len() < HELD_MAX => {
                // It was handed out again, because the server was not told in time that it is here.
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
                        tracing::info!("dead letters are kept again");
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
                let told = format!("{reason}; {count} refused goals stay in the queue until then");
                outside.note_waiting(ABOUT, Some(&told));
            }
            None => outside.note_waiting(ABOUT, None),
        }
    }
}

/// Tries to leave the letter of a goal, and lets the goal go. Answers with why the letter is refused.
async fn bury(
    goal: &HeldGoal,
    consumer: &Consumer,
    queue: &Queue<'_>,
) -> Result<Option<String>, Trouble> {
    let mut letter = goal.letter.clone();
    if goal.is_in_queue {
        let Some(stored) = consumer.stored(goal.sequence).await? else {
            // Somebody removed it.
            return Ok(None);
        };
        letter.payload = stored.payload;
    }
    if let Err(error) = queue.letters.keep(&letter).await {
        return Ok(Some(error.to_string()));
    }
    became_a_letter(&letter);
    match &goal.handle {
        Some(handle) => handle.ack_with(AckKind::Term).await.map_err(server)?,
        None if goal.is_in_queue => consumer.remove(goal.sequence).await?,
        None => {}
    }
    Ok(None)
}
