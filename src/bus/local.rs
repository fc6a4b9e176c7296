//! The in-process bus: core NATS semantics without a server.
//!
//! *Promises.* Those of the port. A publisher never waits: if a subscriber's queue is full, the
//! message is dropped for that subscriber alone and counted. In a queue group, members with full
//! queues are skipped if another has room. Dropping a subscription ends it at once. A reply is an
//! ordinary message to the request's reply subject `_INBOX.<bus>.<n>`; the first one wins, later
//! ones are ignored.
//!
//! *Limits.* A request whose only listeners have full queues is dropped, as in NATS: the caller
//! times out. Members of one queue group with different filters are one group, as in NATS.
//!
//! *Not here.* A `publish` with a reply subject and no listener gets no status reply; only
//! `request` reports it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ai_factory_ports::{
    bus::{
        Bus, Message, PublishError, QueueGroup, RequestError, SubscribeError, Subscription,
        SubscriptionGuard,
    },
    metrics::{Counter, MetricSource, Registry},
    queue::{PushError, QueueSender, bounded_counting},
};
use ai_factory_schemas::subject::{Subject, SubjectFilter};
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::interest::Interest;

/// The default size limit of a message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The default limit of a subscription's queue, in messages.
pub const QUEUE_MESSAGES_MAX: usize = 65_536;

/// Settings of the in-process bus.
#[derive(Clone, Debug)]
pub struct LocalBusSettings {
    /// The largest message, payload and headers together, in bytes.
    pub message_bytes_max: usize,
    /// The upper limit of a subscription's queue, whatever capacity it requests, in messages.
    pub queue_messages_max: usize,
}

impl Default for LocalBusSettings {
    fn default() -> Self {
        Self { message_bytes_max: MESSAGE_BYTES_MAX, queue_messages_max: QUEUE_MESSAGES_MAX }
    }
}

/// The in-process bus: see the module.
pub struct LocalBus {
    settings: LocalBusSettings,
    /// `None` once closed. Locked only for look-ups and changes, never during delivery.
    interest: RwLock<Option<Interest<Arc<Listener>>>>,
    /// Pending requests, by the last token of their reply subject.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
    inbox: String,
    numbers: AtomicU64,
    turns: AtomicU64,
    /// Messages that full queues dropped, of all subscribers.
    lost: Counter,
    itself: Weak<Self>,
}

/// The sending end of a subscription.
struct Listener {
    group: Option<QueueGroup>,
    feed: QueueSender,
}

impl LocalBus {
    /// A bus without subscribers.
    #[expect(clippy::disallowed_methods, reason = "an address that no other bus has")]
    pub fn new(settings: LocalBusSettings) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            settings,
            interest: RwLock::new(Some(Interest::default())),
            waiting: Mutex::default(),
            inbox: format!("_INBOX.{}.", Uuid::now_v7().simple()),
            numbers: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            lost: Counter::default(),
            itself: itself.clone(),
        })
    }

    /// Closes the bus: subscriptions end after the messages in their queues, pending requests fail,
    /// and nothing more is accepted. Idempotent.
    pub fn close(&self) {
        let interest = self.interest.write().take();
        let waiting = std::mem::take(&mut *self.waiting());
        drop((interest, waiting));
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        self.waiting.lock()
    }

    fn check_size(&self, message: &Message) -> Result<(), PublishError> {
        let bytes = message.bytes();
        let bytes_max = self.settings.message_bytes_max;
        if bytes > bytes_max {
            return Err(PublishError::TooLarge { bytes, bytes_max });
        }
        Ok(())
    }

    /// Delivers a message to its subscribers; returns whether there are any.
    fn route(&self, message: Message) -> Result<bool, PublishError> {
        let mut plain: Vec<Arc<Listener>> = Vec::new();
        let mut queued: Vec<Arc<Listener>> = Vec::new();
        {
            let interest = self.interest.read();
            let interest = interest.as_ref().ok_or(PublishError::Closed)?;
            interest.matching(message.subject.as_str(), &mut |listener| {
                let list = if listener.group.is_some() { &mut queued } else { &mut plain };
                list.push(listener.clone());
            });
        }
        let mut heard = false;
        while let Some(listener) = plain.pop() {
            // The last listener gets the message itself instead of a copy.
            if plain.is_empty() && queued.is_empty() {
                return Ok(deliver(&listener, message) | heard);
            }
            heard |= deliver(&listener, message.clone());
        }
        while let Some(first) = queued.first() {
            let group = first.group;
            let (members, others): (Vec<_>, Vec<_>) =
                queued.into_iter().partition(|listener| listener.group == group);
            queued = others;
            if queued.is_empty() {
                return Ok(self.share(&members, message) | heard);
            }
            heard |= self.share(&members, message.clone());
        }
        Ok(heard)
    }

    /// Delivers a message to one member of a queue group that has room.
    fn share(&self, members: &[Arc<Listener>], mut message: Message) -> bool {
        // Scattered instead of round-robin: messages that alternate between two groups must not
        // always reach the same member of each.
        let turn = scatter(self.turns.fetch_add(1, Ordering::Relaxed));
        let start = usize::try_from(turn % members.len() as u64).unwrap_or_default();
        let mut full: Option<&Listener> = None;
        for member in members.iter().cycle().skip(start).take(members.len()) {
            message = match member.feed.push(message) {
                Ok(()) => return true,
                Err(PushError::Full(message)) => {
                    full = full.or(Some(member));
                    message
                }
                Err(PushError::Closed(message)) => message,
            };
        }
        full.inspect(|member| member.feed.count_lost()).is_some()
    }
}

