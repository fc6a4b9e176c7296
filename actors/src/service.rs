//! The actor around every service: its subjects, its admission control, its answers.
//!
//! *Promises.* Every request gets exactly one answer: if the actor dies with requests in progress
//! or unread, their callers are told at once to retry. A request beyond the limits is refused with
//! the time to retry after. The span of a request continues the trace of its message and ends with
//! the answer.
//!
//! *Limits.* [`crate::deps::Limits::requests_waiting_max`] requests in progress at once, with bodies
//! of [`REQUESTS_BYTES_MAX`] together; admission is controlled here because ractor's inboxes are
//! unbounded. Up to [`REQUESTS_UNREAD_MAX`] requests, of
//! [`QUEUE_BYTES_MAX`](ai_factory_ports::queue::QUEUE_BYTES_MAX) together, wait for admission or
//! refusal.

use std::{future::Future, marker::PhantomData, sync::Arc};

use ai_factory_ports::{
    body::read_body,
    bus::{Bus, Headers, Message, PublishError, Subscription, header},
    clock::IdSource,
    journal::Command,
    request_reply::write_answer,
    retry_after,
    trace::is_traceparent,
};
use ai_factory_schemas::{
    envelope::Trail,
    id::{CommandId, RequestId},
    limit::SUBMITTER_CHARS_MAX,
    problem::Problem,
    quote::printable,
    session::{Ingress, Submitter},
    subject::Subject,
    text::BlobHash,
};
use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::{
    answer_cache::{AnswerCache, PendingAnswer},
    deps::Deps,
    spans,
};

/// The queue group that factories on one server share (NATS ADR-32).
pub const QUEUE_GROUP: &str = "q";
/// Inbox capacity of one subscriber. Beyond it messages are dropped and callers time out. A refusal
/// takes a moment: in most factories this is far above
/// [`crate::deps::Limits::requests_waiting_max`], and never below.
pub const REQUESTS_UNREAD_MAX: usize = 65_536;
/// Bodies of the requests that one actor has in progress, together, in bytes: 32 of the largest
/// over HTTP.
pub const REQUESTS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a request carries beside its body.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The caller's id for the request, or a new one.
    pub request_id: RequestId,
    /// The key under which it takes effect at most once.
    pub key: Option<CommandId>,
    /// Reason for refusing the request whatever its body: an invalid key, or unreadable headers.
    pub fault: Option<Problem>,
    /// W3C trace context: of the request's own span if traces are exported, otherwise of the
    /// message.
    pub traceparent: Option<String>,
    /// The session that the request belongs to.
    pub correlation: Option<Uuid>,
    /// The event or message that caused it.
    pub causation: Option<Uuid>,
    /// The submitter, if the ingress named one.
    pub submitter: Option<Submitter>,
}

