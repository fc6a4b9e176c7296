//! One prompt, from its arrival to the empty final message of its reply (§6).

use std::time::Duration;

use ai_factory_actors::{
    client,
    ports::bus::{Headers, Message, PublishError, RequestError, header},
};
use ai_factory_schemas::{
    answer::{SessionAnswer, SessionTold, Submitted},
    event::Event,
    id::{CommandId, SessionId, StreamId},
    problem::Problem,
    request::Resolve,
    session::{Door, Resolution, SessionEnd, SessionEvent},
    subject::{Operation, Subject, operation},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    chunk::{self, About},
    envelope,
    host::Desk,
    question::{self, Question},
    refusal,
    sender::{Sender, classify},
};

/// The keep-alive status of a stream.
const WORKING: &str = "working";
/// The largest response chunk, in bytes, even if the server accepts larger ones.
const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The header with the sender's identity (§13.5).
const AGENT_SENDER: &str = "Agent-Sender";
/// Retry delay when there are too many prompts.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Retry delay when the factory ends.
const ENDING_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Retry delay after a lost connection: the caller receives the error only once it listens again.
const LOST_RETRY_AFTER: Duration = Duration::from_secs(1);

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
struct Lost;

/// Events that a stream waits for after it has sent everything.
enum Came {
    /// A new event of its session.
    News,
    /// The caller's answer; `None` if it is unclear.
    Answer(Option<Resolution>),
    /// Silence for too long.
    Nothing,
}

/// Why a stream ends before its result.
enum Broken {
    Refused(Problem),
    Lost,
}

impl From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<Lost> for Broken {
    fn from(Lost: Lost) -> Self {
        Self::Lost
    }
}

/// One prompt in progress.
pub struct Prompt<'a> {
    desk: &'a Desk,
    /// The subject of the stream; a prompt without one is handled all the same.
    reply: Option<Subject>,
    /// Shows whether the connection is still the one over which the prompt came.
    connections: watch::Receiver<u64>,
    /// Whether a message could not be sent.
    is_broken: bool,
}

impl<'a> Prompt<'a> {
    /// Takes a received prompt.
    pub fn new(desk: &'a Desk, request: &Message) -> Self {
        let mut connections = desk.connections.clone();
        connections.mark_unchanged();
        Self { desk, reply: request.reply.clone(), connections, is_broken: false }
    }

    /// Answers it. Returns the problem if it was refused.
    pub async fn answer(&mut self, request: Message) -> Option<Problem> {
        let refused = match self.stream(request).await {
            Ok(()) => None,
            Err(Broken::Refused(problem)) => Some(problem),
            Err(Broken::Lost) => {
                self.is_broken = true;
                return None;
            }
        };
        self.is_broken = self.end(refused.as_ref()).await.is_err();
        refused
    }

    /// Waits until the server has the whole reply; tells the caller if part of it may be lost.
    pub async fn see_to_the_end(&self) {
        let Some(reply) = &self.reply else { return };
        let is_there = !self.is_broken && self.desk.outside.publish_all(Vec::new()).await.is_ok();
        if !is_there || self.is_whole().is_err() {
            self.tell_of_the_loss(reply).await;
        }
    }

    /// Ends the stream, unless part of it may be missing. §9.3: an error precedes the final
    /// message, which is always the same (§6.5).
    async fn end(&self, refused: Option<&Problem>) -> Result<(), Lost> {
        let Some(reply) = &self.reply else { return Ok(()) };
        self.is_whole()?;
        if let Some(problem) = refused {
            self.send(refusal::message(reply.clone(), problem)).await?;
        }
        self.send(Message::new(reply.clone(), Bytes::new())).await
    }

    /// Fails if the connection was lost since the prompt came: messages sent meanwhile may be lost.
    fn is_whole(&self) -> Result<(), Lost> {
        if self.connections.has_changed().unwrap_or(true) { Err(Lost) } else { Ok(()) }
    }