/// Delivers a message to one listener; returns whether it still listens.
fn deliver(listener: &Listener, message: Message) -> bool {
    match listener.feed.push(message) {
        Ok(()) => true,
        Err(PushError::Full(_)) => {
            listener.feed.count_lost();
            true
        }
        Err(PushError::Closed(_)) => false,
    }
}

/// Spreads consecutive numbers over the whole range (the finaliser of `SplitMix64`, Steele et al.
/// 2014).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Removes a pending request when it ends, in whatever way.
struct RequestWait<'a> {
    bus: &'a LocalBus,
    number: u64,
}

impl Drop for RequestWait<'_> {
    fn drop(&mut self) {
        self.bus.waiting().remove(&self.number);
    }
}

/// Removes a subscription when dropped.
struct LocalSubscription {
    bus: Weak<LocalBus>,
    filter: SubjectFilter,
    number: u64,
}

impl SubscriptionGuard for LocalSubscription {
    // A message is in the queue before `publish` returns.
    fn drain(self: Box<Self>) {}
}

impl Drop for LocalSubscription {
    fn drop(&mut self) {
        let Some(bus) = self.bus.upgrade() else { return };
        let mut interest = bus.interest.write();
        if let Some(interest) = interest.as_mut() {
            interest.remove(&self.filter, self.number);
        }
    }
}

impl MetricSource for LocalBus {
    fn register_metrics(&self, registry: &mut Registry) {
        registry.register(
            "bus_messages_lost",
            "Messages on the bus within the process dropped by a subscriber's full queue",
            self.lost.clone(),
        );
    }
}

