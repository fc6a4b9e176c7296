//! A request in progress: its context, its body, its one answer.
//!
//! *Promises.* Every request gets exactly one answer: a request that is dropped unanswered tells
//! its caller to retry. The span of a request continues the trace of its message and ends with the
//! answer.

use std::{sync::Arc, time::Duration};

use ai_factory_ports::{
    body::read_body,
    bus::{Bus, Headers, Message, PublishError, header},
    clock::IdSource,
    journal::Command,
    request_reply::write_answer,
    retry_after,
    trace::is_traceparent,
    views::Views,
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
use serde::{Serialize, de::DeserializeOwned};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::{admission::Permit, answer_cache::PendingAnswer, spans};

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
    /// Whether a run is answered with its end as recorded: asked for by a session, never from
    /// outside.
    pub as_recorded: bool,
    /// How long the caller waits for an answer, if it says so.
    pub answer_within: Option<Duration>,
    /// Whether the caller may raise a budget: the command line, or HTTP on this machine or with the
    /// token.
    pub may_raise: bool,
}

impl RequestContext {
    pub(crate) fn read(headers: &Headers, new_id: impl FnOnce() -> Uuid) -> Self {
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
        let may_raise = match headers.get(header::INGRESS) {
            None => true,
            Some(name) => match Ingress::from_name(name) {
                Some(Ingress::Cli) => true,
                Some(Ingress::Http) => headers.get(header::TRUSTED).is_some(),
                _ => false,
            },
        };
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
            as_recorded: headers.get(header::OUTPUTS) == Some(header::RECORDED)
                && headers.get(header::INGRESS).is_none(),
            answer_within: headers
                .get(header::ANSWER_WITHIN)
                .and_then(|text| text.parse().ok())
                .map(Duration::from_millis),
            may_raise,
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
            as_recorded: false,
            answer_within: None,
            may_raise: false,
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
    /// The question, if its answer is to be cached, and what tells whether it still holds.
    asked: Option<Box<(PendingAnswer, Arc<dyn Views>)>>,
    _permit: Option<Permit>,
}

impl Reply {
    pub(crate) fn new(
        bus: &Arc<dyn Bus>,
        asked: &Message,
        span: Span,
        permit: Option<Permit>,
    ) -> Self {
        let to = asked.reply.clone().map(|reply| (Arc::clone(bus), reply));
        Self { to, span, asked: None, _permit: permit }
    }

    /// The request's span.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Caches the answer under this question.
    pub(crate) fn cache(&mut self, question: PendingAnswer, views: &Arc<dyn Views>) {
        self.asked = Some(Box::new((question, Arc::clone(views))));
    }

    /// Sends the answer.
    pub async fn send(mut self, answer: Answer) {
        match (&answer, self.asked.take().map(|asked| *asked)) {
            (Ok(answer), Some((question, views))) => question.store(answer, views.revision()),
            (Ok(_), None) => {}
            (Err(problem), _) => spans::refused(&self.span, problem),
        }
        if let Some((bus, to)) = self.to.take() {
            publish(bus, to, answer).instrument(self.span.clone()).await;
        }
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

/// Sends an answer to its caller.
pub(crate) async fn publish(bus: Arc<dyn Bus>, to: Subject, answer: Answer) {
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
