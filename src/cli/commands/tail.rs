//! `tail`: recorded events, the newest or from a position on, and new ones.

use std::{ops::Range, time::Duration};

use ai_factory_ports::journal::{Journal, RawRecord};
use ai_factory_schemas::{envelope::Recorded, time::Timestamp};
use clap::Args;

use crate::cli::{
    context::CommandContext,
    count,
    ending::{Endings, unless_interrupted},
    event_filter::{EventFilter, EventQuery, EventsFrom},
    exit::{CommandError, Exit},
    output::{Output, stdout_is_closed},
    remote::FactoryTarget,
    session_lookup,
};

/// Number of records read at once.
const PAGE_RECORDS: usize = 256;
/// Polling interval of the journal, in milliseconds: another process writes it.
const LOOK_MS: u64 = 200;

/// Print recorded events, and follow new ones.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory tail --follow
  ai-factory tail 'session.>' -n 50
  ai-factory tail 'factory.events.run.*.finished' --from 1 --json
  ai-factory tail --type run.finished --status error --from 2026-11-25
  ai-factory tail --server 127.0.0.1:8000 --from 1

With --server or --nats it always follows a running factory, from now or from --from, and -n ends it
after that number of events.")]
pub(crate) struct TailArgs {
    /// Only events whose subject matches, such as session.> or run.*.finished
    #[arg(value_name = "SUBJECT-FILTER")]
    filter: Option<String>,
    /// Every event from this position or time on, or only `new` ones
    #[arg(long, value_name = "POSITION|TIME|new")]
    from: Option<EventsFrom>,
    #[command(flatten)]
    asked: EventQuery,
    /// Maximum number of events: the last ones, or with --from the first ones [default: 10 without
    /// --from]
    #[arg(long, short = 'n', value_name = "N", value_parser = count::rows)]
    #[arg(allow_negative_numbers = true)]
    number: Option<usize>,
    /// Wait for new events and print them as they are recorded
    #[arg(long, short)]
    follow: bool,
    /// A running factory, instead of the journal.
    #[command(flatten)]
    place: FactoryTarget,
}

/// Default number of events.
const NUMBER_DEFAULT: usize = 10;

impl TailArgs {
    /// One event per line; with `--json`, the recorded bytes unchanged.
    pub(crate) fn run(
        &self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        if self.place.is_named() {
            return self.remote(context, output);
        }
        context.read(output, async |reader, output, settings| {
            let mut asked = self.asked.clone();
            if let Some(session) = &mut asked.session {
                let row = session_lookup::find_session(reader, session).await?;
                *session = row.session_id.to_string();
            }
            let event_filter =
                EventFilter::new(self.filter.as_deref(), &asked, self.from, settings)?;
            let printing = self.print(reader.journal.as_ref(), output, &event_filter);
            Endings::listen().unless_signalled(unless_interrupted(printing), "told to end").await
        })?;
        Ok(Exit::DONE)
    }

    /// From a running factory. Over NATS past events come from the stream of events: core NATS
    /// keeps none.
    fn remote(&self, context: &CommandContext, output: &mut Output) -> Result<Exit, CommandError> {
        let settings = context.settings();
        let remote = self.place.open(context)?;
        let mut asked = self.asked.clone();
        if let Some(session) = &mut asked.session {
            *session = session_lookup::remote_session(&remote, session)?;
        }
        let event_filter = EventFilter::new(self.filter.as_deref(), &asked, self.from, settings)?;
        let filter = event_filter.filter.clone().unwrap_or_else(|| settings.subjects().events());
        let after = match self.from {
            Some(EventsFrom::Position(from)) => Some(from.saturating_sub(1)),
            Some(EventsFrom::Time(_)) => Some(0),
            Some(EventsFrom::New) | None => None,
        };
        let mut left = self.number.unwrap_or(usize::MAX);
        remote.follow(after, &filter, |record| {
            if event_filter.shows(&record) {
                event_filter.print(output, &record)?;
                output.flush()?;
                left -= 1;
            }
            if left == 0 { Err(CommandError::ClosedPipe) } else { Ok(()) }
        })?;
        Ok(Exit::DONE)
    }

