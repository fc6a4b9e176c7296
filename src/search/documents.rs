//! Memories: the documents that events produce in the search index.
//!
//! A plan, an ended run, an ended session and a note are one document each. Some combine several
//! events of one stream: earlier events are kept while they are fresh, and loaded again if they are
//! not. So a document depends on its stream only, never on when the index was built (I-8).

use std::{collections::BTreeMap, sync::Arc};

use ai_factory_fold::{Mark, read_events};
use ai_factory_ports::journal::{Journal, ReadError};
use ai_factory_schemas::{
    check::CheckMoment,
    envelope::Recorded,
    event::Event,
    id::{RequestId, SessionId, StreamId},
    limit::DOCUMENT_BYTES_MAX,
    memory::{MemoryEvent, MemoryKind, MemoryRemembered},
    plan::{PlanEvent, PlanProposed},
    run::{RunEvent, RunFinished},
    session::{SessionConcluded, SessionEvent},
    text::Text,
    time::Timestamp,
};

use super::tokens::{Token, tokens};

/// One memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Id of the event that completed it.
    pub id: String,
    /// Position of that event.
    pub position: u64,
    /// Kind of memory.
    pub kind: MemoryKind,
    /// Time of completion.
    pub time: Timestamp,
    /// The request that it belongs to.
    pub request_id: RequestId,
    /// The session that it belongs to, if any.
    pub session: Option<SessionId>,
    /// The text that is searched and shown, at most [`DOCUMENT_BYTES_MAX`] bytes.
    pub text: String,
    /// Searched, not shown.
    pub tags: Vec<String>,
    /// Identity of the whole text before it was cut, to recognise identical queries.
    pub identity: u64,
}

/// A hash that is equal for texts which are identical except for surrounding white space.
pub(crate) fn identity(text: &str) -> u64 {
    let hash = blake3::hash(text.trim().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

impl Document {
    fn new(event: &Recorded, kind: MemoryKind, request_id: &RequestId, text: &str) -> Self {
        Self {
            // The id of the stream: one document per stream.
            id: event.stream.id.to_string(),
            position: event.position,
            kind,
            time: event.time,
            request_id: request_id.clone(),
            session: None,
            text: cut(text, DOCUMENT_BYTES_MAX).to_owned(),
            tags: Vec::new(),
            identity: identity(text),
        }
    }

    /// A note for tests.
    #[cfg(test)]
    pub(super) fn sample(position: u64, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            id: format!("memory {position}"),
            position,
            kind: MemoryKind::Note,
            time: Timestamp::default(),
            request_id: RequestId::from(uuid::Uuid::nil()),
            session: None,
            text: text.into(),
            tags: Vec::new(),
            identity: position,
        })
    }

    /// Its tokens. Phrases do not reach from one part into another.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        /// Places between the tokens of two parts.
        const GAP: usize = 16;
        let mut words = tokens(&self.text);
        for tag in &self.tags {
            let first = words.last().map_or(0, |last| last.place + GAP);
            words.extend(tokens(tag).into_iter().map(|token| {
                let place = token.place + first;
                Token { place, ..token }
            }));
        }
        words
    }

    /// Approximate memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.tags.iter().map(String::len).sum::<usize>()
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Limit of a goal or program in a document, in bytes: leaves room for its outcome.
const ASKED_BYTES_MAX: usize = DOCUMENT_BYTES_MAX / 2;
/// Limit of one output of a step or run in a document, in bytes.
const OUTPUT_BYTES_MAX: usize = DOCUMENT_BYTES_MAX / 4;
/// Limit of what is kept of unfinished streams, in bytes. Beyond it all of it is dropped and loaded
/// again when needed.
const PARTS_BYTES_MAX: usize = 1024 * 1024;

/// Contents of an unfinished stream so far.
#[derive(Clone, Debug, Default)]
struct PartialDocument {
    /// Version of the last event that is contained.
    version: u64,
    request_id: Option<RequestId>,
    session: Option<SessionId>,
    asked: String,
    output: String,
}

