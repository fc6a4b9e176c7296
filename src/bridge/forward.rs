//! Carries one operation: its request onto the bus, and the answer back.

use std::{net::IpAddr, time::Duration};

use ai_factory_ports::{
    bus::{Headers, Message, header},
    ingress, request_reply,
};
use ai_factory_schemas::{
    answer::{SessionPending, Submitted, Uploaded},
    id::{CommandId, RequestId, SessionId},
    limit::UPLOAD_PART_BYTES_MAX,
    problem::Problem,
    route::{RequestBody, Route},
    session::Ingress,
    subject::{Operation, Subject, operation},
};
use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header as http, request::Parts},
    response::Response,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::Span;

use super::{
    answer, body,
    peer::Peer,
    query,
    settings::BridgeSettings,
    state::{Bridge, Caller, HttpState, X_REQUEST_ID},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The constant part of one route.
pub struct RouteForwarder {
    pub(super) route: &'static Route,
    pub(super) subject: Subject,
    pub(super) answer_max: Duration,
    status: StatusCode,
    operation: Operation,
}

/// How much earlier than its caller gives up a session with a model is answered as it is.
const PENDING_MARGIN: Duration = Duration::from_secs(5);

impl RouteForwarder {
    /// The carrier of a route to its operation.
    pub fn new(route: &'static Route, operation: Operation, bridge: &Bridge) -> Self {
        let answer_max = match operation {
            operation::DEBUGGER_RUN => bridge.settings.run_answer_max,
            operation::SUPERVISOR_RUN => bridge.settings.session_answer_max,
            _ => bridge.settings.answer_max,
        };
        let status = StatusCode::from_u16(route.status).unwrap_or_default();
        Self { route, subject: bridge.subjects.operation(operation), answer_max, status, operation }
    }
}

/// Carries one request to its actor, and the answer back.
pub async fn forward(
    state: &HttpState,
    forwarder: &RouteForwarder,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    if forwarder.route.body != RequestBody::None
        && let Some(refused) = body::refuse_coding(&parts.headers)
    {
        return Ok(refused);
    }
    let key = key(forwarder.route, &parts.headers)?;
    let payload = payload(forwarder.route, &parts, body, &state.bridge.settings).await?;
    let mut message = Message::new(forwarder.subject.clone(), payload);
    message.headers = headers(state, &parts, key.as_ref());
    match forwarder.operation {
        operation::SUPERVISOR_RUN => {
            let within = forwarder.answer_max.saturating_sub(PENDING_MARGIN);
            message.headers.set(header::ANSWER_WITHIN, within.as_millis().to_string());
        }
        operation::SUPERVISOR_BUDGET if state.access.trusts(peer_address(&parts)) => {
            message.headers.set(header::TRUSTED, "1");
        }
        _ => {}
    }
    let answered = request_reply::ask(&*state.bridge.bus, message, forwarder.answer_max).await?;
    let mut response = answer::raw(forwarder.status, answered.clone());
    if key.is_some() {
        name_as_answered(&mut response, &answered);
    }
    if forwarder.operation == operation::SUPERVISOR_RUN {
        tell_pending(&mut response, &answered);
    } else if forwarder.route.body == RequestBody::FilePart {
        tell_complete(&mut response, &answered);
    } else if forwarder.status == StatusCode::ACCEPTED {
        locate(&mut response, &answered);
    }
    Ok(response)
}

/// The idempotency key: a request takes effect at most once under it. Without effect where the
/// operation records nothing.
fn key(route: &Route, headers: &HeaderMap) -> Result<Option<CommandId>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), true) = (given.next(), route.takes_json()) else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|_| given.next().is_none());
    match text.map(str::parse) {
        Some(Ok(key)) => Ok(Some(key)),
        Some(Err(wrong)) => Err(Problem::bad_request(format!("`Idempotency-Key`: {wrong}"))),
        None => {
            Err(Problem::bad_request("send one `Idempotency-Key` of printable ASCII characters"))
        }
    }
}

