//! `replay`: whether a session is decided again as it is recorded.

use std::path::PathBuf;

use ai_factory_actors::session::replay::{Divergence, Replayed, replay};
use ai_factory_schemas::{
    difference::first_difference,
    envelope::Recorded,
    event::Event,
    id::{Category, SessionId, StreamId},
    session::SessionEvent,
};
use clap::Args;
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
    #[arg(value_name = "ID", required_unless_present = "file", conflicts_with = "file")]
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
                events.iter().map(decoded).collect::<Result<_, _>>()?
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