impl PartialDocument {
    fn add(&mut self, event: &Recorded) {
        self.version = event.version;
        match &event.event {
            Event::Run(RunEvent::Requested(run)) => {
                self.request_id = Some(run.request_id.clone());
                self.session = run.session_id;
                self.asked = format!("{}: {}", run.language, cut(&run.code, ASKED_BYTES_MAX));
            }
            Event::Session(SessionEvent::Opened(session)) => {
                self.request_id = Some(session.request_id.clone());
                self.session = Some(SessionId(event.stream.id));
                cut(&session.goal, ASKED_BYTES_MAX).clone_into(&mut self.asked);
            }
            Event::Session(SessionEvent::StepFinished(step)) => {
                let step_prefix = format!("[step {}] ", step.step);
                self.output(&format!("{step_prefix}stdout:"), &step.stdout);
                self.output(&format!("{step_prefix}stderr:"), &step.stderr);
            }
            Event::Session(SessionEvent::CheckFinished(check)) => {
                let moment = match check.moment {
                    CheckMoment::Before => "before",
                    CheckMoment::After => "after",
                };
                self.output(&format!("[check {moment}] stdout:"), &check.stdout);
                self.output(&format!("[check {moment}] stderr:"), &check.stderr);
            }
            _ => {}
        }
    }

    fn output(&mut self, name: &str, text: &Text) {
        if !text.is_empty() && self.output.len() < DOCUMENT_BYTES_MAX {
            let text = cut(text.head(), OUTPUT_BYTES_MAX).trim_end();
            for part in ["\n", name, "\n", text] {
                self.output.push_str(part);
            }
        }
    }

    fn document(&self, event: &Recorded, kind: MemoryKind, status: &str) -> Document {
        let text = format!("{}\nstatus: {status}{}", self.asked, self.output);
        let nobody = RequestId::from(event.stream.id);
        let request_id = self.request_id.as_ref().unwrap_or(&nobody);
        Document { session: self.session, ..Document::new(event, kind, request_id, &text) }
    }

    fn bytes(&self) -> usize {
        self.asked.len() + self.output.len() + size_of::<Self>()
    }
}

/// Changes of a batch of events to the index.
#[derive(Debug, Default)]
pub struct IndexChanges {
    /// New memories, in order.
    pub(crate) documents: Vec<Arc<Document>>,
    /// Positions of forgotten memories. Each is older than the event that forgets it.
    pub(crate) forgotten: Vec<u64>,
    /// Every memory up to this position is forgotten.
    pub(crate) expired: u64,
}

impl IndexChanges {
    /// Whether a memory is forgotten.
    pub fn is_forgetting(&self) -> bool {
        self.expired > 0 || !self.forgotten.is_empty()
    }

    /// Adds the change of one event.
    pub fn add(&mut self, change: IndexChange) {
        match change {
            IndexChange::Nothing => {}
            IndexChange::New(document) => self.documents.push(Arc::new(*document)),
            IndexChange::Forgotten(position) => self.forgotten.push(position),
            IndexChange::Expired(upto) => self.expired = self.expired.max(upto),
        }
    }
}

/// Change of one event to the index.
#[derive(Debug)]
pub enum IndexChange {
    /// No change.
    Nothing,
    /// A new memory.
    New(Box<Document>),
    /// The memory at this position is forgotten.
    Forgotten(u64),
    /// Every memory up to this position is forgotten.
    Expired(u64),
}

/// Derives documents from events.
#[derive(Default)]
pub struct DocumentBuilder {
    parts: BTreeMap<StreamId, PartialDocument>,
    bytes: usize,
}

