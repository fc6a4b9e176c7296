//! The client library: submits goals to a factory over NATS, watches and cancels their sessions,
//! searches its memory.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ai_factory_client::Client;
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
//! A goal may have files and a check:
//!
//! ```no_run
//! # use ai_factory_client::Client;
//! # async fn example(factory: Client) -> Result<(), Box<dyn std::error::Error>> {
//! use ai_factory_client::{Goal, GoalFile};
//!
//! let data = std::fs::read("large.csv")?;
//! let goal = Goal::new("```python\nopen('sum.txt', 'w').write('42')\n```")
//!     .with_file(GoalFile::text("tests/test_sum.sh", "test \"$(cat sum.txt)\" = 42"))
//!     .with_file(GoalFile::stored("large.csv", factory.upload(&data).await?))
//!     .with_check("bash tests/test_sum.sh")
//!     .protecting("tests/**");
//! let ended = factory.run(goal, None).await?;
//! let made = factory.file(ended.session_id, "sum.txt").await?;
//! assert_eq!(made, b"42");
//! # Ok(())
//! # }
//! ```
//!
//! *Promises.* A server that is away for a short time only delays calls: requests are repeated
//! under the same key, and events continue where they stopped ([`Events`]). After
//! [`ClientSettings::server_away_max`] without a server every wait ends with an error that says so.
//!
//! *Limits.* [`Client::watch`] returns events from the call on: earlier ones are in the stream
//! `FACTORY_EVENTS`, if the server has `JetStream`.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod events;
mod files;

use std::{sync::Arc, time::Duration};

use ai_factory_nats::{
    ConnectError, ConnectionState, Login, NatsBus, NatsSettings, StreamsSettings, without_passwords,
};
use ai_factory_ports::{
    bus::{Headers, header},
    request_reply::call,
};
use ai_factory_schemas::{
    answer::{SearchAnswer, SessionAnswer, SessionStatusAnswer, Submitted},
    id::{CommandId, SessionId},
    problem::Problem,
    request::{SearchMemory, SessionSelector},
    subject::{Operation, Subjects, operation},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use uuid::Uuid;

pub use self::events::{Events, WatchError};
pub use ai_factory_schemas::request::{Goal, GoalFile};

/// Timeout of a reply that only reports what is on disk.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Timeout of a session: the factory's default limit, with some time for the reply.
const SESSION_MAX: Duration = Duration::from_secs(630);
/// The default limit of a server's absence: longer than a restart takes.
pub const SERVER_AWAY_MAX: Duration = Duration::from_mins(1);
/// How long the factory may take to reconnect after the server is back: each connects by itself.
const FACTORY_BACK_MAX: Duration = Duration::from_secs(15);

/// The address of a factory, and the wait limits.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// One or more URLs separated by commas: `nats://127.0.0.1:4222`.
    pub url: String,
    /// The login there.
    pub login: Login,
    /// The prefix of the factory's subjects: its setting `prefix`.
    pub subjects: Subjects,
    /// The stream of events on a server with `JetStream`: the factory's setting
    /// `nats_events_stream`. If empty, the default name for the subjects' prefix.
    pub events_stream: String,
    /// How long the server may be away without interruption before waits end with an error.
    pub server_away_max: Duration,
}

impl ClientSettings {
    /// The server at `url`, with a factory's defaults for everything else.
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
    /// Connects to the server at `url`, where the factory uses the subjects `factory.>`. If the
    /// server is away, later calls wait for it.
    ///
    /// # Errors
    /// An invalid address, or a server that refuses the login.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(ClientSettings::at(url)).await
    }

    /// [`Self::connect`] with settings.
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

    /// Submits a goal; returns once it is on the factory's disk. A repeated key gets the first
    /// reply; without a key each call is a new goal.
    ///
    /// # Errors
    /// The factory's refusals, with their HTTP status; 503 if there is no factory; 413 if files and
    /// texts do not fit one message ([`Self::upload`] sends large files before).
    pub async fn submit(
        &self,
        goal: impl Into<Goal> + Send,
        key: Option<&CommandId>,
    ) -> Result<Submitted, Problem> {
        self.ask(operation::SUPERVISOR_SUBMIT, &goal.into(), key, REQUEST_MAX).await
    }

    /// Submits a goal and waits for the end of its session.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn run(
        &self,
        goal: impl Into<Goal> + Send,
        key: Option<&CommandId>,
    ) -> Result<SessionAnswer, Problem> {
        self.ask(operation::SUPERVISOR_RUN, &goal.into(), key, SESSION_MAX).await
    }

    /// Cancels a session.
    ///
    /// # Errors
    /// 404 if there is no session with that id.
    pub async fn cancel(&self, session_id: SessionId) -> Result<SessionStatusAnswer, Problem> {
        let which = SessionSelector::id(session_id);
        self.ask(operation::SUPERVISOR_CANCEL, &which, None, REQUEST_MAX).await
    }

    /// Searches the factory's memory.
    ///
    /// # Errors
    /// A blank query.
    pub async fn search(&self, question: &SearchMemory) -> Result<SearchAnswer, Problem> {
        self.ask(operation::MEMORY_SEARCH, question, None, REQUEST_MAX).await
    }

    /// Events from this call on: of one session and its runs, or all.
    ///
    /// # Errors
    /// A closed connection, and 503 if the server is away for too long.
    pub async fn watch(&self, session_id: Option<SessionId>) -> Result<Events, Problem> {
        self.back(&mut self.bus.connection_state()).await?;
        let from = (self.events_stream.as_str(), self.subjects.events());
        let events = Events::from_now(&self.bus, from, session_id, self.server_away_max).await;
        events.map_err(|error| Problem::unavailable(error.to_string()))
    }

    /// Closes the connection. Everything sent has left.
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
        #[expect(clippy::disallowed_methods, reason = "a key that no other request has")]
        let own = || Uuid::now_v7().to_string();
        headers.set(header::MESSAGE_ID, key.map_or_else(own, |key| key.as_str().to_owned()));
        let mut state = self.bus.connection_state();
        // Time without a connection has its own limit.
        let mut left = limit;
        loop {
            let losses = state.borrow().losses;
            self.back(&mut state).await?;
            let (begun, headers, mut lost) = (Instant::now(), headers.clone(), state.clone());
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
            let now = *state.borrow();
            if !self.bus.is_connected() || now.losses > losses {
                // The reply may be lost with the connection: under the same key it is the same.
                lost_since(&mut state, losses).await?;
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

    /// Waits for a connection.
    async fn back(&self, state: &mut watch::Receiver<ConnectionState>) -> Result<(), Problem> {
        if state.borrow().lost_since.is_none() {
            return Ok(());
        }
        let limit = self.server_away_max;
        tokio::select! {
            biased;
            back = state.wait_for(|now| now.lost_since.is_none()) => back.map(drop).map_err(|_| closed_problem()),
            () = self.bus.disconnected_for(limit) => {
                Err(Problem::unavailable(WatchError::ServerAway { limit }.to_string()))
            }
        }
    }
}

/// The HTTP status of a temporarily absent component.
const UNAVAILABLE: u16 = 503;

fn closed_problem() -> Problem {
    Problem::unavailable(WatchError::Closed.to_string())
}

/// Waits for the report that the connection was lost: a failed request may come a moment earlier.
async fn lost_since(
    state: &mut watch::Receiver<ConnectionState>,
    losses: u64,
) -> Result<(), Problem> {
    state.wait_for(|now| now.losses > losses).await.map(drop).map_err(|_| closed_problem())
}
