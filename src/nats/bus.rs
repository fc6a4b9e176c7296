//! The bus: publishing, requests and subscriptions over one connection, and its state.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ai_factory_ports::{
    bus::{
        Bus, Message, PublishError, QueueGroup, RequestError, SubscribeError, Subscription,
        SubscriptionGuard,
    },
    queue::{PushError, QueueSender, bounded_counting},
};
use ai_factory_schemas::subject::SubjectFilter;
use async_nats::{
    Client, PublishErrorKind, RequestErrorKind, Statistics, Subscriber, connection::State,
};
use futures_util::StreamExt as _;
use tokio::{
    sync::{oneshot, watch},
    task::AbortHandle,
    time::timeout,
};

use super::{
    connection::{ConnectionWatch, NatsSettings, connect},
    connection_state::ConnectionState,
    error::ConnectError,
    health::ConnectionHealth,
    message,
    metrics::NatsMetrics,
};

/// Timeout for the server's confirmation that it has everything.
const CONFIRM_MAX: Duration = Duration::from_secs(5);
/// How long sending the last messages may take when the connection is closed.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// The bus over a NATS server: see the module.
pub struct NatsBus {
    pub(crate) client: Client,
    statistics: Arc<Statistics>,
    connections: watch::Receiver<u64>,
    state: watch::Receiver<ConnectionState>,
    /// Problems while the server is connected.
    pub(crate) health: Arc<ConnectionHealth>,
}

/// Ends the task that feeds a subscription, and with it the subscription.
struct FeedTask {
    task: AbortHandle,
    drain: Option<oneshot::Sender<()>>,
}

impl SubscriptionGuard for FeedTask {
    fn drain(mut self: Box<Self>) {
        if let Some(drain) = self.drain.take() {
            let _ = drain.send(());
        }
    }
}

impl Drop for FeedTask {
    fn drop(&mut self) {
        // A draining one ends by itself.
        if self.drain.is_some() {
            self.task.abort();
        }
    }
}

/// Forwards messages from the server to the subscriber without waiting for it; counts those that do
/// not fit. After `drain` the server stops sending, and everything it sent before is forwarded
/// before this ends.
async fn feed(mut subscriber: Subscriber, messages: QueueSender, mut drain: oneshot::Receiver<()>) {
    let mut is_draining = false;
    loop {
        let message = tokio::select! {
            message = subscriber.next() => message,
            request = &mut drain, if !is_draining => {
                is_draining = true;
                if request.is_err() || subscriber.drain().await.is_err() {
                    break;
                }
                continue;
            }
        };
        let Some(message) = message else { break };
        let Some(message) = message::from_nats(message) else { continue };
        match messages.push(message) {
            Ok(()) => {}
            Err(PushError::Full(_)) => messages.count_lost(),
            Err(PushError::Closed(_)) => break,
        }
    }
}

/// The server's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its version: `2.10.27`.
    pub version: String,
    /// Whether it has JetStream.
    pub has_jetstream: bool,
}