impl DocumentBuilder {
    /// The change of `event`. Events come in journal order.
    pub async fn derive(
        &mut self,
        event: &Recorded,
        journal: &dyn Journal,
    ) -> Result<IndexChange, ReadError> {
        let document = match &event.event {
            Event::Plan(PlanEvent::Proposed(plan)) => of_plan(event, plan),
            Event::Memory(MemoryEvent::Remembered(note)) => of_note(event, note),
            Event::Memory(MemoryEvent::Forgotten(forgotten)) => {
                return Ok(IndexChange::Forgotten(forgotten.position));
            }
            Event::Memory(MemoryEvent::Expired(expired)) => {
                return Ok(IndexChange::Expired(expired.upto));
            }
            Event::Run(RunEvent::Finished(run)) => {
                of_run(event, self.finish(event, journal).await?, run)
            }
            Event::Session(SessionEvent::Concluded(session)) => {
                of_session(event, &self.finish(event, journal).await?, session)
            }
            Event::Run(RunEvent::Abandoned(_)) => {
                self.remove(event.stream);
                return Ok(IndexChange::Nothing);
            }
            Event::Goal(_) | Event::Call(_) => return Ok(IndexChange::Nothing),
            Event::Run(_) | Event::Session(_) => {
                self.keep(event);
                return Ok(IndexChange::Nothing);
            }
        };
        Ok(IndexChange::New(Box::new(document)))
    }

    /// The changes of a batch of events behind `from`, none behind `upto`, and the mark up to which
    /// they go.
    pub(super) async fn changes(
        &mut self,
        journal: &dyn Journal,
        from: Mark,
        upto: u64,
    ) -> Result<(IndexChanges, Mark), ReadError> {
        let (mut changes, mut last) = (IndexChanges::default(), from);
        let missing = upto.saturating_sub(from.position);
        for event in read_events(journal, from.position, missing).await? {
            changes.add(self.derive(&event, journal).await?);
            last = Mark { position: event.position, hash: event.hash };
        }
        Ok((changes, last))
    }

    fn keep(&mut self, event: &Recorded) {
        let mut part = match self.remove(event.stream) {
            Some(part) if part.version + 1 == event.version => part,
            _ if event.version == 1 => PartialDocument::default(),
            // The stream's beginning was not seen here: it is loaded when the stream is finished.
            _ => return,
        };
        part.add(event);
        if self.bytes + part.bytes() > PARTS_BYTES_MAX {
            self.parts.clear();
            self.bytes = 0;
        }
        self.bytes += part.bytes();
        self.parts.insert(event.stream, part);
    }

    fn remove(&mut self, stream: StreamId) -> Option<PartialDocument> {
        let part = self.parts.remove(&stream)?;
        self.bytes = self.bytes.saturating_sub(part.bytes());
        Some(part)
    }

    async fn finish(
        &mut self,
        event: &Recorded,
        journal: &dyn Journal,
    ) -> Result<PartialDocument, ReadError> {
        if let Some(part) = self.remove(event.stream)
            && part.version + 1 == event.version
        {
            return Ok(part);
        }
        let mut part = PartialDocument::default();
        for earlier in journal.load(event.stream, 0).await? {
            if earlier.version < event.version {
                part.add(&earlier);
            }
        }
        Ok(part)
    }
}

fn of_plan(event: &Recorded, proposed: &PlanProposed) -> Document {
    let mut text = cut(&proposed.prompt, ASKED_BYTES_MAX).to_owned();
    for step in &proposed.plan.steps {
        text.push_str("\n- ");
        text.push_str(&step.action);
    }
    Document::new(event, MemoryKind::Dispatch, &proposed.request_id, &text)
}

fn of_note(event: &Recorded, note: &MemoryRemembered) -> Document {
    let document = Document::new(event, MemoryKind::Note, &note.request_id, &note.text);
    Document { tags: note.tags.clone(), ..document }
}

fn of_run(event: &Recorded, mut part: PartialDocument, finished: &RunFinished) -> Document {
    let end = &finished.end;
    part.output("stdout:", &end.stdout);
    part.output("stderr:", &end.stderr);
    part.document(event, MemoryKind::Run, end.status.as_str())
}

fn of_session(event: &Recorded, part: &PartialDocument, concluded: &SessionConcluded) -> Document {
    part.document(event, MemoryKind::Session, concluded.status.as_str())
}