/// The headers of the bus message: the request's own, unless HTTP has another name for one, or this
/// server a value of its own.
pub(super) fn headers(state: &HttpState, parts: &Parts, key: Option<&CommandId>) -> Headers {
    let caller = parts.extensions.get::<Caller>();
    ingress::headers(Ingress::Http, |name| match name {
        header::MESSAGE_ID => key.map(|key| key.as_str().to_owned()),
        header::REQUEST_ID => caller.map(|caller| caller.request_id.as_str().to_owned()),
        header::TRACEPARENT => {
            let own = state.bridge.traces.of(&Span::current());
            own.or_else(|| caller?.traceparent.clone())
        }
        other => {
            let value = parts.headers.get(other)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        }
    })
}

/// The operation's body: the request's own bytes, unless path or query add fields.
async fn payload(
    route: &Route,
    parts: &Parts,
    body: axum::body::Body,
    settings: &BridgeSettings,
) -> Result<Bytes, Problem> {
    match route.body {
        RequestBody::None => {}
        RequestBody::FilePart => body::expect_type(&parts.headers, body::BYTES)?,
        RequestBody::Json | RequestBody::Optional => {
            body::expect_type(&parts.headers, body::JSON)?;
        }
    }
    let query = parts.uri.query().unwrap_or_default();
    let mut fields = query::fields(route, parts.uri.path(), query)?;
    let bytes = match route.body {
        RequestBody::None => Bytes::new(),
        RequestBody::FilePart => {
            let part = body::read(&parts.headers, body, UPLOAD_PART_BYTES_MAX, settings).await?;
            fields.insert("content_base64".to_owned(), BASE64_STANDARD.encode(part).into());
            return encode(&fields);
        }
        RequestBody::Json | RequestBody::Optional => {
            body::read_json(&parts.headers, body, settings).await?
        }
    };
    match (route.body, bytes.is_empty()) {
        (RequestBody::Json, true) => Err(Problem::invalid(
            &["body"],
            "json_invalid",
            "the body is empty: send a JSON object",
        )),
        (RequestBody::Json, false) if fields.is_empty() => Ok(bytes),
        (_, true) => encode(&fields),
        (_, false) => {
            let mut all: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| {
                Problem::invalid(&["body"], "json_invalid", "must be a JSON object")
            })?;
            all.extend(fields);
            encode(&all)
        }
    }
}

pub(super) fn encode(fields: &Map<String, Value>) -> Result<Bytes, Problem> {
    let bytes = serde_json::to_vec(fields)
        .map_err(|_| Problem::internal("the request could not be forwarded"))?;
    Ok(bytes.into())
}

/// Makes the header's request id equal the one in the body, also for a repeated answer that carries
/// the id of the first request.
fn name_as_answered(response: &mut Response, answered: &[u8]) {
    #[derive(Deserialize)]
    struct ErrorName {
        request_id: RequestId,
    }
    if let Ok(ErrorName { request_id }) = serde_json::from_slice(answered)
        && let Ok(value) = HeaderValue::from_str(request_id.as_str())
    {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
}

/// Sets the status of an upload: 201 once the content is complete.
fn tell_complete(response: &mut Response, answered: &[u8]) {
    if let Ok(Uploaded { complete: true, .. }) = serde_json::from_slice(answered) {
        *response.status_mut() = StatusCode::CREATED;
    }
}

/// Sets the status of a session that goes on, and its address.
fn tell_pending(response: &mut Response, answered: &[u8]) {
    if let Ok(SessionPending { session_id, .. }) = serde_json::from_slice(answered) {
        *response.status_mut() = StatusCode::ACCEPTED;
        set_location(response, session_id);
    }
}

/// The address of the client, if the connection still has one.
fn peer_address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Peer>()?.address()
}

/// Sets `Location` to the session's address.
fn locate(response: &mut Response, answered: &[u8]) {
    if let Ok(Submitted { session_id, .. }) = serde_json::from_slice(answered) {
        set_location(response, session_id);
    }
}

fn set_location(response: &mut Response, session: SessionId) {
    if let Ok(value) = HeaderValue::try_from(format!("/supervisor/sessions/{session}")) {
        response.headers_mut().insert(http::LOCATION, value);
    }
}
