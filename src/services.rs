//! The actors as NATS services: what is asked of them on a bus outside is asked on the bus inside, and answered there.
//!
//! *Promises.* Each actor is a service `ai-factory-<actor>` with one endpoint an operation, on the operation's subject.
//! A refusal has the headers of NATS ADR-32 and the body of a problem. When the factory ends, what had come is answered.
//!
//! *Limits.* At most `requests_max` requests are under way at each service; one more is refused at once, with the time to
//! try again. What is answered must fit into the bus outside.
//!
//! *Not here.* Admission to the work itself: the actor does that, as for everybody else.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use ai_factory_actors::{
    client,
    ports::{
        bus::{Bus, Message, PublishError, SubscribeError, header},
        world::World,
    },
    service::{QUEUE_GROUP, REQUESTS_UNREAD_MAX},
};
use ai_factory_schemas::{
    catalogue,
    problem::Problem,
    session::Door,
    subject::{Operation, Subject, Subjects, operation},
};
use bytes::Bytes;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::micro::{self, Endpoint, Metadata, Service};

/// What the services' names begin with.
const NAME_PREFIX: &str = "ai-factory-";
/// When to try again where too many requests are under way: by then some will have left.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The services' names and what they are for.
const SERVICES: [(&str, &str); 4] = [
    ("planner", "Turns prompts into plans."),
    ("memory", "Keeps notes, and finds what was remembered."),
    ("debugger", "Runs code in a sandbox."),
    ("supervisor", "Takes goals in, and works on them until they are done."),
];

/// How long answers may take.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// That of a run of code.
    pub run: Duration,
    /// That of a whole session.
    pub session: Duration,
    /// Any other.
    pub other: Duration,
}

/// The actors, as they are asked from outside.
pub struct Services {
    /// Where they are asked.
    pub outside: Arc<dyn Bus>,
    /// Where they are.
    pub inside: Arc<dyn Bus>,
    /// The subjects, the same on both.
    pub subjects: Subjects,
    /// Ids and the time of the start.
    pub world: Arc<dyn World>,
    /// The name of this node.
    pub node: String,
    /// How many requests may be under way at each.
    pub requests_max: usize,
    /// How long answers may take.
    pub answers: AnswerLimits,
}

impl Services {
    /// Begins to serve, in tasks of its own. They end when `ended` says so and all that had come is answered.
    pub async fn start(
        self,
        tasks: &mut JoinSet<()>,
        ended: &watch::Receiver<bool>,
    ) -> Result<(), SubscribeError> {
        for (actor, about) in SERVICES {
            let room = Arc::new(Semaphore::new(self.requests_max));
            let mut endpoints = Vec::new();
            for asked in operation::ALL.iter().filter(|operation| operation.actor == actor) {
                let subject = self.subjects.operation(*asked);
                let endpoint = Endpoint::new(asked.verb, subject, QUEUE_GROUP, told_of(*asked));
                endpoints.push(Arc::clone(&endpoint));
                let filter = (&endpoint.subject).into();
                let requests =
                    self.outside.subscribe(filter, Some(QUEUE_GROUP), REQUESTS_UNREAD_MAX).await?;
                let carrier = Arc::new(Carrier {
                    outside: Arc::clone(&self.outside),
                    inside: Arc::clone(&self.inside),
                    room: Arc::clone(&room),
                    requests_max: self.requests_max,
                    answer_max: self.answers.of(*asked),
                    endpoint,
                });
                tasks.spawn(micro::serve(requests, ended.clone(), move |request| {
                    let carrier = Arc::clone(&carrier);
                    async move { carrier.carry(request).await }
                }));
            }
            let service = Service {
                name: format!("{NAME_PREFIX}{actor}"),
                id: self.world.new_id().simple().to_string(),
                version: env!("CARGO_PKG_VERSION"),
                description: about.to_owned(),
                metadata: micro::metadata([("node", &self.node)]),
                started: self.world.now(),
                endpoints,
            };
            let outside = Arc::clone(&self.outside);
            tasks.spawn(micro::answer_discovery(Arc::new(service), outside, ended.clone()));
        }
        Ok(())
    }
}

impl AnswerLimits {
    fn of(self, asked: Operation) -> Duration {
        match asked {
            operation::DEBUGGER_RUN => self.run,
            operation::SUPERVISOR_RUN => self.session,
            _ => self.other,
        }
    }
}

/// What an endpoint says of itself: what it is for, and under `schema` the JSON Schemas of its request and its answer. They
/// stand there as a whole, so that whoever finds the service needs no file of ours to ask it.
fn told_of(asked: Operation) -> Metadata {
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

/// Carries the requests of one endpoint inside, and their answers back.
struct Carrier {
    outside: Arc<dyn Bus>,
    inside: Arc<dyn Bus>,
    room: Arc<Semaphore>,
    requests_max: usize,
    answer_max: Duration,
    endpoint: Arc<Endpoint>,
}

impl Carrier {
    async fn carry(&self, mut request: Message) {
        let begun = Instant::now();
        let reply = request.reply.take();
        let answer = match self.room.try_acquire() {
            Ok(_place) => {
                request.headers.set(header::DOOR, Door::Nats.as_str());
                client::ask(&*self.inside, request, self.answer_max).await
            }
            Err(_) => Err(Problem::busy(
                format!("{} requests are under way already: try again", self.requests_max),
                RETRY_AFTER,
            )),
        };
        let refused = match reply {
            Some(reply) => self.answer(reply, answer).await,
            None => answer.err(),
        };
        self.endpoint.count(refused.as_ref(), begun.elapsed());
    }

    /// Sends the answer. One that is too large for the bus outside becomes a refusal that says so.
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
                // The asker asks again when there is a connection again.
                tracing::debug!(%error, "an answer could not be sent");
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
        (message.headers, message.payload) = client::write_answer(answer);
        self.outside.publish(message).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_belongs_to_a_service_and_says_what_it_takes() {
        for asked in operation::ALL {
            assert!(SERVICES.iter().any(|(actor, _)| *actor == asked.actor), "{asked}");
            let told = told_of(*asked)();
            assert!(told["description"].ends_with('.'), "{asked}");
            let schema: serde_json::Value = serde_json::from_str(&told["schema"]).unwrap();
            assert!(schema["request"].is_object() && schema["response"].is_object(), "{asked}");
        }
    }
}