    async fn print(
        &self,
        journal: &dyn Journal,
        output: &mut Output,
        event_filter: &EventFilter,
    ) -> Result<(), CommandError> {
        let head = journal.head().position;
        let from = match self.from {
            None => None,
            Some(EventsFrom::Position(from)) => Some(from),
            Some(EventsFrom::Time(time)) => Some(first_since(journal, time, head).await?),
            Some(EventsFrom::New) => Some(head.saturating_add(1)),
        };
        if let Some(from) = from {
            let number = self.number.unwrap_or(usize::MAX);
            let after = from.saturating_sub(1);
            oldest(journal, output, event_filter, after..head, number).await?;
        } else {
            let number = self.number.unwrap_or(NUMBER_DEFAULT);
            for record in newest(journal, event_filter, head, number).await? {
                event_filter.print(output, &record)?;
            }
        }
        output.flush()?;
        if self.follow || self.from == Some(EventsFrom::New) {
            let after = from.map_or(head, |from| head.max(from.saturating_sub(1)));
            follow(journal, output, event_filter, after).await?;
        }
        Ok(())
    }
}

/// The position of the first event at or after a time, by binary search: times increase with
/// positions, except where a clock was set back. The filter checks each event's time again.
async fn first_since(
    journal: &dyn Journal,
    time: Timestamp,
    head: u64,
) -> Result<u64, CommandError> {
    let (mut before, mut from) = (0, head + 1);
    while from - before > 1 {
        let middle = before + (from - before) / 2;
        let page = journal.read(middle - 1, 1).await?;
        let is_before = page.first().is_some_and(|record| {
            Recorded::decode(&record.bytes).is_ok_and(|recorded| recorded.time < time)
        });
        if is_before { before = middle } else { from = middle }
    }
    Ok(from)
}

/// Prints the first `number` matching records after the range's start and up to its end.
async fn oldest(
    journal: &dyn Journal,
    output: &mut Output,
    event_filter: &EventFilter,
    range: Range<u64>,
    number: usize,
) -> Result<(), CommandError> {
    let (mut after, mut left) = (range.start, number);
    while left > 0 && after < range.end {
        let rest = usize::try_from(range.end - after).unwrap_or(PAGE_RECORDS);
        let page = journal.read(after, rest.min(PAGE_RECORDS)).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        for record in page.iter().filter(|record| event_filter.shows(record)).take(left) {
            event_filter.print(output, record)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Prints new records. Ends only when the reader is gone, or with an error.
async fn follow(
    journal: &dyn Journal,
    output: &mut Output,
    event_filter: &EventFilter,
    mut after: u64,
) -> Result<(), CommandError> {
    loop {
        let page = journal.read(after, PAGE_RECORDS).await?;
        if let Some(last) = page.last() {
            after = last.position;
            for record in page.iter().filter(|record| event_filter.shows(record)) {
                event_filter.print(output, record)?;
            }
            output.flush()?;
        } else if stdout_is_closed() {
            return Err(CommandError::ClosedPipe);
        } else {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

/// The last `number` matching records up to `head`, oldest first.
async fn newest(
    journal: &dyn Journal,
    event_filter: &EventFilter,
    head: u64,
    number: usize,
) -> Result<Vec<RawRecord>, CommandError> {
    let mut found = Vec::new();
    let mut end = head;
    while end > 0 && found.len() < number {
        let start = end.saturating_sub(PAGE_RECORDS as u64);
        let page =
            journal.read(start, usize::try_from(end - start).unwrap_or(PAGE_RECORDS)).await?;
        let newer = number - found.len();
        found
            .extend(page.into_iter().rev().filter(|record| event_filter.shows(record)).take(newer));
        end = start;
    }
    found.reverse();
    Ok(found)
}
