//! The intake of an actor: requests from the bus, as far as admission allows.
//!
//! *Promises.* A request beyond the limits is refused with the time to retry after. A repeated
//! question whose answer is cached is answered here. Requests that are unread when the actor dies
//! tell their callers at once to retry.
//!
//! *Limits.* Those of [`crate::admission`]. Up to [`REQUESTS_UNREAD_MAX`] requests, of
//! [`QUEUE_BYTES_MAX`](ai_factory_ports::queue::QUEUE_BYTES_MAX) together, wait for admission or
//! refusal.

use std::sync::Arc;

use ai_factory_ports::{
    bus::{Message, SubscribeError, Subscription, header},
    retry_after,
};
use ai_factory_schemas::problem::Problem;
use bytes::Bytes;
use tracing::Span;

use crate::{
    admission::Admission,
    answer_cache::{AnswerCache, PendingAnswer},
    deps::Deps,
    metrics::IntakeCounters,
    request::{Reply, Request, RequestContext, publish},
    spans,
};

/// The queue group that factories on one server share (NATS ADR-32).
pub const QUEUE_GROUP: &str = "q";
/// Inbox capacity of one subscriber. Beyond it messages are dropped and callers time out. A refusal
/// takes a moment: in most factories this is far above
/// [`crate::limits::Limits::requests_waiting_max`], and never below.
pub const REQUESTS_UNREAD_MAX: usize = 65_536;

/// What the intake knows of the actor's operations.
#[derive(Clone, Copy)]
pub(crate) struct ServedVerbs {
    /// The second token of its subjects.
    pub(crate) actor: &'static str,
    /// Verbs whose answers depend on their body and the journal alone, and which change nothing.
    pub(crate) questions: &'static [&'static str],
    /// Verbs that handle an unusable key themselves.
    pub(crate) recorded: &'static [&'static str],
}

/// The intake of one actor.
pub(crate) struct Intake {
    verbs: ServedVerbs,
    deps: Arc<Deps>,
    admission: Admission,
    answers: AnswerCache,
    unread: UnreadRequests,
    counters: IntakeCounters,
}

impl Intake {
    /// Subscribes to the actor's subjects.
    pub(crate) async fn open(deps: &Arc<Deps>, verbs: ServedVerbs) -> Result<Self, SubscribeError> {
        let subjects = deps.subjects.actor(verbs.actor);
        let subscription =
            deps.bus.subscribe(subjects, Some(QUEUE_GROUP), REQUESTS_UNREAD_MAX).await?;
        Ok(Self {
            verbs,
            deps: Arc::clone(deps),
            admission: Admission::new(deps.limits.requests_waiting_max),
            answers: AnswerCache::default(),
            unread: UnreadRequests { subscription, deps: Arc::clone(deps) },
            counters: deps.metrics.intake(verbs.actor),
        })
    }

    /// The next request that is admitted; `None` once the bus is closed. Others are answered
    /// meanwhile.
    pub(crate) async fn next(&mut self) -> Option<Request> {
        loop {
            let message = self.unread.subscription.next().await?;
            if let Some(request) = self.admit(message).await {
                return Some(request);
            }
        }
    }

    /// The request in a message, unless it is refused or its answer is cached.
    async fn admit(&self, message: Message) -> Option<Request> {
        let (actor, deps) = (self.verbs.actor, &*self.deps);
        let verb = message.subject.as_str().rsplit('.').next().unwrap_or_default();
        let question =
            self.verbs.questions.contains(&verb).then(|| self.ask(verb, &message.payload));
        let is_plain = message.headers.get(header::MESSAGE_ID).is_none();
        if let (Some(Ok(answer)), true, Some(reply)) = (&question, is_plain, &message.reply)
            && !deps.traces.are_exported()
        {
            // A cached answer needs no permit and no span.
            self.counters.cached.inc();
            publish(Arc::clone(&deps.bus), reply.clone(), Ok(answer.clone())).await;
            return None;
        }
        let verb = verb.to_owned();
        let permit = self.admission.admit(&message.payload);
        let is_refused = permit.is_none();
        if is_refused { &self.counters.refused } else { &self.counters.admitted }.inc();
        let mut context = RequestContext::read(&message.headers, || deps.ids.new_id());
        let span = span(deps, actor, &verb, &context, &message);
        let mut reply = Reply::new(&deps.bus, &message, span.clone(), permit);
        if is_refused {
            let busy =
                format!("{actor} has too many requests in progress, or too large ones: try again");
            reply.send(Err(Problem::busy(busy, retry_after::REQUEST))).await;
            return None;
        }
        if !self.verbs.recorded.contains(&&*verb)
            && let Some(problem) = context.fault.take()
        {
            reply.send(Err(problem)).await;
            return None;
        }
        context.traceparent = deps.traces.of(&span).or(context.traceparent);
        match question {
            Some(Ok(answer)) => {
                reply.send(Ok(answer)).await;
                return None;
            }
            Some(Err(question)) => reply.cache(question, &deps.views),
            None => {}
        }
        Some(Request { verb, context, body: message.payload, reply })
    }

    /// The cached answer to a question, if there is one.
    fn ask(&self, verb: &str, body: &Bytes) -> Result<Bytes, PendingAnswer> {
        let position = self.deps.journal.head().position;
        self.answers.ask(verb, body, position, self.deps.views.revision())
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
