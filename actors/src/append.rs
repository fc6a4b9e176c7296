//! Appending what must not be lost for want of room.

use crate::ports::journal::{Append, AppendError, Appended, Journal};

/// Appends, and waits as long as the journal has no room: for what has happened already, such as the end of a
/// run, whose refusal would have it happen again. What nobody was told of yet is better refused at once.
pub async fn patiently(journal: &dyn Journal, append: Append) -> Result<Appended, AppendError> {
    loop {
        match journal.append(append.clone()).await {
            Err(AppendError::Busy { retry_after }) => tokio::time::sleep(retry_after).await,
            done => return done,
        }
    }
}
