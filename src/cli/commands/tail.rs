//! `tail`: recorded events, the newest or from a position on, and those to come.

use std::{ops::Range, time::Duration};

use ai_factory_actors::ports::journal::{Journal, Raw};
use ai_factory_schemas::{
    envelope::{Recorded, TYPE_PREFIX},
    id::StreamId,
    subject::{SubjectFilter, Subjects},
    time::Timestamp,
};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    cli::{
        context::{Context, unless_interrupted},
        exit::{Exit, Failure},
        narrate::narrate,
        output::{Colour, Output, stdout_is_closed},
        remote::Where,
        text::short,
    },
    config::Settings,
};

/// How many records are read at once.
const PAGE_RECORDS: usize = 256;
/// How often the journal is looked at for news, in milliseconds: another process writes it.
const LOOK_MS: u64 = 200;
/// How much of an unknown event's data is shown, in characters.
const DATA_CHARS_MAX: usize = 100;

/// Print recorded events, and follow them.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory tail --follow
  ai-factory tail 'session.>' -n 50
  ai-factory tail 'factory.events.run.*.finished' --from 1 --json
  ai-factory tail --server 127.0.0.1:8000 --from 1

With --server or --nats a running factory is always followed, from now on or from --from, and -n
ends it after so many events.")]
pub(crate) struct Tail {
    /// Only events whose subject matches, such as session.> or run.*.finished
    #[arg(value_name = "SUBJECT-FILTER")]
    filter: Option<String>,
    /// Every event from this position on
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
    /// How many events at most: the last ones, or the first ones with --from [default: 10 without --from]
    #[arg(long, short = 'n', value_name = "N")]
    number: Option<usize>,
    /// Wait for more and print them as they are recorded
    #[arg(long, short)]
    follow: bool,
    /// A running factory, in place of the journal.
    #[command(flatten)]
    place: Where,
}

/// How many events are shown where nothing else is said.
const NUMBER_DEFAULT: usize = 10;

impl Tail {
    /// One event a line: with `--json`, the recorded bytes as they are.
    pub(crate) fn run(&self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        if self.place.is_named() {
            return self.remote(context, output);
        }
        context.read(output, async |reader, output, settings| {
            let lens = Lens::new(self.filter.as_deref(), settings)?;
            let journal = reader.journal.as_ref();
            unless_interrupted(self.print(journal, output, &lens)).await
        })?;
        Ok(Exit::DONE)
    }

