//! One prompt, from its arrival to the empty final message of its reply (§6).

use std::time::Duration;

use ai_factory_ports::{
    bus::{Headers, Message, PublishError, RequestError, header},
    ingress, request_reply, retry_after,
};
use ai_factory_schemas::{
    answer::{GoalAnswer, SessionAnswer, SessionStatusAnswer, Submitted},
    event::Event,
    id::{CommandId, SessionId, StreamId},
    problem::Problem,
    request::{AnswerQuestion, Goal, Resolve, SessionSelector},
    session::{Ingress, SessionEnd, SessionEvent, SessionPhase},
    subject::{Operation, Subject, operation},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    chunk::{self, StatusDetails},
    envelope,
    question::{self, CallerDecision, CallerQuestion},
    refusal,
    sender::{Sender, classify},
    state::AgentState,
};

/// The keep-alive status of a stream.
const WORKING: &str = "working";
/// The largest response chunk, in bytes, even if the server accepts larger ones.
const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The header with the sender's identity (§13.5).
const AGENT_SENDER: &str = "Agent-Sender";
/// Time for a caller to subscribe again.
const CALLER_BACK_MAX: Duration = Duration::from_secs(30);
/// Interval of checks whether it has.
const CALLER_LOOK_PERIOD: Duration = Duration::from_millis(250);
/// Timeout for the server's "no responders" reply.
const HEARD_MAX: Duration = Duration::from_secs(1);

/// The status of a request that conflicts with the session's state.
const CONFLICT: u16 = 409;

/// The caller was unreachable for a while and may have missed something: the stream ends, the
/// session continues.
struct CallerLost;

/// Events that a stream waits for after it has sent everything.
enum PromptSignal {
    /// A new event of its session.
    Recorded,
    /// The caller's answer; `None` if it is unclear.
    Answer(Option<CallerDecision>),
    /// Silence for too long.
    Nothing,
}

/// Why a stream ends before its result.
enum PromptError {
    Refused(Problem),
    Lost,
}

impl From<Problem> for PromptError {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<CallerLost> for PromptError {
    fn from(CallerLost: CallerLost) -> Self {
        Self::Lost
    }
}

/// One prompt in progress.
pub struct Prompt<'a> {
    state: &'a AgentState,
    /// The subject of the stream; a prompt without one is handled all the same.
    reply: Option<Subject>,
    /// Shows whether the connection is still the one over which the prompt came.
    connections: watch::Receiver<u64>,
    /// Whether a message could not be sent.
    is_broken: bool,
}

impl<'a> Prompt<'a> {
    /// Takes a received prompt.
    pub fn new(state: &'a AgentState, request: &Message) -> Self {
        let mut connections = state.connections.clone();
        connections.mark_unchanged();
        Self { state, reply: request.reply.clone(), connections, is_broken: false }
    }

    /// Answers it. Returns the problem if it was refused.
    pub async fn answer(&mut self, request: Message) -> Option<Problem> {
        let refused = match self.stream(request).await {
            Ok(()) => None,
            Err(PromptError::Refused(problem)) => Some(problem),
            Err(PromptError::Lost) => {
                self.is_broken = true;
                return None;
            }
        };
        self.is_broken = self.end(refused.as_ref()).await.is_err();
        refused
    }

    /// Waits until the server has the whole reply; tells the caller if part of it may be lost.
    pub async fn finish(&self) {
        let Some(reply) = &self.reply else { return };
        let is_there = !self.is_broken && self.state.outside.publish_all(Vec::new()).await.is_ok();
        if !is_there || self.ensure_connected().is_err() {
            self.report_loss(reply).await;
        }
    }

    /// Ends the stream, unless part of it may be missing. §9.3: an error precedes the final
    /// message, which is always the same (§6.5).
    async fn end(&self, refused: Option<&Problem>) -> Result<(), CallerLost> {
        let Some(reply) = &self.reply else { return Ok(()) };
        self.ensure_connected()?;
        if let Some(problem) = refused {
            self.send(refusal::message(reply.clone(), problem)).await?;
        }
        self.send(Message::new(reply.clone(), Bytes::new())).await
    }

    /// Fails if the connection was lost since the prompt came: messages sent meanwhile may be lost.
    fn ensure_connected(&self) -> Result<(), CallerLost> {
        if self.connections.has_changed().unwrap_or(true) { Err(CallerLost) } else { Ok(()) }
    }

