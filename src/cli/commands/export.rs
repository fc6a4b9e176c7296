//! `export`: a session as a recording.

use std::{
    collections::{HashMap, HashSet},
    fs::OpenOptions,
    io::{BufWriter, Write as _},
    path::PathBuf,
};

use ai_factory_schemas::{
    call::{CallEvent, CallRequest, CallRequested},
    chat::MessageRef,
    envelope::Recorded,
    event::Event,
    id::{CallId, SessionId, StreamId},
    session::SessionEvent,
    text::BlobHash,
};
use clap::Args;

use crate::{
    cli::{
        context::CommandContext,
        exit::{CommandError, Exit},
        output::Output,
        session_lookup,
    },
    model::{RecordedAnswer, RecordedCall, RecordingLine},
    wiring::Reader,
};

/// Write a session to a file: its events, the calls of its model, and every text in them.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory export 01a20529 session.jsonl
  ai-factory replay --file session.jsonl
  AI_FACTORY_MODEL=recording:session.jsonl ai-factory --data-dir ./again run 'the same goal'

The file has JSON lines. It holds what the session said to its model and what the model said: read \
it before you give it to somebody.")]
pub(crate) struct ExportArgs {
    /// The session: its id, its request's id (the newest session of several), its key, or the
    /// beginning of either id
    #[arg(value_name = "ID")]
    session: String,
    /// The file; it must not be there
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl ExportArgs {
    /// Writes the file.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let lines = context.read(output, async |reader, _, _| {
            let id = session_lookup::find_session(reader, &self.session).await?.session_id;
            lines(reader, id).await
        })?;
        let path = self.file.display();
        let unwritten =
            |error: std::io::Error| CommandError::failed(format_args!("{path}: {error}"));
        let file = OpenOptions::new().write(true).create_new(true).open(&self.file);
        let mut file = BufWriter::new(file.map_err(unwritten)?);
        for line in &lines {
            serde_json::to_writer(&mut file, line).map_err(|error| unwritten(error.into()))?;
            file.write_all(b"\n").map_err(unwritten)?;
        }
        file.flush().map_err(unwritten)?;
        output.note(&format!("{} lines in {path}", lines.len()));
        Ok(Exit::DONE)
    }
}

/// The lines of a session's recording: each event, each text before the first call that names it,
/// each answered call.
async fn lines(reader: &Reader, id: SessionId) -> Result<Vec<RecordingLine>, CommandError> {
    let records = reader.journal.load(StreamId::from(id), 0).await?;
    let mut lines = Vec::new();
    let mut calls = Vec::new();
    for recorded in &records {
        lines.push(event_line(reader, recorded).await?);
        if let Event::Session(SessionEvent::TurnDispatched(turn)) = &recorded.event
            && turn.attempt == 1
        {
            calls.push(turn.call_id);
        }
    }
    let mut written = WrittenTexts::default();
    for call in calls {
        written.call(reader, call, &mut lines).await?;
    }
    Ok(lines)
}

async fn event_line(reader: &Reader, recorded: &Recorded) -> Result<RecordingLine, CommandError> {
    let raw = reader.journal.read(recorded.position - 1, 1).await?;
    let bytes = raw.first().map(|record| record.bytes.clone()).unwrap_or_default();
    serde_json::from_slice(&bytes).map(RecordingLine::Event).map_err(|error| {
        CommandError::failed(format_args!("record {}: {error}", recorded.position))
    })
}

/// What the lines have so far.
#[derive(Default)]
struct WrittenTexts {
    texts: HashSet<BlobHash>,
    /// The messages of each request.
    messages: HashMap<CallId, Vec<MessageRef>>,
}

impl WrittenTexts {
    /// Adds the events of a call, and the call with its texts if it was answered.
    async fn call(
        &mut self,
        reader: &Reader,
        id: CallId,
        lines: &mut Vec<RecordingLine>,
    ) -> Result<(), CommandError> {
        let mut request = None;
        for recorded in reader.journal.load(StreamId::from(id), 0).await? {
            lines.push(event_line(reader, &recorded).await?);
            match recorded.event {
                Event::Call(CallEvent::Requested(requested)) => {
                    request = Some(self.request(id, requested)?);
                }
                Event::Call(CallEvent::Answered(answered)) => {
                    let Some(request) = request.take() else { continue };
                    let texts = request.messages.iter().map(|message| message.hash);
                    let texts = texts.chain(request.tools).chain(request.schema);
                    for text in texts.chain([answered.message.hash]) {
                        self.text(reader, text, lines).await?;
                    }
                    let answer = RecordedAnswer {
                        message: answered.message.hash,
                        stop: answered.stop,
                        usage: answered.usage,
                        answered_by: answered.answered_by,
                        provider_id: answered.provider_id,
                    };
                    lines.push(RecordingLine::Call(Box::new(RecordedCall { request, answer })));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The whole request, from what it adds to its predecessor.
    fn request(
        &mut self,
        id: CallId,
        requested: CallRequested,
    ) -> Result<CallRequest, CommandError> {
        let CallRequested { endpoint, parameters, predecessor, kept, appended, .. } = requested;
        let before = predecessor.and_then(|before| self.messages.get(&before));
        let kept = before.map_or(&[][..], |all| &all[..all.len().min(kept as usize)]);
        let messages = [kept, &appended].concat();
        let (tools, schema) = (requested.tools, requested.schema);
        let request = CallRequest { model: endpoint.model, parameters, tools, schema, messages };
        if request.hash() != requested.request {
            return Err(CommandError::failed(format_args!(
                "the call {id} does not have the request that it names: `ai-factory verify` checks \
                 the journal"
            )));
        }
        self.messages.insert(id, request.messages.clone());
        Ok(request)
    }

    async fn text(
        &mut self,
        reader: &Reader,
        hash: BlobHash,
        lines: &mut Vec<RecordingLine>,
    ) -> Result<(), CommandError> {
        if !self.texts.insert(hash) {
            return Ok(());
        }
        let bytes = reader.journal.blob(hash).await?.ok_or_else(|| {
            CommandError::failed(format_args!(
                "the text {hash} is missing: `ai-factory verify` checks the journal"
            ))
        })?;
        lines.push(RecordingLine::Blob(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(())
    }
}