#[async_trait::async_trait]
impl Bus for LocalBus {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.check_size(&message)?;
        let number = message.subject.as_str().strip_prefix(&self.inbox);
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            let asker = self.waiting().remove(&number);
            if let Some(asker) = asker {
                // The caller may have given up meanwhile.
                let _ = asker.send(message.clone());
            }
        }
        self.route(message).map(|_| ())
    }

    async fn publish_all(&self, messages: Vec<Message>) -> Result<(), PublishError> {
        for message in messages {
            self.publish(message).await?;
        }
        Ok(())
    }

    async fn request(
        &self,
        mut message: Message,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        self.check_size(&message)?;
        let subject = message.subject.clone();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let reply = format!("{}{number}", self.inbox);
        let reply: Subject =
            reply.parse().map_err(|error| PublishError::Broken(format!("{error}")))?;
        message.reply = Some(reply);
        let (asker, answer) = oneshot::channel();
        self.waiting().insert(number, asker);
        let _wait = RequestWait { bus: self, number };
        if !self.route(message)? {
            return Err(RequestError::NoResponders(subject));
        }
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(PublishError::Closed.into()),
            Err(_) => Err(RequestError::TimedOut { subject, after: timeout }),
        }
    }

    async fn subscribe(
        &self,
        filter: SubjectFilter,
        group: Option<QueueGroup>,
        capacity: usize,
    ) -> Result<Subscription, SubscribeError> {
        let capacity = capacity.min(self.settings.queue_messages_max);
        let (feed, waiting) = bounded_counting(capacity, self.lost.clone());
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let listener = Arc::new(Listener { group, feed });
        {
            let mut interest = self.interest.write();
            let interest = interest.as_mut().ok_or(SubscribeError::Closed)?;
            interest.insert(&filter, number, listener);
        }
        Ok(Subscription::new(
            waiting,
            LocalSubscription { bus: self.itself.clone(), filter, number },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    async fn listen(
        bus: &LocalBus,
        filter: &str,
        queue: Option<QueueGroup>,
        capacity: usize,
    ) -> Subscription {
        bus.subscribe(filter.parse().unwrap(), queue, capacity).await.unwrap()
    }

    #[tokio::test]
    async fn closing_ends_everybodys_wait() {
        let bus = LocalBus::new(LocalBusSettings::default());
        let mut listener = listen(&bus, "a", None, 8).await;
        let asked = tokio::spawn({
            let bus = bus.clone();
            async move { bus.request(Message::new(subject("a"), "?"), Duration::MAX).await }
        });
        let question = listener.next().await.unwrap();
        bus.publish(Message::new(subject("a"), "unread")).await.unwrap();
        bus.close();
        bus.close();
        assert_eq!(asked.await.unwrap(), Err(PublishError::Closed.into()));
        assert_eq!(listener.next().await.unwrap().payload, "unread");
        assert_eq!(listener.next().await, None);
        let answer = Message::new(question.reply.unwrap(), "!");
        assert_eq!(bus.publish(answer).await, Err(PublishError::Closed));
        let refused = bus.subscribe("a".parse().unwrap(), None, 8).await;
        assert_eq!(refused.err(), Some(SubscribeError::Closed));
    }

    #[tokio::test]
    async fn a_full_member_of_a_queue_group_is_passed_over() {
        let bus = LocalBus::new(LocalBusSettings::default());
        let full = listen(&bus, "a", Some("q"), 1).await;
        let mut roomy = listen(&bus, "*", Some("q"), 100).await;
        for _ in 0..101 {
            bus.publish(Message::new(subject("a"), "")).await.unwrap();
        }
        assert_eq!((full.lost(), roomy.lost()), (0, 0));
        bus.publish(Message::new(subject("a"), "")).await.unwrap();
        assert_eq!(full.lost() + roomy.lost(), 1);
        assert_eq!(bus.lost.get(), 1, "the bus counts those of all subscribers");
        assert!(roomy.try_next().is_some());
    }

    #[tokio::test]
    async fn groups_that_alternate_still_reach_every_member() {
        let bus = LocalBus::new(LocalBusSettings::default());
        let mut members = Vec::new();
        for queue in ["red", "red", "blue", "blue"] {
            members.push(listen(&bus, "a", Some(queue), 100).await);
        }
        for _ in 0..100 {
            bus.publish(Message::new(subject("a"), "")).await.unwrap();
        }
        assert!(members.iter_mut().all(|member| member.try_next().is_some()));
    }

    #[tokio::test]
    async fn a_request_to_full_queues_only_times_out_and_leaves_nothing_behind() {
        let bus = LocalBus::new(LocalBusSettings::default());
        let listener = listen(&bus, "a", None, 1).await;
        for _ in 0..2 {
            let after = Duration::from_millis(1);
            let refused = bus.request(Message::new(subject("a"), ""), after).await;
            assert_eq!(refused, Err(RequestError::TimedOut { subject: subject("a"), after }));
        }
        assert_eq!(listener.lost(), 1);
        assert!(bus.waiting().is_empty());
    }

    #[tokio::test]
    async fn an_answer_can_be_watched_like_any_message() {
        let bus = LocalBus::new(LocalBusSettings::default());
        let mut requests = listen(&bus, "a", None, 1).await;
        let mut watcher = listen(&bus, "_INBOX.>", None, 1).await;
        let asked = tokio::spawn({
            let bus = bus.clone();
            async move { bus.request(Message::new(subject("a"), "?"), Duration::MAX).await }
        });
        let reply = requests.next().await.unwrap().reply.unwrap();
        bus.publish(Message::new(reply, "!")).await.unwrap();
        assert_eq!(watcher.next().await.unwrap(), asked.await.unwrap().unwrap());
    }
}
