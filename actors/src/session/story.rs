//! The story of a session, read from the journal alone.

use ai_factory_ports::{journal::Journal, views::Views};
use ai_factory_schemas::{
    answer::{
        Dispatched, GoalAnswer, SessionAnswer, SessionRow, SessionStory, Submitted, TimelineEntry,
    },
    envelope::Recorded,
    event::Event,
    id::{CallId, SessionId, StreamId},
    limit::CHANGED_FILES_MAX,
    problem::Problem,
    session::SessionEvent,
    time::Timestamp,
    workspace::FileChange,
};

use super::{
    aggregate::{self, StepStreams},
    check,
    state::{Session, StepState},
    waits,
};
use crate::{
    agent::{conversation::Conversation, perform, tools::finish},
    blobs,
    decider::Decider,
};

/// A session's stream, folded.
pub struct FoldedSession {
    /// The state.
    pub session: Session,
    /// The stream's version.
    pub version: u64,
    /// The records that were folded.
    pub recorded: Vec<Recorded>,
}

/// Loads and folds a session; `None` if there is no such stream.
pub async fn fold(journal: &dyn Journal, id: SessionId) -> Result<Option<FoldedSession>, Problem> {
    let stream = StreamId::from(id);
    let recorded = journal.load(stream, 0).await.map_err(Problem::from)?;
    let Some(last) = recorded.last() else { return Ok(None) };
    let version = last.version;
    let session = Session::fold(recorded.iter().filter_map(session_event))
        .map_err(|illegal| Problem::internal(format!("{stream}: {illegal}")))?;
    Ok(Some(FoldedSession { session, version, recorded }))
}

fn session_event(recorded: &Recorded) -> Option<&SessionEvent> {
    match &recorded.event {
        Event::Session(event) => Some(event),
        _ => None,
    }
}

/// What one step left to tell, complete.
pub struct StepOutput {
    /// The step.
    pub index: usize,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error; the reason, if it could not be run.
    pub stderr: String,
    /// Why none of its changes to the workspace was taken.
    pub refused: Option<String>,
}

/// The complete outputs of all steps, blobs included; for a step that could not be run the reason
/// as its stderr.
async fn outputs(journal: &dyn Journal, steps: &[StepState]) -> Result<Vec<StepOutput>, Problem> {
    let mut outputs = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match step {
            StepState::Finished(finished) => {
                let stdout = blobs::load_text(journal, &finished.stdout).await;
                let stderr = blobs::load_text(journal, &finished.stderr).await;
                let whole = |text: Result<String, _>| text.map_err(Problem::from);
                let (stdout, stderr) = (whole(stdout)?, whole(stderr)?);
                let refused = aggregate::refused(finished).map(str::to_owned);
                outputs.push(StepOutput { index, stdout, stderr, refused });
            }
            StepState::Failed(reason) => outputs.push(StepOutput {
                index,
                stdout: String::new(),
                stderr: reason.clone(),
                refused: None,
            }),
            _ => {}
        }
    }
    Ok(outputs)
}

fn result(outputs: &[StepOutput]) -> String {
    aggregate::result(outputs.iter().map(|it| StepStreams {
        index: it.index,
        stdout: &it.stdout,
        stderr: &it.stderr,
        refused: it.refused.as_deref(),
    }))
}

/// The answer of `supervisor.submit`, for a session that is in the journal.
pub async fn submitted(journal: &dyn Journal, id: SessionId) -> Result<Submitted, Problem> {
    let folded = fold(journal, id).await?;
    folded
        .and_then(|folded| folded.session.submitted(id))
        .ok_or_else(|| Problem::not_found(format!("there is no session {id}")))
}

/// The answer to a caller of `supervisor.run` or `supervisor.wait`, as the session is.
pub async fn goal_answer(journal: &dyn Journal, id: SessionId) -> Result<GoalAnswer, Problem> {
    let Some(folded) = fold(journal, id).await? else {
        return Err(Problem::not_found(format!("there is no session {id}")));
    };
    if folded.session.concluded().is_none() {
        return Ok(waits::pending(id, &folded.session));
    }
    let planned_at = planned_at(&folded.recorded);
    let answer = answer_of(journal, id, &folded.session, planned_at).await?;
    Ok(GoalAnswer::Concluded(Box::new(answer)))
}

/// The time of the plan's record; `None` for a session that ended without a plan.
pub fn planned_at(recorded: &[Recorded]) -> Option<Timestamp> {
    let planned = recorded.iter().find(|recorded| session_event(recorded).is_some_and(is_plan));
    planned.map(|recorded| recorded.time)
}

/// Whether the event carries the plan's time.
pub fn is_plan(event: &SessionEvent) -> bool {
    matches!(event, SessionEvent::Planned(_) | SessionEvent::Concluded(_))
}

