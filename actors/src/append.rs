//! Appending: at once or refused, or with patience for what must not be lost for want of room.

use tracing::Instrument as _;

use crate::{
    ports::journal::{Append, AppendError, Appended, Journal},
    spans,
};

/// Appends, or is refused where the journal has no room: for what nobody was told of yet.
pub async fn at_once(journal: &dyn Journal, append: Append) -> Result<Appended, AppendError> {
    let span = spans::append(&append);
    let done = journal.append(append).instrument(span.clone()).await;
    spans::appended(&span, &done);
    done
}

/// Appends, and waits as long as the journal has no room: for what has happened already, such as the end of a
/// run, whose refusal would have it happen again. What nobody was told of yet is better refused at once.
pub async fn patiently(journal: &dyn Journal, append: Append) -> Result<Appended, AppendError> {
    let span = spans::append(&append);
    let trying = async {
        loop {
            match journal.append(append.clone()).await {
                Err(AppendError::Busy { retry_after }) => tokio::time::sleep(retry_after).await,
                done => return done,
            }
        }
    };
    let done = trying.instrument(span.clone()).await;
    spans::appended(&span, &done);
    done
}
