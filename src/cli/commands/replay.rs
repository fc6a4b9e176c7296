//! `replay`: whether a session is decided again as it is recorded.

use std::path::PathBuf;

use ai_factory_actors::{
    decider::Decider as _,
    session::{
        replay::{Divergence, Replayed, replay},
        state::Session,
    },
};
use ai_factory_schemas::{
    difference::first_difference,
    envelope::Recorded,
    event::Event,
    id::{Category, SessionId, StreamId},
    session::{SessionEvent, SessionPhase},
};
use clap::{ArgGroup, Args};
use serde_json::json;

use crate::{
    cli::{
        context::CommandContext,
        exit::{CommandError, Exit},
        output::Output,
        session_lookup,
    },
    model,
};

/// Decide a recorded session again, without a model, a program, or a network.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("recorded").required(true).args(["session", "file"])))]
#[command(after_help = "\
Examples:
  ai-factory replay 01a20529
  ai-factory replay --file session.jsonl

What a session was given (answers of the model, results of tools and runs, words of people, prompts, \
memories) is read from the record; what it decided is decided again and compared. The exit code is \
1 if something is decided otherwise.")]
pub(crate) struct ReplayArgs {
    /// The session: its id, its request's id (the newest session of several), its key, or the
    /// beginning of either id
    #[arg(value_name = "ID")]
    session: Option<String>,
    /// A file that `ai-factory export` wrote
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ReplayArgs {
    /// Prints how many events are decided as recorded, or the first that is not.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let records = match (&self.file, &self.session) {
            (Some(file), _) => {
                let events = model::recorded_events(file).map_err(CommandError::usage)?;
                let records = events.iter().map(decoded).collect::<Result<Vec<_>, _>>()?;
                check_whole(&records)?;
                records
            }
            (None, name) => {
                let name = name.as_deref().unwrap_or_default();
                context.read(output, async |reader, _, _| {
                    let id = session_lookup::find_session(reader, name).await?.session_id;
                    Ok(reader.journal.load(StreamId::from(id), 0).await?)
                })?
            }
        };
        let (id, events) = session_of(records)?;
        let replayed = replay(id, &events);
        if output.json {
            output.json(&told(id, &replayed))?;
        }
        match replayed {
            Ok(Replayed { events, inputs }) => {
                if !output.json {
                    output.line(&format!(
                        "session {id}: {inputs} inputs lead to the same {events} events"
                    ))?;
                }
                Ok(Exit::DONE)
            }
            Err(divergence) => Err(CommandError::failed(sentence(id, &divergence))),
        }
    }
}

fn decoded(event: &serde_json::Value) -> Result<Recorded, CommandError> {
    Recorded::decode(event.to_string().as_bytes())
        .map_err(|error| CommandError::usage(format_args!("an event of the file: {error}")))
}

/// Refuses a session of which a part is missing: an event between others, or the end that must
/// follow.
fn check_whole(records: &[Recorded]) -> Result<(), CommandError> {
    let of_session = |recorded: &&Recorded| recorded.stream.category == Category::Session;
    let Some(stream) = records.iter().find(of_session).map(|first| first.stream) else {
        return Ok(());
    };
    let of_session = records.iter().filter(|recorded| recorded.stream == stream);
    let of_session: Vec<_> = of_session.collect();
    let again = "a part of the session is missing: export it again";
    if let Some((expected, found)) =
        (1..).zip(&of_session).find(|(expected, found)| found.version != *expected)
    {
        return Err(CommandError::usage(format_args!(
            "the file has event {} of session {} where event {expected} belongs: {again}",
            found.version, found.stream.id
        )));
    }
    let events = of_session.iter().filter_map(|recorded| match &recorded.event {
        Event::Session(event) => Some(event),
        _ => None,
    });
    // A history that is none is told by the replay.
    let Ok(session) = Session::fold(events) else { return Ok(()) };
    match of_session.last() {
        Some(last) if session.phase() == SessionPhase::Running => {
            Err(CommandError::usage(format_args!(
                "the file ends with event {}, `{}`, and the session neither ended nor waits there: {again}, \
                 when it is over",
                last.version,
                last.event.name()
            )))
        }
        _ => Ok(()),
    }
}

