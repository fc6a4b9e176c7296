//! The actors as NATS services: requests on the external bus are forwarded to the internal bus and
//! answered there.
//!
//! *Promises.* Each actor is a service `ai-factory-<actor>` with one endpoint per operation, on the
//! operation's subject. A refusal has the headers of NATS ADR-32 and a problem as its body. When
//! the factory ends, the requests that had arrived are answered.
//!
//! *Limits.* At most `requests_max` requests are in progress per service; further ones are refused
//! at once, with a retry delay. A reply must fit into a message of the external bus.
//!
//! *Not here.* Admission to the work itself: the actor decides that, as for every ingress.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use ai_factory_actors::intake::{QUEUE_GROUP, REQUESTS_UNREAD_MAX};
use ai_factory_ports::{
    bus::{Bus, Message, PublishError, SubscribeError, header},
    clock::{Clock, IdSource},
    ingress, request_reply, retry_after,
};
use ai_factory_schemas::{
    catalogue,
    problem::Problem,
    session::Ingress,
    subject::{Operation, Subject, Subjects, operation},
};
use bytes::Bytes;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    bridge::{ANSWER_MAX, RUN_ANSWER_MAX},
    config::Settings,
    micro::{self, Endpoint, Metadata, MicroService},
};

/// The prefix of the services' names.
const NAME_PREFIX: &str = "ai-factory-";

/// The services' names and descriptions.
const SERVICES: [(&str, &str); 4] = [
    ("planner", "Turns prompts into plans."),
    ("memory", "Stores notes and searches them."),
    ("debugger", "Runs code in a sandbox."),
    ("supervisor", "Accepts goals and runs their sessions."),
];

/// Additional time for a reply beyond the limit of its work.
const ANSWER_GRACE: Duration = Duration::from_mins(1);

/// Timeouts of replies, over NATS and over HTTP.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// For a run of code.
    pub run: Duration,
    /// For a whole session.
    pub session: Duration,
    /// For any other operation.
    pub other: Duration,
}

/// The actors' services on the external bus.
pub struct Services {
    /// The bus of the requests.
    pub outside: Arc<dyn Bus>,
    /// The bus of the actors.
    pub inside: Arc<dyn Bus>,
    /// The subjects, the same on both.
    pub subjects: Subjects,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn IdSource>,
    /// The name of this node.
    pub node: String,
    /// Limit of requests in progress per service.
    pub requests_max: usize,
    /// Timeouts of replies.
    pub answers: AnswerLimits,
}

impl Services {
    /// Starts serving, in tasks of its own. They end after `ended`, once all requests that had
    /// arrived are answered.
    pub async fn start(
        self,
        tasks: &mut JoinSet<()>,
        ended: &CancellationToken,
    ) -> Result<(), SubscribeError> {
        for (actor, about) in SERVICES {
            let room = Arc::new(Semaphore::new(self.requests_max));
            let mut endpoints = Vec::new();
            for asked in operation::ALL.iter().filter(|operation| operation.actor == actor) {
                let subject = self.subjects.operation(*asked);
                let endpoint = Endpoint::new(asked.verb, subject, QUEUE_GROUP, describe(*asked));
                endpoints.push(Arc::clone(&endpoint));
                let filter = (&endpoint.subject).into();
                let requests =
                    self.outside.subscribe(filter, Some(QUEUE_GROUP), REQUESTS_UNREAD_MAX).await?;
                let carrier = Arc::new(EndpointForwarder {
                    outside: Arc::clone(&self.outside),
                    inside: Arc::clone(&self.inside),
                    room: Arc::clone(&room),
                    requests_max: self.requests_max,
                    answer_max: self.answers.of(*asked),
                    pending_after: self.answers.pending_after(*asked),
                    endpoint,
                });
                tasks.spawn(micro::serve(requests, ended.clone(), move |request| {
                    let carrier = Arc::clone(&carrier);
                    async move { carrier.forward(request).await }
                }));
            }
            let service = MicroService {
                name: format!("{NAME_PREFIX}{actor}"),
                id: self.ids.new_id().simple().to_string(),
                version: env!("CARGO_PKG_VERSION"),
                description: about.to_owned(),
                metadata: micro::metadata([("node", &self.node)]),
                started: self.clock.now(),
                endpoints,
            };
            let outside = Arc::clone(&self.outside);
            tasks.spawn(micro::answer_discovery(Arc::new(service), outside, ended.clone()));
        }
        Ok(())
    }
}

impl AnswerLimits {
    /// The limits of the work, and a margin.
    pub fn new(settings: &Settings) -> Self {
        let wall = |limit_ms: u64| Duration::from_millis(limit_ms).saturating_add(ANSWER_GRACE);
        Self {
            run: wall(settings.run_wall_ms_max).max(RUN_ANSWER_MAX),
            // A session with a check has the time of two checks more.
            session: wall(
                settings
                    .session_ms_max
                    .saturating_add(settings.check_wall_ms_max.saturating_mul(2)),
            ),
            other: ANSWER_MAX,
        }
    }

