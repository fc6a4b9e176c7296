//! A bus whose messages have spans (OpenTelemetry semantic conventions for messaging).
//!
//! *Promises.* Messages pass unchanged except for the header `traceparent`, which names the
//! message's own span if that is exported. A message sent within a span belongs to its trace,
//! otherwise to the trace in its header. Subjects with ids are attributes; a span's name has `{id}`
//! in their place.
//!
//! *Not here.* The receiving side: a message's receiver opens its own span.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::{
        Bus, MESSAGING_SYSTEM, Message, PublishError, QueueGroup, RequestError, SubscribeError,
        Subscription, header,
    },
    trace::Traces,
};
use ai_factory_schemas::subject::SubjectFilter;
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

/// The prefix of reply subjects.
const INBOX_PREFIX: &str = "_INBOX.";

/// The span of sending a message. The fields are the same for all operations; level and kind
/// differ. The log does not show this span's own name (`src/telemetry`): its content is in the
/// receiver's span.
macro_rules! sending {
    ($level:ident, $kind:literal, $operation:literal, $message:expr) => {{
        let subject = $message.subject.as_str();
        tracing::span!(
            tracing::Level::$level,
            concat!("bus ", $operation),
            otel.kind = $kind,
            otel.name = %format_args!(concat!($operation, " {}"), template(subject)),
            otel.status_code = Empty,
            messaging.system = MESSAGING_SYSTEM,
            messaging.operation.name = $operation,
            "messaging.operation.type" = "send",
            messaging.destination.name = subject,
            messaging.destination.template = template(subject),
            messaging.message.id = $message.headers.get(header::MESSAGE_ID),
            messaging.message.body.size = i64::try_from($message.payload.len()).unwrap_or(i64::MAX),
        )
    }};
}

/// A bus whose messages have spans: see the module.
pub struct TracedBus {
    bus: Arc<dyn Bus>,
    traces: Arc<dyn Traces>,
}

impl TracedBus {
    /// Wraps a bus.
    pub fn new(bus: Arc<dyn Bus>, traces: Arc<dyn Traces>) -> Self {
        Self { bus, traces }
    }

    /// Adds a span to each message, where spans are exported: for callers that publish the messages
    /// by other means.
    pub fn trace_all(&self, messages: &mut [Message]) {
        for message in messages {
            let span = sending!(INFO, "producer", "publish", message);
            if span.is_disabled() {
                break;
            }
            self.trace_message(&span, message);
        }
    }

    /// Adds the message's span to its trace, and puts it into the header for the receiver.
    fn trace_message(&self, span: &Span, message: &mut Message) {
        if Span::current().is_disabled()
            && let Some(traceparent) = message.headers.get(header::TRACEPARENT)
        {
            self.traces.adopt(span, traceparent);
        }
        if let Some(traceparent) = self.traces.of(span) {
            message.headers.set(header::TRACEPARENT, traceparent);
        }
    }
}

/// The subject with `{id}` for each id: few enough values to be span names.
fn template(subject: &str) -> String {
    if subject.starts_with(INBOX_PREFIX) {
        return "(temporary)".to_owned();
    }
    let tokens = subject.split('.');
    let tokens: Vec<_> =
        tokens.map(|token| if Uuid::parse_str(token).is_ok() { "{id}" } else { token }).collect();
    tokens.join(".")
}

fn noted<T, E>(span: &Span, done: Result<T, E>) -> Result<T, E> {
    if done.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    done
}

#[async_trait::async_trait]
impl Bus for TracedBus {
    async fn publish(&self, mut message: Message) -> Result<(), PublishError> {
        // A reply belongs to its request, which has a span at both ends.
        let span = if message.subject.as_str().starts_with(INBOX_PREFIX) {
            sending!(DEBUG, "producer", "answer", message)
        } else {
            sending!(INFO, "producer", "publish", message)
        };
        if span.is_disabled() {
            return self.bus.publish(message).await;
        }
        self.trace_message(&span, &mut message);
        noted(&span, self.bus.publish(message).instrument(span.clone()).await)
    }

    async fn publish_all(&self, mut messages: Vec<Message>) -> Result<(), PublishError> {
        self.trace_all(&mut messages);
        self.bus.publish_all(messages).await
    }

    async fn request(
        &self,
        mut message: Message,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        let span = sending!(INFO, "client", "request", message);
        if span.is_disabled() {
            return self.bus.request(message, timeout).await;
        }
        self.trace_message(&span, &mut message);
        noted(&span, self.bus.request(message, timeout).instrument(span.clone()).await)
    }

    async fn subscribe(
        &self,
        filter: SubjectFilter,
        queue: Option<QueueGroup>,
        capacity: usize,
    ) -> Result<Subscription, SubscribeError> {
        self.bus.subscribe(filter, queue, capacity).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ai_factory_ports::trace::NoTraces;
    use tracing_subscriber::registry;

    use super::*;
    use crate::{LocalBus, LocalBusSettings};

    /// Records what is adopted; every span has the same traceparent.
    #[derive(Default)]
    struct AdoptedTrace(Mutex<Vec<String>>);

    impl Traces for AdoptedTrace {
        fn adopt(&self, _: &Span, traceparent: &str) {
            self.0.lock().unwrap().push(traceparent.to_owned());
        }

        fn of(&self, _: &Span) -> Option<String> {
            Some("of the message".to_owned())
        }
    }

    /// The `traceparent` of a received message that was sent with one.
    async fn arrives(bus: &TracedBus) -> Option<String> {
        let mut listener = bus.subscribe("a".parse().unwrap(), None, 1).await.unwrap();
        let mut message = Message::new("a".parse().unwrap(), "");
        message.headers.set(header::TRACEPARENT, "as it came");
        bus.publish(message).await.unwrap();
        listener.next().await.unwrap().headers.get(header::TRACEPARENT).map(str::to_owned)
    }

    #[tokio::test]
    async fn a_message_goes_on_in_the_trace_of_its_sender_else_in_the_one_it_names() {
        let _telling = tracing::subscriber::set_default(registry());
        let noted = Arc::new(AdoptedTrace::default());
        let local: Arc<dyn Bus> = LocalBus::new(LocalBusSettings::default());
        let bus = TracedBus::new(Arc::clone(&local), Arc::clone(&noted) as Arc<dyn Traces>);
        assert_eq!(arrives(&bus).await.as_deref(), Some("of the message"));
        assert_eq!(*noted.0.lock().unwrap(), ["as it came"]);
        let within = tracing::info_span!("sender");
        assert_eq!(arrives(&bus).instrument(within).await.as_deref(), Some("of the message"));
        assert_eq!(*noted.0.lock().unwrap(), ["as it came"]);
        let untraced = TracedBus::new(local, Arc::new(NoTraces));
        assert_eq!(arrives(&untraced).await.as_deref(), Some("as it came"));
    }

    #[test]
    fn names_of_spans_hold_no_ids() {
        let id = Uuid::from_u128(7);
        for (subject, expected) in [
            ("factory.planner.dispatch".to_owned(), "factory.planner.dispatch"),
            (format!("factory.events.run.{id}.finished"), "factory.events.run.{id}.finished"),
            (format!("_INBOX.{}.12", id.simple()), "(temporary)"),
        ] {
            assert_eq!(template(&subject), expected);
        }
    }
}