/// The answer of `supervisor.run`, from a state already loaded.
pub async fn answer_of(
    journal: &dyn Journal,
    id: SessionId,
    session: &Session,
    planned_at: Option<Timestamp>,
) -> Result<SessionAnswer, Problem> {
    let (Some(opened), Some(concluded)) = (session.opened(), session.concluded()) else {
        return Err(Problem::conflict(format!("session {id} is not over")));
    };
    let Some(plan) = session.plan().cloned() else {
        let reason = concluded.reason.clone().unwrap_or_else(|| "it could not be planned".into());
        return Err(Problem::unavailable(format!("session {id} ended without a plan: {reason}")));
    };
    let changed = ChangedFiles::of(journal, session).await?;
    Ok(SessionAnswer {
        request_id: opened.request_id.clone(),
        goal: opened.goal.clone(),
        plan: Dispatched {
            request_id: opened.request_id.clone(),
            created_at: planned_at.unwrap_or_default(),
            plan,
        },
        context: session.recalled().iter().map(|item| item.text.clone()).collect(),
        result: result_of(journal, session).await?,
        status: concluded.status,
        session_id: id,
        summary: concluded.summary.clone(),
        end: concluded.end,
        reason: concluded.reason.clone(),
        check: session.last_check().map(check::outcome),
        changed_files: changed.files,
        changed_files_count: changed.count,
        model: session.model_use(),
    })
}

/// The result of a session that is over: the outputs of its steps, or what its model says.
async fn result_of(journal: &dyn Journal, session: &Session) -> Result<String, Problem> {
    match session.conversation() {
        None => Ok(result(&outputs(journal, session.steps()).await?)),
        Some(conversation) => told(journal, conversation).await,
    }
}

/// The text of the end that the model declared last; `no-op` if it declared none.
async fn told(journal: &dyn Journal, conversation: &Conversation) -> Result<String, Problem> {
    let Some(declared) = conversation.declared() else { return Ok("no-op".to_owned()) };
    Ok(finish::result_of(&perform::message(journal, declared.message.hash).await?))
}

/// What differs from the files that came in, as an answer names it.
#[derive(Default)]
struct ChangedFiles {
    /// The first [`CHANGED_FILES_MAX`]; `None` without a workspace.
    files: Option<Vec<FileChange>>,
    /// The number of all, if there are more.
    count: Option<u32>,
}

impl ChangedFiles {
    async fn of(journal: &dyn Journal, session: &Session) -> Result<Self, Problem> {
        let Some(workspace) = session.workspace() else { return Ok(Self::default()) };
        let tree = workspace.tree(journal).await.map_err(Problem::internal)?;
        let mut files = tree.changes();
        let all = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let count = (files.len() > CHANGED_FILES_MAX).then_some(all);
        files.truncate(CHANGED_FILES_MAX);
        Ok(Self { files: Some(files), count })
    }
}

/// A session's story and its sources.
pub struct NarratedSession {
    /// The answer of `supervisor.session`.
    pub story: SessionStory,
    /// The state at the end of the story.
    pub session: Session,
    /// The output of each step.
    pub outputs: Vec<StepOutput>,
    /// Every event of the session, of its runs and its calls, in journal order.
    pub records: Vec<Recorded>,
}

/// The complete story: the session's row, its plan and outputs, and every event of it and of its
/// runs.
pub async fn load(
    journal: &dyn Journal,
    views: &dyn Views,
    id: SessionId,
) -> Result<Option<NarratedSession>, Problem> {
    let Some(row) = views.session(id).await.map_err(Problem::from)? else {
        return Ok(None);
    };
    let Some(FoldedSession { session, recorded: mut records, .. }) = fold(journal, id).await?
    else {
        return Ok(None);
    };
    for run in views.runs_of_session(id).await.map_err(Problem::from)? {
        let run = journal.load(StreamId::from(run), 0).await;
        records.extend(run.map_err(Problem::from)?);
    }
    for call in call_ids(&records) {
        let call = journal.load(StreamId::from(call), 0).await;
        records.extend(call.map_err(Problem::from)?);
    }
    records.sort_by_key(|recorded| recorded.position);
    let outputs = outputs(journal, session.steps()).await?;
    let changed = ChangedFiles::of(journal, &session).await?;
    let story = SessionStory {
        row: SessionRow { status: session.phase(), ..row },
        submitted_by: session.opened().and_then(|opened| opened.submitted_by.clone()),
        plan: session.plan().cloned(),
        context: session.recalled().iter().map(|item| item.text.clone()).collect(),
        result: match session.conversation() {
            None => result(&outputs),
            Some(conversation) => told(journal, conversation).await?,
        },
        summary: session.concluded().map(|end| end.summary.clone()),
        reason: session.concluded().and_then(|end| end.reason.clone()),
        check: session.last_check().map(check::outcome),
        changed_files: changed.files,
        changed_files_count: changed.count,
        timeline: records.iter().map(entry).collect::<Result<_, _>>()?,
        model: session.model_use(),
        question: session.open_question(),
        waits_for: session.waits_for(id),
    };
    Ok(Some(NarratedSession { story, session, outputs, records }))
}

/// The calls that a session's stream names, in order.
pub fn call_ids(recorded: &[Recorded]) -> Vec<CallId> {
    let mut ids = Vec::new();
    for recorded in recorded {
        if let Some(SessionEvent::TurnDispatched(dispatched)) = session_event(recorded)
            && ids.last() != Some(&dispatched.call_id)
        {
            ids.push(dispatched.call_id);
        }
    }
    ids
}

fn entry(recorded: &Recorded) -> Result<TimelineEntry, Problem> {
    let data = recorded.event.data().and_then(|data| serde_json::from_str(&data));
    Ok(TimelineEntry {
        position: recorded.position,
        time: recorded.time,
        stream: recorded.stream.to_string(),
        event: recorded.event.name().to_owned(),
        data: data.map_err(|fault| Problem::internal(fault.to_string()))?,
    })
}
