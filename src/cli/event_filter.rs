//! Event filter: selects the recorded events to show, and formats them as one line each or as the
//! recorded bytes.

use std::str::FromStr;

use ai_factory_ports::journal::RawRecord;
use ai_factory_schemas::{
    envelope::{Recorded, TYPE_PREFIX},
    id::StreamId,
    subject::{SubjectFilter, Subjects},
    time::Timestamp,
};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    colour::Colour, event_words, exit::CommandError, narrate::narrate, output::Output, text::short,
};
use crate::config::Settings;

/// Shown part of an unknown event's data, in characters.
const DATA_CHARS_MAX: usize = 100;

/// The start of the selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventsFrom {
    /// At a position.
    Position(u64),
    /// At the first event at or after a time.
    Time(Timestamp),
    /// At the next recorded event.
    New,
}

impl FromStr for EventsFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "new" {
            return Ok(Self::New);
        }
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        Timestamp::parse_human(text).map(Self::Time).map_err(|_| {
            "it is a position (7), a time (2026-11-25, 2026-11-25T12:00:00Z) or `new`".to_owned()
        })
    }
}

/// The fields of an envelope that a line shows. Also reads events of newer versions.
#[derive(Deserialize)]
struct EnvelopeSummary<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    time: Timestamp,
    stream: &'a str,
    #[serde(default)]
    correlationid: Option<&'a str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Filters in addition to the subject; an absent filter matches everything.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct EventQuery {
    /// Only events of this session and of its runs: its id, its request's id, or the beginning of
    /// either
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Only events of this type, such as run.finished, or of this category, such as run
    #[arg(long = "type", value_name = "TYPE", value_parser = event_words::kind)]
    pub(crate) kind: Option<String>,
    /// Only events with this status, such as success, error or timeout
    #[arg(long, value_name = "STATUS", value_parser = event_words::status)]
    pub(crate) status: Option<String>,
}

/// The status in an event's data: its own, or that of the end it reports.
fn status(data: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct EventData {
        status: Option<String>,
        end: Option<EndField>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum EndField {
        Status { status: String },
        Other(serde::de::IgnoredAny),
    }
    let data: EventData = serde_json::from_str(data.get()).ok()?;
    data.status.or_else(|| match data.end? {
        EndField::Status { status } => Some(status),
        EndField::Other(_) => None,
    })
}

impl EventQuery {
    fn holds(&self, summary: &EnvelopeSummary<'_>) -> bool {
        let is_of = |id: &String| {
            let stream = summary.stream.strip_prefix("session-");
            [stream, summary.correlationid].into_iter().flatten().any(|it| it.starts_with(id))
        };
        let is_kind = |kind: &String| event_words::is_of_kind(summary.name(), kind);
        let has = |status_asked: &String| status(summary.data).as_ref() == Some(status_asked);
        self.session.as_ref().is_none_or(is_of)
            && self.kind.as_ref().is_none_or(is_kind)
            && self.status.as_ref().is_none_or(has)
    }

    fn is_nothing(&self) -> bool {
        self.session.is_none() && self.kind.is_none() && self.status.is_none()
    }
}

impl EnvelopeSummary<'_> {
    /// The type without prefix and version: `run.finished`.
    fn name(&self) -> &str {
        let name = self.kind.strip_prefix(TYPE_PREFIX).unwrap_or(self.kind);
        name.rsplit_once(".v").map_or(name, |(name, _)| name)
    }
}

/// Which events are shown, and how.
pub(crate) struct EventFilter {
    events: String,
    pub(crate) filter: Option<SubjectFilter>,
    asked: EventQuery,
    /// The first position, and the earliest time.
    from: (u64, Option<Timestamp>),
}

impl EventFilter {
    pub(crate) fn new(
        filter: Option<&str>,
        asked: &EventQuery,
        from: Option<EventsFrom>,
        settings: &Settings,
    ) -> Result<Self, CommandError> {
        let all = Subjects::events(&settings.subjects());
        let events = all.as_str().trim_end_matches('>').to_owned();
        let subjects = settings.subjects();
        let filter = filter.map(|text| subjects.event_filter(text));
        let filter = filter.transpose().map_err(CommandError::usage)?;
        let (kind, status) = (asked.kind.as_deref(), asked.status.as_deref());
        event_words::check_together(&subjects, filter.as_ref(), kind, status)?;
        let from = match from {
            Some(EventsFrom::Position(position)) => (position, None),
            Some(EventsFrom::Time(time)) => (0, Some(time)),
            Some(EventsFrom::New) | None => (0, None),
        };
        Ok(Self { events, filter, asked: asked.clone(), from })
    }

