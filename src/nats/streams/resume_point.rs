//! The resume point: the position of a journal's last event in a stream.
//!
//! *Promises.* It is read from the headers of the stream's messages, not from a separate record: a
//! server that lost its last messages, or all of them, is detected.

use ai_factory_ports::bus::header;
use async_nats::jetstream::{
    self,
    stream::{Info, Stream},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{ensure::Trouble, stored::stored};

/// Requests in flight while searching backwards through the messages of others.
const LOOKED_AT_ONCE: usize = 64;
/// Maximum clock difference between server and factory, in microseconds.
const CLOCKS_APART_MAX_US: i64 = 600 * 1_000_000;

/// What identifies a journal in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalMark {
    /// The id of its first event.
    pub id: String,
    /// The time of its first event, in microseconds since 1970: an older message is of another
    /// journal.
    pub since_us: i64,
}

/// The position of the journal's last event in the stream; `None` if the stream has none.
pub(super) async fn last_position(
    context: &jetstream::Context,
    stream: &Stream<Info>,
    journal: &JournalMark,
) -> Result<Option<u64>, Trouble> {
    let Info { config, state, .. } = stream.cached_info();
    let inspect = |sequence| inspect(context, &config.name, sequence, journal);
    if state.messages == 0 {
        return Ok(None);
    }
    // Usually it is the very last message.
    let (first, last) = (state.first_sequence, state.last_sequence);
    if let MessageOrigin::Ours(position) = inspect(last).await? {
        return Ok(Some(position));
    }
    let mut earlier = stream::iter((first..last).rev()).map(inspect).buffered(LOOKED_AT_ONCE);
    while let Some(seen) = earlier.try_next().await? {
        match seen {
            MessageOrigin::Ours(position) => return Ok(Some(position)),
            MessageOrigin::Older => break,
            MessageOrigin::Other => {}
        }
    }
    Ok(None)
}

enum MessageOrigin {
    /// Of this journal, at this position.
    Ours(u64),
    /// Of another journal, or removed.
    Other,
    /// Older than the journal.
    Older,
}

async fn inspect(
    context: &jetstream::Context,
    stream: &str,
    sequence: u64,
    journal: &JournalMark,
) -> Result<MessageOrigin, Trouble> {
    let Some(message) = stored(context, stream, sequence).await? else {
        return Ok(MessageOrigin::Other);
    };
    let position = message.headers.get(header::POSITION).and_then(|text| text.parse().ok());
    if message.headers.get(header::JOURNAL) == Some(&journal.id)
        && let Some(position) = position
    {
        return Ok(MessageOrigin::Ours(position));
    }
    let stored_us = message.time.as_micros();
    let is_older = stored_us.saturating_add(CLOCKS_APART_MAX_US) < journal.since_us;
    Ok(if is_older { MessageOrigin::Older } else { MessageOrigin::Other })
}