/// The session of these records, and its events.
fn session_of(records: Vec<Recorded>) -> Result<(SessionId, Vec<SessionEvent>), CommandError> {
    let of_session = |recorded: &&Recorded| recorded.stream.category == Category::Session;
    let Some(id) = records.iter().find(of_session).map(|first| SessionId(first.stream.id)) else {
        return Err(CommandError::usage(
            "there is no session to replay: export one with its events",
        ));
    };
    let events = records.into_iter().filter(|recorded| recorded.stream == StreamId::from(id));
    let events = events.filter_map(|recorded| match recorded.event {
        Event::Session(event) => Some(event),
        _ => None,
    });
    Ok((id, events.collect()))
}

fn told(id: SessionId, replayed: &Result<Replayed, Box<Divergence>>) -> serde_json::Value {
    match replayed {
        Ok(Replayed { events, inputs }) => {
            json!({ "session_id": id, "equal": true, "events": events, "inputs": inputs })
        }
        Err(divergence) => {
            let Divergence { version, name, recorded, decided } = &**divergence;
            let path = first_difference(recorded, decided).map(|difference| difference.path);
            json!({
                "session_id": id, "equal": false, "version": version, "event": name,
                "path": path, "recorded": recorded, "decided": decided,
            })
        }
    }
}

fn sentence(id: SessionId, divergence: &Divergence) -> String {
    let difference = first_difference(&divergence.recorded, &divergence.decided);
    let place = difference.map_or_else(String::new, |it| {
        format!(": at {} it has {}, and {} is decided", it.path, it.before, it.after)
    });
    format!("session {id}: {divergence}{place}")
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        envelope::{ChainHash, Trail},
        id::EventId,
        plan::TaskType,
        session::{SessionConcluded, SessionEnd, SessionOpened, SessionStatus},
        time::Timestamp,
    };
    use clap::Parser;
    use uuid::Uuid;

    use super::*;
    use crate::cli::exit::Exit;

    #[derive(Debug, Parser)]
    struct ReplayLine {
        #[command(flatten)]
        _replay: ReplayArgs,
    }

    fn recorded(version: u64, event: SessionEvent) -> Recorded {
        Recorded {
            position: version,
            stream: SessionId(Uuid::from_u128(1)).into(),
            version,
            id: EventId(Uuid::nil()),
            time: Timestamp::default(),
            event: event.into(),
            trail: Trail::default(),
            hash: ChainHash([0; 32]),
        }
    }

    fn opened() -> SessionEvent {
        SessionEvent::Opened(SessionOpened {
            request_id: Uuid::nil().into(),
            goal: "Greet".to_owned(),
            task_type: TaskType::General,
            submitted_by: None,
            workspace: None,
            check: None,
            protect: Vec::new(),
            model: None,
        })
    }

    fn concluded() -> SessionEvent {
        SessionEvent::Concluded(SessionConcluded {
            end: SessionEnd::Cancelled,
            reason: None,
            status: SessionStatus::Error,
            summary: String::new(),
        })
    }

    #[test]
    fn a_file_without_an_event_or_without_the_end_is_refused() {
        let whole = [recorded(1, opened()), recorded(2, concluded())];
        assert_eq!(check_whole(&whole), Ok(()));
        assert_eq!(check_whole(&[]), Ok(()));
        let gap = [recorded(1, opened()), recorded(3, concluded())];
        let headless = [recorded(2, concluded())];
        for (missing, part) in
            [(&whole[..1], "ends with event 1"), (&gap, "event 3"), (&headless, "event 1 belongs")]
        {
            let Err(CommandError::Said { sentence, exit: Exit::USAGE }) = check_whole(missing)
            else {
                panic!("{part}");
            };
            assert!(sentence.contains(part) && sentence.contains("export it again"), "{sentence}");
        }
    }

    #[test]
    fn without_arguments_both_ways_to_name_a_session_are_told() {
        let told = ReplayLine::try_parse_from(["replay"]).unwrap_err().to_string();
        assert!(told.contains("ID") && told.contains("--file"), "{told}");
        assert!(ReplayLine::try_parse_from(["replay", "x", "--file", "y"]).is_err());
        assert!(ReplayLine::try_parse_from(["replay", "--file", "y"]).is_ok());
    }
}