    /// When a session with a model is answered as it is: in time for its caller.
    fn pending_after(self, asked: Operation) -> Option<Duration> {
        matches!(asked, operation::SUPERVISOR_RUN | operation::SUPERVISOR_WAIT)
            .then(|| self.of(asked).saturating_sub(ANSWER_GRACE))
    }

    fn of(self, asked: Operation) -> Duration {
        match asked {
            operation::DEBUGGER_RUN => self.run,
            operation::SUPERVISOR_RUN | operation::SUPERVISOR_WAIT => self.session,
            _ => self.other,
        }
    }
}

/// An endpoint's metadata: its description, and under `schema` the JSON Schemas of request and
/// reply. They are complete, so that a client needs no other file.
fn describe(asked: Operation) -> Metadata {
    let kept: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    Box::new(move || {
        let make = || {
            let schema = catalogue::of_operation(asked).map(|(request, answer)| {
                serde_json::json!({ "request": request, "response": answer }).to_string()
            });
            let about = operation::about(asked).to_owned();
            [("description", about), ("schema", schema.unwrap_or_default())]
                .map(|(name, value)| (name.to_owned(), value))
                .into()
        };
        kept.get_or_init(make).clone()
    })
}

/// Forwards the requests of one endpoint, and the replies.
struct EndpointForwarder {
    outside: Arc<dyn Bus>,
    inside: Arc<dyn Bus>,
    room: Arc<Semaphore>,
    requests_max: usize,
    answer_max: Duration,
    /// When a session with a model is answered as it is.
    pending_after: Option<Duration>,
    endpoint: Arc<Endpoint>,
}

impl EndpointForwarder {
    async fn forward(&self, mut request: Message) {
        let begun = Instant::now();
        let reply = request.reply.take();
        let answer = match self.room.try_acquire() {
            Ok(_permit) => {
                request.headers = ingress::of_message(Ingress::Nats, &request.headers);
                if let Some(within) = self.pending_after {
                    let within = within.as_millis().to_string();
                    request.headers.set(header::ANSWER_WITHIN, within);
                }
                request_reply::ask(&*self.inside, request, self.answer_max).await
            }
            Err(_) => Err(Problem::busy(
                format!("{} requests are already in progress: try again", self.requests_max),
                retry_after::REQUEST,
            )),
        };
        let refused = match reply {
            Some(reply) => self.answer(reply, answer).await,
            None => answer.err(),
        };
        self.endpoint.count(refused.as_ref(), begun.elapsed());
    }

    /// Sends the reply. One too large for the external bus becomes a refusal that says so.
    async fn answer(&self, reply: Subject, answer: Result<Bytes, Problem>) -> Option<Problem> {
        let refused = answer.as_ref().err().cloned();
        match self.send(reply.clone(), answer).await {
            Ok(()) => refused,
            Err(error @ PublishError::TooLarge { .. }) => {
                let problem = Problem::too_large(format!(
                    "the answer does not fit ({error}): ask for less, or over HTTP"
                ));
                let _ = self.send(reply, Err(problem.clone())).await;
                Some(problem)
            }
            Err(error) => {
                // The caller repeats its request when there is a connection again.
                tracing::debug!(%error, "a reply could not be sent");
                Some(Problem::unavailable(error.to_string()))
            }
        }
    }

    async fn send(
        &self,
        reply: Subject,
        answer: Result<Bytes, Problem>,
    ) -> Result<(), PublishError> {
        let mut message = Message::new(reply, Bytes::new());
        (message.headers, message.payload) = request_reply::write_answer(answer);
        self.outside.publish(message).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, SettingsSources};

    #[test]
    fn a_session_is_waited_for_as_long_as_its_steps_and_two_checks_may_take() {
        let set = ["session_ms_max=1000", "check_wall_ms_max=400000"].map(str::to_owned);
        let sources = SettingsSources { set: set.into(), ..SettingsSources::default() };
        let settings = config::load(&sources).unwrap().settings;
        let limits = AnswerLimits::new(&settings);
        let expected = Duration::from_secs(801) + ANSWER_GRACE;
        assert_eq!(limits.of(operation::SUPERVISOR_RUN), expected);
        assert!(limits.of(operation::SUPERVISOR_SUBMIT) < expected);
    }

    #[test]
    fn every_operation_belongs_to_a_service_and_says_what_it_takes() {
        for asked in operation::ALL {
            assert!(SERVICES.iter().any(|(actor, _)| *actor == asked.actor), "{asked}");
            let described = describe(*asked)();
            assert!(described["description"].ends_with('.'), "{asked}");
            let schema: serde_json::Value = serde_json::from_str(&described["schema"]).unwrap();
            assert!(schema["request"].is_object() && schema["response"].is_object(), "{asked}");
        }
    }
}
