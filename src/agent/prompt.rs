//! One prompt, from its arrival to the empty message at the end of its answer (§6).

use std::time::Duration;

use ai_factory_actors::{
    client,
    ports::bus::{Headers, Message, header},
};
use ai_factory_schemas::{
    answer::{SessionAnswer, Submitted},
    event::Event,
    id::{CommandId, SessionId, StreamId},
    problem::Problem,
    request::Goal,
    session::{Door, SessionEnd, SessionEvent},
    subject::{Operation, Subject, operation},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    chunk::{self, About},
    envelope,
    host::Desk,
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

/// The caller cannot be reached any more: the stream ends here, and the session goes on.
struct CallerGone;

/// How a stream ends before its result.
enum Broken {
    Refused(Problem),
    CallerGone,
}

impl From<Problem> for Broken {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<CallerGone> for Broken {
    fn from(CallerGone: CallerGone) -> Self {
        Self::CallerGone
    }
}

/// One prompt in hand.
pub struct Prompt<'a> {
    desk: &'a Desk,
    /// Where the stream goes; a prompt without one is worked on all the same.
    reply: Option<Subject>,
}

impl<'a> Prompt<'a> {
    /// Answers a prompt. Says why, where it was refused.
    pub async fn answer(desk: &'a Desk, mut request: Message) -> Option<Problem> {
        let prompt = Self { desk, reply: request.reply.take() };
        let ended = prompt.stream(request).await;
        let refused = match ended {
            Ok(()) => None,
            Err(Broken::CallerGone) => return None,
            Err(Broken::Refused(problem)) => Some(problem),
        };
        if let Some(reply) = &prompt.reply {
            // §9.3: an error comes before the end, and the end is the same for all (§6.5).
            if let Some(problem) = &refused {
                let _ = desk.outside.publish(refusal::message(reply.clone(), problem)).await;
            }
            let _ = desk.outside.publish(Message::new(reply.clone(), Bytes::new())).await;
        }
        refused
    }

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
        goal: &Goal,
        headers: &Headers,
        wait: Duration,
    ) -> Result<T, Problem> {
        let Desk { inside, subjects, .. } = self.desk;
        client::call(&**inside, subjects, operation, goal, headers.clone(), wait).await
    }

    /// Tells each event of the session as a status, until it is over.
    async fn follow(&self, id: SessionId) -> Result<(), Broken> {
        let stream = StreamId::from(id);
        let mut news = self.desk.news.of(stream);
        let mut ended = self.desk.ended.clone();
        let mut version = 0;
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
            }
            let is_silent = tokio::select! {
                _ = ended.wait_for(|ended| *ended) => {
                    return Err(Problem::busy(
                        "the factory ends; the session goes on at its next start: prompt again with the same `Nats-Msg-Id`",
                        ENDING_RETRY_AFTER,
                    ).into());
                }
                heard = timeout(self.desk.silence_max, news.next()) => heard.is_err(),
            };
            if is_silent {
                self.say(chunk::status(WORKING, About::default())).await?;
            }
        }
    }

    async fn say(&self, chunk: Bytes) -> Result<(), CallerGone> {
        let Some(reply) = &self.reply else { return Ok(()) };
        let sent = self.desk.outside.publish(Message::new(reply.clone(), chunk)).await;
        sent.map_err(|error| {
            tracing::debug!(%error, "an answer's stream broke off");
            CallerGone
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