    /// From a running factory. Over NATS events come from now on: core NATS keeps none.
    fn remote(&self, context: &Context, output: &mut Output) -> Result<Exit, Failure> {
        if self.place.is_nats() && self.from.is_some() {
            return Err(Failure::usage(
                "NATS keeps no events of the past: use `--from` with --server, or without either",
            ));
        }
        if self.number == Some(0) {
            return Ok(Exit::DONE);
        }
        let settings = context.settings();
        let lens = Lens::new(self.filter.as_deref(), settings)?;
        let filter = lens.filter.clone().unwrap_or_else(|| settings.subjects().events());
        let after = self.from.map(|from| from.saturating_sub(1));
        let mut left = self.number.unwrap_or(usize::MAX);
        self.place.open(context)?.follow(after, &filter, |record| {
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
        if let Some(from) = self.from {
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
        if self.follow {
            let after = self.from.map_or(head, |from| head.max(from.saturating_sub(1)));
            follow(journal, output, lens, after).await?;
        }
        Ok(())
    }
}

/// Prints the first `number` records after the range's start and up to its end that are shown.
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

/// Prints what is recorded from now on. Ends only when nobody reads any more, or by an error.
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

/// The last `number` records up to `head` that are shown, oldest first.
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

/// As much of an envelope as a line shows. Reads events of newer versions too.
#[derive(Deserialize)]
struct Glimpse<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    time: Timestamp,
    stream: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Which events are shown, and how.
struct Lens {
    events: String,
    filter: Option<SubjectFilter>,
}

impl Lens {
    fn new(filter: Option<&str>, settings: &Settings) -> Result<Self, Failure> {
        let all = Subjects::events(&settings.subjects());
        let events = all.as_str().trim_end_matches('>').to_owned();
        let subjects = settings.subjects();
        let filter = filter.map(|text| subjects.event_filter(text));
        let filter = filter.transpose().map_err(Failure::usage)?;
        Ok(Self { events, filter })
    }

    fn subject(&self, glimpse: &Glimpse<'_>) -> String {
        let name = glimpse.kind.strip_prefix(TYPE_PREFIX).unwrap_or(glimpse.kind);
        let name = name.rsplit_once(".v").map_or(name, |(name, _)| name);
        let verb = name.split_once('.').map_or(name, |(_, verb)| verb);
        match glimpse.stream.parse::<StreamId>() {
            Ok(stream) => format!("{}{}.{}.{verb}", self.events, stream.category, stream.id),
            Err(_) => format!("{}{}.{verb}", self.events, glimpse.stream.replacen('-', ".", 1)),
        }
    }

    fn shows(&self, record: &Raw) -> bool {
        let Some(filter) = &self.filter else { return true };
        serde_json::from_slice(&record.bytes)
            .is_ok_and(|glimpse: Glimpse<'_>| filter.matches(&self.subject(&glimpse)))
    }

    fn print(&self, output: &mut Output, record: &Raw) -> std::io::Result<()> {
        if output.json {
            return output.line_of_bytes(&record.bytes);
        }
        let position = record.position;
        let Ok(glimpse) = serde_json::from_slice::<Glimpse<'_>>(&record.bytes) else {
            return output.line(&format!("{position:>8}  (cannot be read: `ai-factory verify`)"));
        };
        let what = match Recorded::decode(&record.bytes) {
            Ok(recorded) => narrate(&recorded.event),
            // Of a newer version: shown as it is.
            Err(_) => short(glimpse.data.get(), DATA_CHARS_MAX),
        };
        let subject =
            output.painted(Colour::Dim, &short(&self.subject(&glimpse), usize::from(u8::MAX)));
        output.line(&format!("{position:>8}  {}  {subject}  {what}", glimpse.time))
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        envelope::{ChainHash, Draft, Trail, seal},
        id::{EventId, MemoryId},
        memory::MemoryRemembered,
    };
    use uuid::Uuid;

    use super::*;
    use crate::config;

    fn record() -> Raw {
        let draft = Draft {
            id: EventId(Uuid::from_u128(2)),
            time: Timestamp::from_micros(1),
            event: MemoryRemembered {
                request_id: Uuid::from_u128(3).into(),
                text: "note".into(),
                tags: vec![],
            }
            .into(),
            trail: Trail::default(),
        };
        let mut json =
            draft.encode("/ai-factory/test", MemoryId(Uuid::from_u128(1)).into()).unwrap();
        seal(&mut json, 1, 1, ChainHash::GENESIS);
        Raw { position: 1, bytes: json.into_bytes().into() }
    }

    #[test]
    fn a_filter_is_a_whole_subject_or_what_follows_the_prefix() {
        let settings = config::load(&config::Inputs::default()).unwrap().settings;
        for (filter, shown) in [
            (None, true),
            (Some(">"), true),
            (Some("memory.>"), true),
            (Some("memory.*.remembered"), true),
            (Some("factory.events.memory.>"), true),
            (Some("*.events.*.*.remembered"), true),
            (Some("session.>"), false),
            (Some("factory.events.run.>"), false),
        ] {
            let lens = Lens::new(filter, &settings).unwrap();
            assert_eq!(lens.shows(&record()), shown, "{filter:?}");
        }
        for none in ["memory..x", "memories.>", "factory.memory.>"] {
            assert!(Lens::new(Some(none), &settings).is_err(), "{none}");
        }
    }
}
