//! The bus over a NATS server.
//!
//! *Promises.* Those of the port, as in core NATS. A lost connection is re-established without
//! limit, and with it every subscription. Without a connection nothing is buffered: publishing
//! fails at once. [`publish_all`](ai_factory_ports::bus::Bus::publish_all) returns only when the
//! server has everything.
//!
//! *Limits.* A message is at most as large as the server's `max_payload`. A subscription queues as
//! many messages as its capacity, with at most
//! [`QUEUE_BYTES_MAX`](ai_factory_ports::queue::QUEUE_BYTES_MAX) in all; what does not fit
//! is dropped and counted.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod address;
mod bus;
mod cli_context;
mod connection;
mod connection_state;
mod error;
mod goals;
mod health;
mod held;
mod keeper;
mod login;
mod message;
mod metrics;
mod queue;
mod server;
mod streams;
mod urls;

pub use bus::{NatsBus, ServerInfo};
pub use cli_context::CliContext;
pub use connection::NatsSettings;
pub use connection_state::ConnectionState;
pub use error::ConnectError;
pub use goals::GoalIntake;
pub use keeper::{KEEP_ARGUMENT, keeper_main};
pub use login::Login;
pub use metrics::NatsMetrics;
pub use server::{NatsServer, ServerError, ServerSettings, built_in_config, find_program};
pub use streams::{
    DEAD_REASON, DeadLetter, DeadLetterError, DeadLetterPublisher, DeadLetters, EnqueueReceipt,
    EventHistory, EventHistoryError, GoalsQueue, JournalMark, JournalStream, KnownPosition,
    QueueError, ResumePoint, SessionsBucket, StreamError, StreamsSettings, Undeliverable,
    WaitingGoal,
};
pub use urls::without_passwords;