    /// Tells the caller that its stream broke off, once there is a connection and the caller
    /// listens again (it may have lost its own). Gives up if the caller does not return in time.
    async fn report_loss(&self, reply: &Subject) {
        let problem = Problem::busy(
            "the connection to the NATS server was lost and part of this reply may be missing; \
             the session continues: prompt again with the same `Nats-Msg-Id`",
            retry_after::CONNECTION,
        );
        let error = refusal::message(reply.clone(), &problem);
        let ended = &self.state.ended;
        let telling = async {
            self.send_until_received(&error).await;
            let _ = self.state.outside.publish(Message::new(reply.clone(), Bytes::new())).await;
        };
        tokio::select! {
            () = ended.cancelled() => {}
            () = telling => {}
        }
    }

    /// Repeats a message until somebody receives it: as long as there is no connection, and for
    /// `CALLER_BACK_MAX` after that.
    async fn send_until_received(&self, message: &Message) {
        let mut until = None;
        loop {
            // Nobody replies: the request's error shows whether there was a subscriber.
            match self.state.outside.request(message.clone(), HEARD_MAX).await {
                Err(RequestError::NoResponders(_)) => {
                    if Instant::now()
                        > *until.get_or_insert_with(|| Instant::now() + CALLER_BACK_MAX)
                    {
                        return;
                    }
                }
                Err(RequestError::Publish(PublishError::Broken(_))) => {}
                _ => return,
            }
            sleep(CALLER_LOOK_PERIOD).await;
        }
    }

    /// The stream, up to its result.
    async fn stream(&self, request: Message) -> Result<(), PromptError> {
        let Ok(_permit) = self.state.prompt_permits.try_acquire() else {
            let sentence = format!("{} prompts are under way: try again", self.state.prompts_max);
            return Err(Problem::busy(sentence, retry_after::SESSION).into());
        };
        let goal = Goal { ask: self.state.may_ask, ..envelope::read(&request.payload)? };
        let sender = classify(
            request.headers.get(AGENT_SENDER),
            (request.subject.as_str(), &request.payload),
            self.state.clock.now(),
            &self.state.nonces,
        )?;
        let headers = self.headers(&request.headers, sender)?;
        // §6.4: the first message, before any work.
        self.send_chunk(chunk::status("ack", StatusDetails::default())).await?;
        let submitted: Submitted =
            self.ask(operation::SUPERVISOR_SUBMIT, &goal, &headers, self.state.submit_max).await?;
        if self.reply.is_none() {
            return Ok(());
        }
        self.follow(submitted.session_id).await?;
        // The session is over: its answer is available under its key.
        let answer: SessionAnswer =
            self.ask(operation::SUPERVISOR_RUN, &goal, &headers, self.state.submit_max).await?;
        let bytes_max = (self.state.message_bytes_max)().min(CHUNK_BYTES_MAX);
        for piece in chunk::responses(&answer.result, bytes_max) {
            self.send_chunk(piece).await?;
        }
        let reason = |else_: &str| answer.reason.clone().unwrap_or_else(|| else_.to_owned());
        match answer.end {
            SessionEnd::Completed => Ok(()),
            SessionEnd::Cancelled => Err(Problem::conflict(reason("cancelled")).into()),
            SessionEnd::Expired => Err(Problem::timed_out(reason("its deadline passed")).into()),
            SessionEnd::Failed => Err(Problem::internal(reason("it could not continue")).into()),
        }
    }

    /// The headers of the inside request. The key is the caller's, or a new one: the answer is
    /// fetched by it.
    fn headers(&self, given: &Headers, sender: Sender) -> Result<Headers, Problem> {
        let key = match given.get(header::MESSAGE_ID).map(str::parse::<CommandId>) {
            None => CommandId::from(self.state.ids.new_id()),
            Some(Ok(key)) => key,
            Some(Err(fault)) => {
                return Err(Problem::bad_request(format!("`{}`: {fault}", header::MESSAGE_ID)));
            }
        };
        let mut headers = ingress::of_message(Ingress::Agent, given);
        headers.set(header::MESSAGE_ID, key.as_str());
        if let Some(name) = sender.claims_to_be {
            headers.set(header::SUBMITTER, name);
        }
        if let Some(id) = sender.proven_to_be {
            headers.set(header::PROVEN, id);
        }
        Ok(headers)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &(impl Serialize + Sync),
        headers: &Headers,
        wait: Duration,
    ) -> Result<T, Problem> {
        let AgentState { inside, subjects, .. } = self.state;
        request_reply::call(&**inside, subjects, operation, body, headers.clone(), wait).await
    }

