//! Where a journal stands in a stream: the position of its last event there.
//!
//! *Promises.* The stream itself says so, by the headers of its messages, and not what was noted elsewhere: a server
//! that lost its last messages, or all of them, is found out.

use ai_factory_actors::ports::bus::header;
use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::stream::{Info, LastRawMessageErrorKind, Stream},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Trouble, server};

/// How many messages are asked for at once, on the way back through those of others.
const LOOKED_AT_ONCE: usize = 64;
/// How far the clocks of server and factory may be apart, in microseconds.
const CLOCKS_APART_MAX_US: i64 = 600 * 1_000_000;

/// A journal, as it can be told from others in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalMark {
    /// The id of its first event.
    pub id: String,
    /// When that was recorded, in microseconds since 1970: a message older than that is of another journal.
    pub since_us: i64,
}

/// The position of the journal's last event in the stream; `None` where it has none of it.
pub(super) async fn last_position(
    stream: &Stream<Info>,
    journal: &JournalMark,
) -> Result<Option<u64>, Trouble> {
    let state = &stream.cached_info().state;
    if state.messages == 0 {
        return Ok(None);
    }
    // Most often it is the very last one.
    let (first, last) = (state.first_sequence, state.last_sequence);
    if let Seen::Ours(position) = look(stream, last, journal).await? {
        return Ok(Some(position));
    }
    let mut earlier = stream::iter((first..last).rev())
        .map(|sequence| look(stream, sequence, journal))
        .buffered(LOOKED_AT_ONCE);
    while let Some(seen) = earlier.try_next().await? {
        match seen {
            Seen::Ours(position) => return Ok(Some(position)),
            Seen::Older => break,
            Seen::Other => {}
        }
    }
    Ok(None)
}

enum Seen {
    /// Of this journal, from this position.
    Ours(u64),
    /// Of another one, or gone.
    Other,
    /// Older than the journal.
    Older,
}

async fn look(
    stream: &Stream<Info>,
    sequence: u64,
    journal: &JournalMark,
) -> Result<Seen, Trouble> {
    let message = match stream.get_raw_message(sequence).await {
        Ok(message) => message,
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
            return Ok(Seen::Other);
        }
        Err(error) => return Err(server(error)),
    };
    let text = |headers: &HeaderMap, name| {
        headers.get(name).map(HeaderValue::as_str).unwrap_or_default().to_owned()
    };
    if text(&message.headers, header::JOURNAL) == journal.id
        && let Ok(position) = text(&message.headers, header::POSITION).parse()
    {
        return Ok(Seen::Ours(position));
    }
    let stored_us = i64::try_from(message.time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    let is_older = stored_us.saturating_add(CLOCKS_APART_MAX_US) < journal.since_us;
    Ok(if is_older { Seen::Older } else { Seen::Other })
}
