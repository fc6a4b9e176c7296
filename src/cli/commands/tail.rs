//! `tail`: recorded events, the newest or from a position on, and new ones.

use std::{ops::Range, time::Duration};

use ai_factory_actors::ports::journal::{Journal, Raw};
use ai_factory_schemas::{envelope::Recorded, time::Timestamp};
use clap::Args;

use crate::cli::{
    context::Context,
    count,
    ending::{Endings, unless_interrupted},
    exit::{Exit, Failure},
    find,
    lens::{Asked, From, Lens},
    output::{Output, stdout_is_closed},
    remote::Where,
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
pub(crate) struct Tail {
    /// Only events whose subject matches, such as session.> or run.*.finished
    #[arg(value_name = "SUBJECT-FILTER")]
    filter: Option<String>,
    /// Every event from this position or time on, or only `new` ones
    #[arg(long, value_name = "POSITION|TIME|new")]
    from: Option<From>,
    #[command(flatten)]
    asked: Asked,
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
    place: Where,
}

/// Default number of events.
const NUMBER_DEFAULT: usize = 10;

impl Tail {
    /// One event per line; with `--json`, the recorded bytes unchanged.
    pub(crate) fn run(&self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        if self.place.is_named() {
            return self.remote(context, output);
        }
        context.read(output, async |reader, output, settings| {
            let mut asked = self.asked.clone();
            if let Some(session) = &mut asked.session {
                let row = find::session(reader, session).await?;
                *session = row.session_id.to_string();
            }
            let lens = Lens::new(self.filter.as_deref(), &asked, self.from, settings)?;
            let printing = self.print(reader.journal.as_ref(), output, &lens);
            Endings::listen().unless_told(unless_interrupted(printing), "told to end").await
        })?;
        Ok(Exit::DONE)
    }

    /// From a running factory. Over NATS past events come from the stream of events: core NATS
    /// keeps none.
    fn remote(&self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        let settings = context.settings();
        let remote = self.place.open(context)?;
        let mut asked = self.asked.clone();
        if let Some(session) = &mut asked.session {
            *session = find::remote_session(&remote, session)?;
        }
        let lens = Lens::new(self.filter.as_deref(), &asked, self.from, settings)?;
        let filter = lens.filter.clone().unwrap_or_else(|| settings.subjects().events());
        let after = match self.from {
            Some(From::Position(from)) => Some(from.saturating_sub(1)),
            Some(From::Time(_)) => Some(0),
            Some(From::New) | None => None,
        };
        let mut left = self.number.unwrap_or(usize::MAX);
        remote.follow(after, &filter, |record| {
            if lens.shows(&record) {
                lens.print(output, &record)?;
                output.flush()?;
                left -= 1;
            }
            if left == 0 { Err(Failure::ClosedPipe) } else { Ok(()) }
        })?;
        Ok(Exit::DONE)
    }

    async fn print(
        &self,
        journal: &dyn Journal,
        output: &mut Output,
        lens: &Lens,
    ) -> Result<(), Failure> {
        let head = journal.head().position;
        let from = match self.from {
            None => None,
            Some(From::Position(from)) => Some(from),
            Some(From::Time(time)) => Some(first_since(journal, time, head).await?),
            Some(From::New) => Some(head.saturating_add(1)),
        };
        if let Some(from) = from {
            let number = self.number.unwrap_or(usize::MAX);
            let after = from.saturating_sub(1);
            oldest(journal, output, lens, after..head, number).await?;
        } else {
            let number = self.number.unwrap_or(NUMBER_DEFAULT);
            for record in newest(journal, lens, head, number).await? {
                lens.print(output, &record)?;
            }
        }
        output.flush()?;
        if self.follow || self.from == Some(From::New) {
            let after = from.map_or(head, |from| head.max(from.saturating_sub(1)));
            follow(journal, output, lens, after).await?;
        }
        Ok(())
    }
}

/// The position of the first event at or after a time, by binary search: times increase with
/// positions, except where a clock was set back. The filter checks each event's time again.
async fn first_since(journal: &dyn Journal, time: Timestamp, head: u64) -> Result<u64, Failure> {
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
    lens: &Lens,
    range: Range<u64>,
    number: usize,
) -> Result<(), Failure> {
    let (mut after, mut left) = (range.start, number);
    while left > 0 && after < range.end {
        let rest = usize::try_from(range.end - after).unwrap_or(PAGE_RECORDS);
        let page = journal.read(after, rest.min(PAGE_RECORDS)).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        for record in page.iter().filter(|record| lens.shows(record)).take(left) {
            lens.print(output, record)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Prints new records. Ends only when the reader is gone, or with an error.
async fn follow(
    journal: &dyn Journal,
    output: &mut Output,
    lens: &Lens,
    mut after: u64,
) -> Result<(), Failure> {
    loop {
        let page = journal.read(after, PAGE_RECORDS).await?;
        if let Some(last) = page.last() {
            after = last.position;
            for record in page.iter().filter(|record| lens.shows(record)) {
                lens.print(output, record)?;
            }
            output.flush()?;
        } else if stdout_is_closed() {
            return Err(Failure::ClosedPipe);
        } else {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

/// The last `number` matching records up to `head`, oldest first.
async fn newest(
    journal: &dyn Journal,
    lens: &Lens,
    head: u64,
    number: usize,
) -> Result<Vec<Raw>, Failure> {
    let mut found = Vec::new();
    let mut end = head;
    while end > 0 && found.len() < number {
        let start = end.saturating_sub(PAGE_RECORDS as u64);
        let page =
            journal.read(start, usize::try_from(end - start).unwrap_or(PAGE_RECORDS)).await?;
        let newer = number - found.len();
        found.extend(page.into_iter().rev().filter(|record| lens.shows(record)).take(newer));
        end = start;
    }
    found.reverse();
    Ok(found)
}