impl RequestContext {
    fn read(headers: &Headers, new_id: impl FnOnce() -> Uuid) -> Self {
        let uuid = |name| headers.get(name).and_then(|text| Uuid::parse_str(text).ok());
        let (key, fault) = match headers.get(header::MESSAGE_ID).map(str::parse::<CommandId>) {
            None => (None, None),
            Some(Ok(key)) => (Some(key), None),
            Some(Err(fault)) => {
                let sentence = format!("`{}`: {fault}", header::MESSAGE_ID);
                (None, Some(Problem::bad_request(sentence)))
            }
        };
        let unreadable = headers.get(header::FAULT).map(Problem::bad_request);
        Self {
            request_id: headers
                .get(header::REQUEST_ID)
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| new_id().into()),
            key,
            fault: unreadable.or(fault),
            traceparent: headers
                .get(header::TRACEPARENT)
                .filter(|text| is_traceparent(text))
                .map(str::to_owned),
            correlation: uuid(header::CORRELATION),
            causation: uuid(header::CAUSATION),
            submitter: headers.get(header::INGRESS).and_then(Ingress::from_name).map(|ingress| {
                Submitter {
                    ingress,
                    claims_to_be: headers
                        .get(header::SUBMITTER)
                        .map(|name| printable(name.trim(), SUBMITTER_CHARS_MAX))
                        .filter(|name| !name.is_empty()),
                    proven_to_be: headers
                        .get(header::PROVEN)
                        .filter(|_| ingress == Ingress::Agent)
                        .map(|id| printable(id, SUBMITTER_CHARS_MAX)),
                }
            }),
        }
    }

    /// The context of work that the factory starts itself.
    pub fn internal(ids: &dyn IdSource) -> Self {
        Self {
            request_id: ids.new_id().into(),
            key: None,
            fault: None,
            traceparent: None,
            correlation: None,
            causation: None,
            submitter: None,
        }
    }

    /// The trail of the events that the request causes.
    pub fn trail(&self) -> Trail {
        Trail {
            causation: self.causation,
            correlation: self.correlation,
            traceparent: self.traceparent.clone(),
        }
    }

    /// The command to record with an append, if the request has a key. The same key with another
    /// `body` is a different request, and refused.
    pub fn command(&self, verb: &str, body: &impl Serialize) -> Option<Command> {
        let id = self.key.clone()?;
        let body = serde_json::to_string(body).unwrap_or_default();
        Some(Command { id, fingerprint: BlobHash::of(format!("{verb} {body}").as_bytes()) })
    }
}

/// A request in progress.
pub struct Request {
    /// The operation: the last token of the subject.
    pub verb: String,
    /// Ids, key and trace.
    pub context: RequestContext,
    /// The JSON body.
    pub body: Bytes,
    /// The one answer.
    pub reply: Reply,
}

impl Request {
    /// The body as `T`, or the problem. An empty body counts as `{}`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        read_body(&self.body)
    }
}

/// The only answer of a request.
pub struct Reply {
    /// The address, if an answer is expected; `None` after sending.
    to: Option<(Arc<dyn Bus>, Subject)>,
    /// The request's span; it ends with the answer.
    span: Span,
    /// The question, if its answer is to be cached.
    asked: Option<(Box<PendingAnswer>, Arc<Deps>)>,
    _permit: Option<Permit>,
}

impl Reply {
    fn new(bus: &Arc<dyn Bus>, asked: &Message, span: Span, permit: Option<Permit>) -> Self {
        let to = asked.reply.clone().map(|reply| (Arc::clone(bus), reply));
        Self { to, span, asked: None, _permit: permit }
    }

    /// Sends the answer.
    pub async fn send(mut self, answer: Answer) {
        match (&answer, self.asked.take()) {
            (Ok(answer), Some((asked, deps))) => asked.store(answer, deps.views.revision()),
            (Ok(_), None) => {}
            (Err(problem), _) => spans::refused(&self.span, problem),
        }
        if let Some((bus, to)) = self.to.take() {
            publish(bus, to, answer).instrument(self.span.clone()).await;
        }
    }
}

/// Admission control of an actor: requests and bytes in progress.
struct Admission {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// The permits that a request holds until it is answered.
struct Permit {
    _request: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Admission {
    fn new(requests_max: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests_max)),
            bytes: Arc::new(Semaphore::new(REQUESTS_BYTES_MAX)),
        }
    }

    /// Permits for a request with this body, if there are enough. A body larger than all of them
    /// takes all of them.
    fn admit(&self, body: &Bytes) -> Option<Permit> {
        let bytes = u32::try_from(body.len().min(REQUESTS_BYTES_MAX)).unwrap_or(u32::MAX);
        Some(Permit {
            _request: Arc::clone(&self.requests).try_acquire_owned().ok()?,
            _bytes: Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?,
        })
    }
}

/// The body of an answer, or the problem.
pub type Answer = Result<Bytes, Problem>;

/// `answer` as the body of a message.
pub fn json(answer: Result<impl Serialize, Problem>) -> Answer {
    serde_json::to_vec(&answer?)
        .map(Bytes::from)
        .map_err(|fault| Problem::internal(format!("the answer cannot be written: {fault}")))
}

