//! For programs: goals handed to a factory over NATS, their sessions watched and ended, its memory searched.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ai_factory::client::Client;
//!
//! let factory = Client::connect("nats://127.0.0.1:4222").await?;
//! let submitted = factory.submit("Greet the world", None).await?;
//! let mut events = factory.watch(Some(submitted.session_id)).await?;
//! while let Some(event) = events.next().await {
//!     println!("{} {}", event.position, event.event.name());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! *Limits.* [`Client::watch`] tells of what happens from the call on: what was before is in the stream `FACTORY_EVENTS`, where
//! the server has `JetStream`. Needs the feature `client`, which is on unless a dependent turns defaults off.

use std::{sync::Arc, time::Duration};

use ai_factory_actors::{
    client::call,
    ports::bus::{Bus as _, Headers, Subscription, header},
};
use ai_factory_schemas::{
    answer::{SearchAnswer, SessionAnswer, SessionTold, Submitted},
    envelope::Recorded,
    id::{CommandId, SessionId, StreamId},
    plan::TaskType,
    problem::Problem,
    request::{Goal, SearchMemory, WhichSession},
    subject::{Operation, Subjects, operation},
};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    bus::nats::{ConnectError, Login, NatsBus, NatsSettings},
    config::without_passwords,
};

/// How long an answer that says only what is on disk may take.
const TELL_MAX: Duration = Duration::from_secs(30);
/// How long a session may take, as the factory's own default has it, with some time for the answer.
const SESSION_MAX: Duration = Duration::from_secs(630);
/// How many events wait for who watches before some are lost.
const EVENTS_WAITING_MAX: usize = 65_536;

/// A factory at a NATS server.
pub struct Client {
    bus: Arc<NatsBus>,
    subjects: Subjects,
}

impl Client {
    /// Connects to the server at `url`, where the factory uses the subjects `factory.>`. Waits for a server that is away.
    ///
    /// # Errors
    /// An address that is none, or a server that does not let us in.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_as(url, Login::default(), Subjects::default()).await
    }

    /// The same with a login, for a factory whose subjects begin otherwise.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_as(
        url: &str,
        login: Login,
        subjects: Subjects,
    ) -> Result<Self, ConnectError> {
        let settings = NatsSettings {
            url: url.to_owned(),
            shown: without_passwords(url),
            login,
            name: "ai-factory client".to_owned(),
        };
        Ok(Self { bus: NatsBus::connect(&settings).await?, subjects })
    }

    /// Hands in a goal; answers once it is on the factory's disk. The same key again gets the first answer; without one,
    /// each call is a goal of its own.
    ///
    /// # Errors
    /// What the factory refuses, with the status that HTTP has for it; 503 where none is there.
    pub async fn submit(&self, goal: &str, key: Option<&CommandId>) -> Result<Submitted, Problem> {
        self.ask(operation::SUPERVISOR_SUBMIT, &wanted(goal), key, TELL_MAX).await
    }

    /// Hands in a goal and waits for its session's end.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn run(&self, goal: &str, key: Option<&CommandId>) -> Result<SessionAnswer, Problem> {
        self.ask(operation::SUPERVISOR_RUN, &wanted(goal), key, SESSION_MAX).await
    }

    /// Ends a session.
    ///
    /// # Errors
    /// 404 where there is none of that id.
    pub async fn cancel(&self, session_id: SessionId) -> Result<SessionTold, Problem> {
        let which = WhichSession { id: Some(session_id), key: None };
        self.ask(operation::SUPERVISOR_CANCEL, &which, None, TELL_MAX).await
    }

    /// Searches what the factory remembers.
    ///
    /// # Errors
    /// A question that is blank.
    pub async fn search(&self, question: &SearchMemory) -> Result<SearchAnswer, Problem> {
        self.ask(operation::MEMORY_SEARCH, question, None, TELL_MAX).await
    }

    /// Events from now on: of one session and its runs, or all.
    ///
    /// # Errors
    /// A connection that is closed.
    pub async fn watch(&self, session_id: Option<SessionId>) -> Result<Events, Problem> {
        let all = self.subjects.events();
        let events = self.bus.subscribe(all, None, EVENTS_WAITING_MAX).await;
        let events = events.map_err(|error| Problem::unavailable(error.to_string()))?;
        Ok(Events { events, session_id })
    }

    /// Closes the connection; what was sent has left.
    pub async fn close(&self) {
        self.bus.close().await;
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &(impl Serialize + Sync),
        key: Option<&CommandId>,
        limit: Duration,
    ) -> Result<T, Problem> {
        let mut headers = Headers::default();
        let own = || Uuid::now_v7().to_string();
        headers.set(header::MESSAGE_ID, key.map_or_else(own, |key| key.as_str().to_owned()));
        call(&*self.bus, &self.subjects, operation, body, headers, limit).await
    }
}

fn wanted(goal: &str) -> Goal {
    Goal { goal: goal.to_owned(), task_type: TaskType::default() }
}

/// Events as they come.
pub struct Events {
    events: Subscription,
    session_id: Option<SessionId>,
}

impl Events {
    /// The next one, waited for if need be; `None` once the connection is closed. What cannot be read is of a newer
    /// factory, and passed over.
    pub async fn next(&mut self) -> Option<Recorded> {
        loop {
            let message = self.events.next().await?;
            let Ok(recorded) = Recorded::decode(&message.payload) else { continue };
            if self.session_id.is_none_or(|id| is_of(&recorded, id)) {
                return Some(recorded);
            }
        }
    }

    /// How many were lost because nobody took them.
    pub fn lost(&self) -> u64 {
        self.events.lost()
    }
}

fn is_of(recorded: &Recorded, session_id: SessionId) -> bool {
    recorded.stream == StreamId::from(session_id)
        || recorded.trail.correlation == Some(session_id.0)
}