impl NatsBus {
    /// Connects. An absent server is retried in the background; one that refuses is an error.
    pub async fn connect(settings: &NatsSettings) -> Result<Arc<Self>, ConnectError> {
        let (client, watched) = connect(settings).await?;
        let statistics = client.statistics();
        let ConnectionWatch { connections, state, health } = watched;
        Ok(Arc::new(Self { client, statistics, connections, state, health }))
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Receives the number of each new connection, from 1.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    /// The server's description; of the last one while there is no connection.
    pub fn server(&self) -> ServerInfo {
        let info = self.client.server_info();
        ServerInfo { version: info.version, has_jetstream: info.jetstream }
    }

    /// The server's size limit of a message, payload and headers together, in bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    /// Sends the messages in progress and closes the connection.
    pub async fn close(&self) {
        if self.is_connected() {
            let _ = timeout(DRAIN_MAX, self.client.flush()).await;
        }
        let _ = timeout(DRAIN_MAX, self.client.drain()).await;
    }

    fn check(&self, message: &Message) -> Result<(), PublishError> {
        let bytes = message.bytes();
        let bytes_max = self.client.max_payload();
        if !self.is_connected() {
            let reason = "there is no connection to the NATS server at the moment".to_owned();
            return Err(PublishError::Broken(reason));
        }
        if bytes > bytes_max {
            return Err(PublishError::TooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    async fn send(&self, message: Message) -> Result<(), PublishError> {
        self.check(&message)?;
        let subject = message.subject.as_str().to_owned();
        let headers = message::to_nats(&message.headers);
        let (bytes, payload) = (message.bytes(), message.payload);
        let sent = match message.reply {
            Some(reply) => {
                let reply = reply.as_str().to_owned();
                self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await
            }
            None if headers.is_empty() => self.client.publish(subject, payload).await,
            None => self.client.publish_with_headers(subject, headers, payload).await,
        };
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => {
                PublishError::TooLarge { bytes, bytes_max: self.client.max_payload() }
            }
            PublishErrorKind::Send => PublishError::Closed,
            PublishErrorKind::InvalidSubject => PublishError::Broken(error.to_string()),
        })
    }

    /// Waits until the server has handled everything sent before on this connection. It handles a
    /// connection's messages in order, so its "no responders" for a new inbox comes after all
    /// others.
    async fn confirm(&self) -> Result<(), PublishError> {
        let asked = self.client.request(self.client.new_inbox(), "".into());
        match timeout(CONFIRM_MAX, asked).await {
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(PublishError::Broken(error.to_string())),
            Err(_) => Err(PublishError::Broken(format!(
                "the NATS server did not answer within {} s",
                CONFIRM_MAX.as_secs()
            ))),
        }
    }

    fn connection(&self) -> u64 {
        self.statistics.connects.load(Ordering::Acquire)
    }
}

#[async_trait::async_trait]
impl Bus for NatsBus {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.send(message).await
    }

    async fn publish_all(&self, messages: Vec<Message>) -> Result<(), PublishError> {
        let connection = self.connection();
        for message in messages {
            self.send(message).await?;
        }
        self.confirm().await?;
        if self.connection() != connection {
            let reason = "the connection to the NATS server was lost meanwhile".to_owned();
            return Err(PublishError::Broken(reason));
        }
        Ok(())
    }

    async fn request(&self, message: Message, after: Duration) -> Result<Message, RequestError> {
        self.check(&message)?;
        let subject = message.subject.clone();
        let request = async_nats::Request::new()
            .payload(message.payload)
            .headers(message::to_nats(&message.headers))
            .timeout(None);
        let asked = self.client.send_request(subject.as_str().to_owned(), request);
        match timeout(after, asked).await {
            Ok(Ok(answer)) => message::from_nats(answer).ok_or_else(|| {
                PublishError::Broken("a reply came on an invalid subject".to_owned()).into()
            }),
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
                Err(RequestError::NoResponders(subject))
            }
            Ok(Err(error)) => Err(PublishError::Broken(error.to_string()).into()),
            Err(_) => Err(RequestError::TimedOut { subject, after }),
        }
    }

    async fn subscribe(
        &self,
        filter: SubjectFilter,
        queue: Option<QueueGroup>,
        capacity: usize,
    ) -> Result<Subscription, SubscribeError> {
        let filter = filter.as_str().to_owned();
        let done = match queue {
            Some(queue) => self.client.queue_subscribe(filter, queue.to_owned()).await,
            None => self.client.subscribe(filter).await,
        };
        let subscriber = done.map_err(|error| SubscribeError::Broken(error.to_string()))?;
        let lost = self.metrics().lost_messages.clone();
        let (messages, waiting) = bounded_counting(capacity, lost);
        let (drain, drained) = oneshot::channel();
        let feeding = tokio::spawn(feed(subscriber, messages, drained));
        let feeding = FeedTask { task: feeding.abort_handle(), drain: Some(drain) };
        Ok(Subscription::new(waiting, feeding))
    }
}

/// The connection.
impl NatsBus {
    /// Receives every change of the connection. The sender is dropped once the connection is
    /// closed.
    pub fn connection_state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Waits until there has been no connection for `limit` without interruption. Never returns
    /// once the connection is closed.
    pub async fn disconnected_for(&self, limit: Duration) {
        let mut state = self.connection_state();
        loop {
            let since = state.borrow_and_update().lost_since;
            let over = async {
                match since.and_then(|since| since.checked_add(limit)) {
                    Some(over) => tokio::time::sleep_until(over).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = state.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                () = over => return,
            }
        }
    }
}

/// What is wrong.
impl NatsBus {
    /// The metrics of the connection.
    pub fn metrics(&self) -> &NatsMetrics {
        &self.health.metrics
    }

    /// The problems with the connection or the server's streams. `None` if there are none.
    pub fn problem(&self) -> Option<String> {
        let summary = self.health.summary();
        if self.is_connected() {
            return summary;
        }
        let lost = "there is no connection to the NATS server; retrying";
        Some(summary.map_or_else(|| lost.to_owned(), |summary| format!("{lost}; {summary}")))
    }

    /// Sets or clears the problem with `about`.
    pub(crate) fn note_trouble(&self, about: &'static str, trouble: Option<String>) {
        self.health.note(about, trouble);
    }

    /// Records and logs that an item of `about` was left out for good, with the reason.
    pub fn note_left_out(&self, about: &'static str, position: u64, reason: &str) {
        self.health.left_out(about, position, reason);
    }

    /// Sets the reason why `about` waits; `None` if it does not.
    pub fn note_waiting(&self, about: &'static str, reason: Option<&str>) {
        self.note_trouble(about, reason.map(str::to_owned));
    }
}
