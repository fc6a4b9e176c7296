//! For programs: goals handed to a factory over NATS, their sessions watched and ended, its memory searched.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ai_factory::client::Client;
//!
//! let factory = Client::connect("nats://127.0.0.1:4222").await?;
//! let submitted = factory.submit("Greet the world", None).await?;
//! let mut events = factory.watch(Some(submitted.session_id)).await?;
//! loop {
//!     let event = events.next().await?;
//!     println!("{} {}", event.position, event.event.name());
//!     if event.event.name() == "session.concluded" {
//!         break;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! *Promises.* A server that is away for a short while costs nothing but time: what was asked is asked again under the same key, and
//! events are taken up where they broke off ([`Events`]). One that is away for longer than [`ClientSettings::server_away_max`] ends
//! every wait with an error that says so.
//!
//! *Limits.* [`Client::watch`] tells of what happens from the call on: what was before is in the stream `FACTORY_EVENTS`, where
//! the server has `JetStream`. Needs the feature `client`, which is on unless a dependent turns defaults off.

mod events;

use std::{sync::Arc, time::Duration};

use ai_factory_actors::{
    client::call,
    ports::bus::{Headers, header},
};
use ai_factory_schemas::{
    answer::{SearchAnswer, SessionAnswer, SessionTold, Submitted},
    id::{CommandId, SessionId},
    plan::TaskType,
    problem::Problem,
    request::{Goal, SearchMemory, WhichSession},
    subject::{Operation, Subjects, operation},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use uuid::Uuid;

pub use self::events::{Events, WatchError};
use crate::{
    bus::nats::{ConnectError, Line, Login, NatsBus, NatsSettings, StreamsSettings},
    config::without_passwords,
};

/// How long an answer that says only what is on disk may take.
const TELL_MAX: Duration = Duration::from_secs(30);
/// How long a session may take, as the factory's own default has it, with some time for the answer.
const SESSION_MAX: Duration = Duration::from_secs(630);
/// How long the server may be away, unless settings say otherwise: longer than a restart takes.
pub const SERVER_AWAY_MAX: Duration = Duration::from_mins(1);
/// How long the factory may take to be there again behind the server: each connects by itself.
const FACTORY_BACK_MAX: Duration = Duration::from_secs(15);

/// Where a factory is, and how long it is waited for.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// One or more URLs with commas between them: `nats://127.0.0.1:4222`.
    pub url: String,
    /// Who we are there.
    pub login: Login,
    /// How the factory's subjects begin: its setting `prefix`.
    pub subjects: Subjects,
    /// The stream in which the server keeps events, where it has `JetStream`: the factory's setting `nats_events_stream`. Nothing
    /// stands for the name that goes with the subjects.
    pub events_stream: String,
    /// How long the server may be away in one piece before what is waited for ends with an error.
    pub server_away_max: Duration,
}

impl ClientSettings {
    /// The server at `url`, and everything else as a factory has it that nobody told otherwise.
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            login: Login::default(),
            subjects: Subjects::default(),
            events_stream: String::new(),
            server_away_max: SERVER_AWAY_MAX,
        }
    }
}

/// A factory at a NATS server.
pub struct Client {
    bus: Arc<NatsBus>,
    subjects: Subjects,
    events_stream: String,
    server_away_max: Duration,
}

impl Client {
    /// Connects to the server at `url`, where the factory uses the subjects `factory.>`. A server that is away is waited for by
    /// who asks for something.
    ///
    /// # Errors
    /// An address that is none, or a server that does not let us in.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(ClientSettings::at(url)).await
    }

    /// The same with settings.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(settings: ClientSettings) -> Result<Self, ConnectError> {
        let ClientSettings { url, login, subjects, events_stream, server_away_max } = settings;
        let events_stream = if events_stream.is_empty() {
            StreamsSettings::name(&subjects, "events")
        } else {
            events_stream
        };
        let name = "ai-factory client".to_owned();
        let settings = NatsSettings { shown: without_passwords(&url), url, login, name };
        let bus = NatsBus::connect(&settings).await?;
        Ok(Self { bus, subjects, events_stream, server_away_max })
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
        let which = WhichSession::id(session_id);
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
    /// A connection that is closed, and 503 where the server is away for too long.
    pub async fn watch(&self, session_id: Option<SessionId>) -> Result<Events, Problem> {
        self.back(&mut self.bus.line()).await?;
        let from = (self.events_stream.as_str(), self.subjects.events());
        let events = Events::from_now(&self.bus, from, session_id, self.server_away_max).await;
        events.map_err(|error| Problem::unavailable(error.to_string()))
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
        let mut line = self.bus.line();
        // Time without a connection has a limit of its own.
        let mut left = limit;
        loop {
            let losses = line.borrow().losses;
            self.back(&mut line).await?;
            let (begun, headers, mut lost) = (Instant::now(), headers.clone(), line.clone());
            let answer = tokio::select! {
                biased;
                answer = call(&*self.bus, &self.subjects, operation, body, headers, left) => answer,
                Ok(_) = lost.wait_for(|now| now.losses > losses) => {
                    Err(Problem::unavailable("the connection was lost"))
                }
            };
            let Err(problem) = answer else { return answer };
            left = left.saturating_sub(begun.elapsed());
            if problem.status != UNAVAILABLE || left.is_zero() {
                return Err(problem);
            }
            let now = *line.borrow();
            if !self.bus.is_connected() || now.losses > losses {
                // The answer may be lost with the connection: under the same key there is the same one.
                lost_since(&mut line, losses).await?;
                continue;
            }
            match problem.retry_after {
                Some(pause) if now.back_since.is_some_and(|at| at.elapsed() < FACTORY_BACK_MAX) => {
                    sleep(pause).await;
                }
                _ => return Err(problem),
            }
        }
    }

    /// Waits until there is a connection.
    async fn back(&self, line: &mut watch::Receiver<Line>) -> Result<(), Problem> {
        if line.borrow().away_since.is_none() {
            return Ok(());
        }
        let limit = self.server_away_max;
        tokio::select! {
            biased;
            back = line.wait_for(|now| now.away_since.is_none()) => back.map(drop).map_err(|_| closed()),
            () = self.bus.away_for(limit) => {
                Err(Problem::unavailable(WatchError::ServerAway { limit }.to_string()))
            }
        }
    }
}

/// The status of a part that is away for the moment.
const UNAVAILABLE: u16 = 503;

fn closed() -> Problem {
    Problem::unavailable(WatchError::Closed.to_string())
}

/// Waits until it is told that the connection was lost, which whoever used it may know a moment earlier.
async fn lost_since(line: &mut watch::Receiver<Line>, losses: u64) -> Result<(), Problem> {
    line.wait_for(|now| now.losses > losses).await.map(drop).map_err(|_| closed())
}

fn wanted(goal: &str) -> Goal {
    Goal { goal: goal.to_owned(), task_type: TaskType::default() }
}