    /// Sends each event of the session as a status, until the session is over.
    async fn follow(&self, id: SessionId) -> Result<(), PromptError> {
        let stream = StreamId::from(id);
        let mut watchers = self.state.watchers.of(stream);
        let ended = &self.state.ended;
        let mut connections = self.connections.clone();
        let (mut version, mut issue, mut question) = (0, None, None);
        let mut has_model = false;
        loop {
            let recorded = self.state.journal.load(stream, version).await;
            for recorded in recorded.map_err(|error| Problem::unavailable(error.to_string()))? {
                version = recorded.version;
                let Event::Session(event) = &recorded.event else { continue };
                let about = StatusDetails {
                    session_id: (version == 1).then_some(id),
                    position: Some(recorded.position),
                    ..about(event)
                };
                self.send_chunk(chunk::status(recorded.event.name(), about)).await?;
                if matches!(event, SessionEvent::Concluded(_)) {
                    return Ok(());
                }
                if let SessionEvent::Opened(opened) = event {
                    has_model = opened.model.is_some();
                }
                issue = question::open_issue(issue, event);
            }
            question = CallerQuestion::of(question, id, issue.as_ref(), self.state.question_max);
            if let Some(question) = &mut question
                && let Some(chunk) = question.ask(self.state).await?
            {
                self.send_chunk(chunk).await?;
            }
            let came = tokio::select! {
                () = ended.cancelled() => {
                    return Err(Problem::busy(
                        "the factory is shutting down; the session continues at its next start: \
                         prompt again with the same `Nats-Msg-Id`",
                        retry_after::RESTART,
                    ).into());
                }
                _ = connections.changed() => return Err(PromptError::Lost),
                decided = CallerQuestion::wait_for_decision(&mut question) => PromptSignal::Answer(decided?),
                heard = timeout(self.state.silence_max, watchers.next()) => match heard {
                    Ok(()) => PromptSignal::Recorded,
                    Err(_) => PromptSignal::Nothing,
                },
            };
            match came {
                PromptSignal::Answer(Some(decided)) => self.decide(id, decided).await?,
                PromptSignal::Nothing => {
                    let waits = if has_model { self.waits_for(id).await } else { None };
                    let word = waits.map_or(WORKING, SessionPhase::as_str);
                    self.send_chunk(chunk::status(word, StatusDetails::default())).await?;
                }
                PromptSignal::Answer(None) | PromptSignal::Recorded => {}
            }
        }
    }

    /// Applies the caller's decision. If another decision came first, the session's next events
    /// show it.
    async fn decide(&self, id: SessionId, decided: CallerDecision) -> Result<(), Problem> {
        let (headers, limit) = (Headers::default(), self.state.submit_max);
        let decided = match decided {
            CallerDecision::Step(resolution) => {
                let body = Resolve { id: id.into(), resolution };
                self.ask(operation::SUPERVISOR_RESOLVE, &body, &headers, limit).await
            }
            CallerDecision::Answer(question, answer) => {
                let question_id = Some(question);
                let body = AnswerQuestion { id: id.into(), question_id, answer };
                self.ask(operation::SUPERVISOR_ANSWER, &body, &headers, limit).await
            }
        };
        match decided {
            Ok(SessionStatusAnswer { .. }) => Ok(()),
            Err(problem) if problem.status == CONFLICT => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// What a session with a model waits for, if it waits.
    async fn waits_for(&self, id: SessionId) -> Option<SessionPhase> {
        let mut headers = Headers::default();
        headers.set(header::ANSWER_WITHIN, "1");
        let (which, limit) = (SessionSelector::id(id), self.state.submit_max);
        match self.ask(operation::SUPERVISOR_WAIT, &which, &headers, limit).await {
            Ok(GoalAnswer::Pending(pending)) if pending.status.is_waiting() => Some(pending.status),
            _ => None,
        }
    }

    async fn send_chunk(&self, chunk: Bytes) -> Result<(), CallerLost> {
        let Some(reply) = &self.reply else { return Ok(()) };
        self.send(Message::new(reply.clone(), chunk)).await
    }

    async fn send(&self, message: Message) -> Result<(), CallerLost> {
        self.state.outside.publish(message).await.map_err(|error| {
            tracing::debug!(%error, "a reply stream broke off");
            CallerLost
        })
    }
}

/// The fields beside the status of an event.
fn about(event: &SessionEvent) -> StatusDetails<'static> {
    match event {
        SessionEvent::Concluded(event) => {
            StatusDetails { status: Some(event.status.as_str()), ..StatusDetails::default() }
        }
        event => StatusDetails { step: event.step(), ..StatusDetails::default() },
    }
}