async fn publish(bus: Arc<dyn Bus>, to: Subject, answer: Answer) {
    let mut message = Message::new(to, Bytes::new());
    (message.headers, message.payload) = write_answer(answer);
    match bus.publish(message).await {
        Ok(()) => {}
        // There is no caller left.
        Err(PublishError::Closed) => tracing::debug!("an answer came after the bus was closed"),
        Err(error) => tracing::warn!(%error, "an answer could not be sent"),
    }
}

impl Drop for Reply {
    /// No answer was sent: the actor or its task died. The caller learns it at once, not by its
    /// timeout.
    fn drop(&mut self) {
        let Some((bus, to)) = self.to.take() else { return };
        let gone = Problem::busy("stopped before it answered: try again", retry_after::ACTOR);
        spans::refused(&self.span, &gone);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(publish(bus, to, Err(gone)));
        }
    }
}

/// The tasks of an actor; they end with it.
#[derive(Default)]
pub struct Tasks(JoinSet<()>);

impl Tasks {
    /// Runs `task` beside the actor, in the current span. A panic in it is logged and does not
    /// reach the actor.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        while let Some(ended) = self.0.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a task of this actor panicked");
            }
        }
        self.0.spawn(task.in_current_span());
    }
}

/// The behaviour of one kind of service actor.
pub trait Service: Send + Sync + Sized + 'static {
    /// The second token of its subjects.
    const ACTOR: &'static str;
    /// Verbs whose answers depend on their body and the journal alone, and which change nothing.
    const QUESTIONS: &'static [&'static str] = &[];
    /// Verbs that handle an unusable key themselves ([`RequestContext::fault`]) because they record
    /// refusals.
    const RECORDED: &'static [&'static str] = &[];

    /// A new service: what must survive its death is in the journal or in `deps`.
    fn new(deps: Arc<Deps>) -> Self;

    /// Work at each start, after the subjects are served.
    fn started(&mut self, _tasks: &mut Tasks) {}

    /// Handles one request: decides at once, and leaves slow work to `tasks`.
    fn handle(&mut self, request: Request, tasks: &mut Tasks);
}

/// The ractor actor of a [`Service`].
pub struct ServiceActor<S>(PhantomData<S>);

impl<S> Default for ServiceActor<S> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// The state of a [`ServiceActor`].
pub struct ServiceState<S> {
    service: S,
    tasks: Tasks,
    _intake: JoinSet<()>,
}

#[ractor::async_trait]
impl<S: Service> Actor for ServiceActor<S> {
    type Msg = Request;
    type State = ServiceState<S>;
    type Arguments = Arc<Deps>;

    async fn pre_start(
        &self,
        myself: ActorRef<Request>,
        deps: Arc<Deps>,
    ) -> Result<ServiceState<S>, ActorProcessingErr> {
        let mut intake_tasks = JoinSet::new();
        let admission = Admission::new(deps.limits.requests_waiting_max);
        let answers = AnswerCache::default();
        let subjects = deps.subjects.actor(S::ACTOR);
        let requests = deps.bus.subscribe(subjects, Some(QUEUE_GROUP), REQUESTS_UNREAD_MAX).await?;
        let intake = Intake { deps: Arc::clone(&deps), admission, answers, actor: myself.clone() };
        intake_tasks.spawn(intake.run::<S>(requests));
        let (mut service, mut tasks) = (S::new(Arc::clone(&deps)), Tasks::default());
        service.started(&mut tasks);
        deps.started.add_permits(1);
        Ok(ServiceState { service, tasks, _intake: intake_tasks })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Request>,
        request: Request,
        state: &mut ServiceState<S>,
    ) -> Result<(), ActorProcessingErr> {
        let span = request.reply.span.clone();
        span.in_scope(|| state.service.handle(request, &mut state.tasks));
        Ok(())
    }
}