    fn subject(&self, summary: &EnvelopeSummary<'_>) -> String {
        let name = summary.name();
        let verb = name.split_once('.').map_or(name, |(_, verb)| verb);
        match summary.stream.parse::<StreamId>() {
            Ok(stream) => format!("{}{}.{}.{verb}", self.events, stream.category, stream.id),
            Err(_) => format!("{}{}.{verb}", self.events, summary.stream.replacen('-', ".", 1)),
        }
    }

    pub(crate) fn shows(&self, record: &RawRecord) -> bool {
        let (first, since) = self.from;
        if record.position < first {
            return false;
        }
        if self.filter.is_none() && since.is_none() && self.asked.is_nothing() {
            return true;
        }
        let Ok(summary) = serde_json::from_slice::<EnvelopeSummary<'_>>(&record.bytes) else {
            return false;
        };
        self.filter.as_ref().is_none_or(|filter| filter.matches(&self.subject(&summary)))
            && since.is_none_or(|since| summary.time >= since)
            && self.asked.holds(&summary)
    }

    pub(crate) fn print(&self, output: &mut Output, record: &RawRecord) -> std::io::Result<()> {
        if output.json {
            return output.line_of_bytes(&record.bytes);
        }
        let position = record.position;
        let Ok(summary) = serde_json::from_slice::<EnvelopeSummary<'_>>(&record.bytes) else {
            return output.line(&format!("{position:>8}  (cannot be read: `ai-factory verify`)"));
        };
        let what = match Recorded::decode(&record.bytes) {
            Ok(recorded) => narrate(&recorded.event),
            // Of a newer version: shown unchanged.
            Err(_) => short(summary.data.get(), DATA_CHARS_MAX),
        };
        let subject =
            output.painted(Colour::Dim, &short(&self.subject(&summary), usize::from(u8::MAX)));
        output.line(&format!("{position:>8}  {}  {subject}  {what}", summary.time))
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        envelope::{ChainHash, EventDraft, Trail, seal},
        id::{EventId, MemoryId},
        memory::MemoryRemembered,
    };
    use uuid::Uuid;

    use super::*;
    use crate::config;

    fn record() -> RawRecord {
        let draft = EventDraft {
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
        RawRecord { position: 1, bytes: json.into_bytes().into() }
    }

    #[test]
    fn a_filter_is_a_whole_subject_or_what_follows_the_prefix() {
        let settings = config::load(&config::SettingsSources::default()).unwrap().settings;
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
            let event_filter =
                EventFilter::new(filter, &EventQuery::default(), None, &settings).unwrap();
            assert_eq!(event_filter.shows(&record()), shown, "{filter:?}");
        }
        for none in ["memory..x", "memories.>", "factory.memory.>"] {
            assert!(
                EventFilter::new(Some(none), &EventQuery::default(), None, &settings).is_err(),
                "{none}"
            );
        }
    }

    #[test]
    fn what_is_asked_of_an_event_is_looked_up_in_it() {
        let settings = config::load(&config::SettingsSources::default()).unwrap().settings;
        let asked = |kind: Option<&str>, session: Option<&str>, status: Option<&str>| EventQuery {
            kind: kind.map(str::to_owned),
            session: session.map(str::to_owned),
            status: status.map(str::to_owned),
        };
        for (asked, from, shown) in [
            (asked(Some("memory"), None, None), None, true),
            (asked(Some("memory.remembered"), None, None), None, true),
            (asked(Some("run"), None, None), None, false),
            (asked(Some("run.finished"), None, None), None, false),
            (asked(None, Some("0000"), None), None, false),
            (asked(None, None, Some("success")), None, false),
            (EventQuery::default(), Some("1"), true),
            (EventQuery::default(), Some("2"), false),
            (EventQuery::default(), Some("1970-01-01"), true),
            (EventQuery::default(), Some("1970-01-02T00:00:00Z"), false),
        ] {
            let from = from.map(|from| from.parse::<EventsFrom>().unwrap());
            let event_filter = EventFilter::new(None, &asked, from, &settings).unwrap();
            assert_eq!(event_filter.shows(&record()), shown, "{asked:?} {from:?}");
        }
        assert_eq!("new".parse(), Ok(EventsFrom::New));
        assert!("yesterday".parse::<EventsFrom>().unwrap_err().contains("2026-11-25"));
    }

    #[test]
    fn a_status_is_that_of_the_event_or_of_the_end_that_it_tells() {
        for (data, expected) in [
            (r#"{"status":"error"}"#, Some("error")),
            (r#"{"end":{"status":"timeout"}}"#, Some("timeout")),
            (r#"{"status":"success","end":"completed"}"#, Some("success")),
            (r#"{"text":"x"}"#, None),
        ] {
            let data: &RawValue = serde_json::from_str(data).unwrap();
            assert_eq!(status(data).as_deref(), expected);
        }
    }
}
