//! Appending to the journal: one attempt, or retries while the journal has no room.

use ai_factory_ports::journal::{Append, AppendError, Appended, Journal};
use tracing::Instrument as _;

use crate::spans;

/// Appends; refused if the journal has no room. For facts that were not announced yet.
pub async fn append(journal: &dyn Journal, append: Append) -> Result<Appended, AppendError> {
    let span = spans::append(&append);
    let done = journal.append(append).instrument(span.clone()).await;
    spans::appended(&span, &done);
    done
}

/// Appends, and retries while the journal has no room. For facts that exist already, such as the
/// end of a run: refusing the record would repeat the run. Other facts are better refused at once.
pub async fn append_with_retry(
    journal: &dyn Journal,
    append: Append,
) -> Result<Appended, AppendError> {
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