/// Takes requests from the bus into the actor's inbox as far as admission allows. Ends the actor
/// when it ends itself: an actor that does not receive everything must be restarted.
struct Intake {
    deps: Arc<Deps>,
    admission: Admission,
    answers: AnswerCache,
    actor: ActorRef<Request>,
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.actor.stop(Some("its intake ended".to_owned()));
    }
}

impl Intake {
    /// The cached answer to a question, if there is one.
    fn ask(&self, verb: &str, body: &Bytes) -> Result<Bytes, PendingAnswer> {
        let position = self.deps.journal.head().position;
        self.answers.ask(verb, body, position, self.deps.views.revision())
    }

    async fn run<S: Service>(self, subscription: Subscription) {
        let name = S::ACTOR;
        let deps = &*self.deps;
        let mut unread = UnreadRequests { subscription, deps: Arc::clone(&self.deps) };
        while let Some(message) = unread.subscription.next().await {
            let verb = message.subject.as_str().rsplit('.').next().unwrap_or_default();
            let question = S::QUESTIONS.contains(&verb).then(|| self.ask(verb, &message.payload));
            let is_plain = message.headers.get(header::MESSAGE_ID).is_none();
            if let (Some(Ok(answer)), true, Some(reply)) = (&question, is_plain, &message.reply)
                && !deps.traces.are_exported()
            {
                // A cached answer needs no permit and no span.
                publish(Arc::clone(&deps.bus), reply.clone(), Ok(answer.clone())).await;
                continue;
            }
            let verb = verb.to_owned();
            let permit = self.admission.admit(&message.payload);
            let refused = permit.is_none();
            let mut context = RequestContext::read(&message.headers, || deps.ids.new_id());
            let span = span(deps, name, &verb, &context, &message);
            let mut reply = Reply::new(&deps.bus, &message, span.clone(), permit);
            if refused {
                let busy = format!(
                    "{name} has too many requests in progress, or too large ones: try again"
                );
                reply.send(Err(Problem::busy(busy, retry_after::REQUEST))).await;
                continue;
            }
            if !S::RECORDED.contains(&&*verb)
                && let Some(problem) = context.fault.take()
            {
                reply.send(Err(problem)).await;
                continue;
            }
            context.traceparent = deps.traces.of(&span).or(context.traceparent);
            match question {
                Some(Ok(answer)) => {
                    reply.send(Ok(answer)).await;
                    continue;
                }
                Some(Err(asked)) => reply.asked = Some((Box::new(asked), Arc::clone(&self.deps))),
                None => {}
            }
            // If the actor is gone, dropping the request answers it.
            let _ = self.actor.cast(Request { verb, context, body: message.payload, reply });
        }
    }
}

/// Requests not yet read. Dropping them tells their callers to retry.
struct UnreadRequests {
    subscription: Subscription,
    deps: Arc<Deps>,
}

impl Drop for UnreadRequests {
    fn drop(&mut self) {
        while let Some(message) = self.subscription.try_next() {
            drop(Reply::new(&self.deps.bus, &message, Span::none(), None));
        }
    }
}

/// The span of a request, in the trace of its message.
fn span(deps: &Deps, actor: &str, verb: &str, context: &RequestContext, message: &Message) -> Span {
    let span = spans::request(actor, verb, context.request_id.as_str(), message);
    if let Some(traceparent) = &context.traceparent {
        deps.traces.adopt(&span, traceparent);
    }
    span
}

/// The answer to an unknown operation.
pub fn unknown_operation(actor: &str, verb: &str) -> Problem {
    Problem::not_found(format!("there is no operation `{actor}.{verb}`"))
}

/// `limit` of a request: its default and its bounds.
pub fn bounded(asked: Option<u32>, field: &str, default: u32, max: u32) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(default);
    if limit == 0 || limit > max {
        let sentence = format!("must be between 1 and {max}, not {limit}");
        return Err(Problem::invalid(&["query", field], "out_of_range", sentence));
    }
    Ok(limit as usize)
}
