//! One prompt, from its arrival to the empty message at the end of its answer (§6).

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

/// The status of a stream that has nothing to say.
const WORKING: &str = "working";
/// The largest response chunk, in bytes, where the server would carry more.
const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The name of the header in which a sender says who it is (§13.5).
const AGENT_SENDER: &str = "Agent-Sender";
/// When to prompt again where there are too many prompts.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// When to prompt again where the factory ends.
const ENDING_RETRY_AFTER: Duration = Duration::from_secs(5);

/// When to prompt again where the connection was lost: by then the caller has been told, and listens.
const LOST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a caller may take to listen again.
const CALLER_BACK_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether it does.
const CALLER_LOOK_PERIOD: Duration = Duration::from_millis(250);
/// How long the server may take to say that nobody listens.
const HEARD_MAX: Duration = Duration::from_secs(1);

/// The status of a request that does not fit what is so.
const CONFLICT: u16 = 409;

/// The caller could not be reached for a while, and may have missed something: the stream ends, and the session goes on.
struct Lost;

/// What a stream that has told everything waits for.
enum Came {
    /// Something of its session is recorded.
    News,
    /// The caller has answered; `None` where it is not clear what.
    Answer(Option<Resolution>),
    /// It was silent for too long.
    Nothing,
}

/// How a stream ends before its result.
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

/// One prompt in hand.
pub struct Prompt<'a> {
    desk: &'a Desk,
    /// Where the stream goes; a prompt without one is worked on all the same.
    reply: Option<Subject>,
    /// Tells whether the connection over which it came is still the same.
    connections: watch::Receiver<u64>,
    /// Whether something could not be said.
    is_broken: bool,
}

impl<'a> Prompt<'a> {
    /// A prompt that has come.
    pub fn new(desk: &'a Desk, request: &Message) -> Self {
        let mut connections = desk.connections.clone();
        connections.mark_unchanged();
        Self { desk, reply: request.reply.clone(), connections, is_broken: false }
    }

    /// Answers it. Says why, where it was refused.
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

    /// Waits until the server has all of the answer; tells the caller where something of it may have been lost.
    pub async fn see_to_the_end(&self) {
        let Some(reply) = &self.reply else { return };
        let is_there = !self.is_broken && self.desk.outside.publish_all(Vec::new()).await.is_ok();
        if !is_there || self.is_whole().is_err() {
            self.tell_of_the_loss(reply).await;
        }
    }

    /// Ends the stream, unless something of it may be missing. §9.3: an error comes before the end, and the end is the same
    /// for all (§6.5).
    async fn end(&self, refused: Option<&Problem>) -> Result<(), Lost> {
        let Some(reply) = &self.reply else { return Ok(()) };
        self.is_whole()?;
        if let Some(problem) = refused {
            self.send(refusal::message(reply.clone(), problem)).await?;
        }
        self.send(Message::new(reply.clone(), Bytes::new())).await
    }

    /// An error where the connection was lost since the prompt came: what was said meanwhile may not have arrived.
    fn is_whole(&self) -> Result<(), Lost> {
        if self.connections.has_changed().unwrap_or(true) { Err(Lost) } else { Ok(()) }
    }

    /// Tells the caller that its stream broke off, once there is a connection and it listens again (it may have lost its
    /// own). Says nothing to one that does not come back in time.
    async fn tell_of_the_loss(&self, reply: &Subject) {
        let problem = Problem::busy(
            "the connection to the NATS server was lost in between and something of this answer may be missing; the session \
             goes on: prompt again with the same `Nats-Msg-Id`",
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

    /// Says it until somebody listens, for as long as there is no connection and for `CALLER_BACK_MAX` behind that.
    async fn say_until_heard(&self, message: &Message) {
        let mut until = None;
        loop {
            // Nobody answers it: what comes of asking is whether anybody has heard it.
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
        // The session is over: under its key, its answer is at hand.
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
            SessionEnd::Failed => Err(Problem::internal(reason("it could not go on")).into()),
        }
    }

    /// What goes inside beside the goal. The key is the caller's, or one of our own: its answer is asked for by it.
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

    /// Tells each event of the session as a status, until it is over.
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
                        "the factory ends; the session goes on at its next start: prompt again with the same `Nats-Msg-Id`",
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

    /// Does what the caller has decided. That somebody else was faster is in the session's next events.
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
            tracing::debug!(%error, "an answer's stream broke off");
            Lost
        })
    }
}

/// What a status says of an event beside its name.
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