    /// Tells the caller that its stream broke off, once there is a connection and the caller
    /// listens again (it may have lost its own). Gives up if the caller does not return in time.
    async fn tell_of_the_loss(&self, reply: &Subject) {
        let problem = Problem::busy(
            "the connection to the NATS server was lost and part of this reply may be missing; \
             the session continues: prompt again with the same `Nats-Msg-Id`",
            LOST_RETRY_AFTER,
        );
        let error = refusal::message(reply.clone(), &problem);
        let mut ended = self.desk.ended.clone();
        let telling = async {
            self.say_until_heard(&error).await;
            let _ = self.desk.outside.publish(Message::new(reply.clone(), Bytes::new())).await;
        };
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => {}
            () = telling => {}
        }
    }

    /// Repeats a message until somebody receives it: as long as there is no connection, and for
    /// `CALLER_BACK_MAX` after that.
    async fn say_until_heard(&self, message: &Message) {
        let mut until = None;
        loop {
            // Nobody replies: the request's error shows whether there was a subscriber.
            match self.desk.outside.request(message.clone(), HEARD_MAX).await {
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
    async fn stream(&self, request: Message) -> Result<(), Broken> {
        let Ok(_place) = self.desk.room.try_acquire() else {
            let sentence = format!("{} prompts are under way: try again", self.desk.prompts_max);
            return Err(Problem::busy(sentence, RETRY_AFTER).into());
        };
        let goal = envelope::read(&request.payload)?;
        let sender = classify(
            request.headers.get(AGENT_SENDER),
            (request.subject.as_str(), &request.payload),
            self.desk.world.now(),
            &self.desk.nonces,
        )?;
        let headers = self.headers(&request.headers, sender)?;
        // §6.4: the first message, before any work.
        self.say(chunk::status("ack", About::default())).await?;
        let submitted: Submitted =
            self.ask(operation::SUPERVISOR_SUBMIT, &goal, &headers, self.desk.submit_max).await?;
        if self.reply.is_none() {
            return Ok(());
        }
        self.follow(submitted.session_id).await?;
        // The session is over: its answer is available under its key.
        let answer: SessionAnswer =
            self.ask(operation::SUPERVISOR_RUN, &goal, &headers, self.desk.submit_max).await?;
        let bytes_max = (self.desk.message_bytes_max)().min(CHUNK_BYTES_MAX);
        for piece in chunk::responses(&answer.result, bytes_max) {
            self.say(piece).await?;
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
            None => CommandId::from(self.desk.world.new_id()),
            Some(Ok(key)) => key,
            Some(Err(fault)) => {
                return Err(Problem::bad_request(format!("`{}`: {fault}", header::MESSAGE_ID)));
            }
        };
        let mut headers = Headers::default();
        headers.set(header::MESSAGE_ID, key.as_str());
        headers.set(header::DOOR, Door::Agent.as_str());
        for name in [header::REQUEST_ID, header::TRACEPARENT, header::SUBMITTER] {
            if let Some(value) = given.get(name) {
                headers.set(name, value);
            }
        }
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
        let Desk { inside, subjects, .. } = self.desk;
        client::call(&**inside, subjects, operation, body, headers.clone(), wait).await
    }

    /// Sends each event of the session as a status, until the session is over.
    async fn follow(&self, id: SessionId) -> Result<(), Broken> {
        let stream = StreamId::from(id);
        let mut news = self.desk.news.of(stream);
        let mut ended = self.desk.ended.clone();
        let mut connections = self.connections.clone();
        let (mut version, mut unknown, mut question) = (0, None, None);
        loop {
            let recorded = self.desk.journal.load(stream, version).await;
            for recorded in recorded.map_err(|error| Problem::unavailable(error.to_string()))? {
                version = recorded.version;
                let Event::Session(event) = &recorded.event else { continue };
                let about = About {
                    session_id: (version == 1).then_some(id),
                    position: Some(recorded.position),
                    ..about(event)
                };
                self.say(chunk::status(recorded.event.name(), about)).await?;
                if matches!(event, SessionEvent::Concluded(_)) {
                    return Ok(());
                }
                unknown = question::unknown(unknown, event);
            }
            question = Question::of(question, id, unknown, self.desk.question_max);
            if let Some(question) = &mut question
                && let Some(chunk) = question.ask(self.desk).await?
            {
                self.say(chunk).await?;
            }
            let came = tokio::select! {
                _ = ended.wait_for(|ended| *ended) => {
                    return Err(Problem::busy(
                        "the factory is shutting down; the session continues at its next start: \
                         prompt again with the same `Nats-Msg-Id`",
                        ENDING_RETRY_AFTER,
                    ).into());
                }
                _ = connections.changed() => return Err(Broken::Lost),
                decided = Question::decided(&mut question) => Came::Answer(decided?),
                heard = timeout(self.desk.silence_max, news.next()) => match heard {
                    Ok(()) => Came::News,
                    Err(_) => Came::Nothing,
                },
            };
            match came {
                Came::Answer(Some(resolution)) => self.resolve(id, resolution).await?,
                Came::Nothing => self.say(chunk::status(WORKING, About::default())).await?,
                Came::Answer(None) | Came::News => {}
            }
        }
    }

    /// Applies the caller's decision. If another decision came first, the session's next events
    /// show it.
    async fn resolve(&self, id: SessionId, resolution: Resolution) -> Result<(), Problem> {
        let (body, headers) = (Resolve { id: id.into(), resolution }, Headers::default());
        let limit = self.desk.submit_max;
        let told = self.ask(operation::SUPERVISOR_RESOLVE, &body, &headers, limit).await;
        match told {
            Ok(SessionTold { .. }) => Ok(()),
            Err(problem) if problem.status == CONFLICT => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    async fn say(&self, chunk: Bytes) -> Result<(), Lost> {
        let Some(reply) = &self.reply else { return Ok(()) };
        self.send(Message::new(reply.clone(), chunk)).await
    }

    async fn send(&self, message: Message) -> Result<(), Lost> {
        self.desk.outside.publish(message).await.map_err(|error| {
            tracing::debug!(%error, "a reply stream broke off");
            Lost
        })
    }
}

/// The fields beside the status of an event.
fn about(event: &SessionEvent) -> About<'static> {
    let step = match event {
        SessionEvent::StepDispatched(event) => event.step,
        SessionEvent::StepFinished(event) => event.step,
        SessionEvent::StepSkipped(event) => event.step,
        SessionEvent::StepFailed(event) => event.step,
        SessionEvent::StepUnknown(event) => event.step,
        SessionEvent::StepResolved(event) => event.step,
        SessionEvent::Concluded(event) => {
            return About { status: Some(event.status.as_str()), ..About::default() };
        }
        SessionEvent::Opened(_)
        | SessionEvent::Planned(_)
        | SessionEvent::Recalled(_)
        | SessionEvent::Resumed(_) => return About::default(),
    };
    About { step: Some(step), ..About::default() }
}
