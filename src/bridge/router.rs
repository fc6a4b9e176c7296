//! The layers that every request passes: request id, span, guard, admission, and the headers of its
//! answer.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use ai_factory_ports::{clock::IdSource, retry_after};
use ai_factory_schemas::{
    id::RequestId,
    problem::Problem,
    route::{Method, ParameterType, ROUTES, Route, Target},
};
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{MethodFilter, on},
};
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::{
    answer::{problem, refusal},
    connection_limiter::ServiceLevel,
    docs, file,
    forward::{RouteForwarder, forward},
    pages,
    state::{Caller, HttpState, X_REQUEST_ID},
    trace,
};

const X_DURATION: HeaderName = HeaderName::from_static("x-duration");

/// Every route of the table, and the pages for people, with their layers.
pub fn router(state: &Arc<HttpState>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let method = match route.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Put => MethodFilter::PUT,
        };
        let handler = match route.target {
            Target::Operation(operation) => {
                let forwarder = Arc::new(RouteForwarder::new(route, operation, &state.bridge));
                on(
                    method,
                    move |State(state): State<Arc<HttpState>>, request: Request| async move {
                        forward(&state, &forwarder, request).await.unwrap_or_else(problem)
                    },
                )
            }
            Target::File(operation) => {
                let forwarder = Arc::new(RouteForwarder::new(route, operation, &state.bridge));
                on(
                    method,
                    move |State(state): State<Arc<HttpState>>, request: Request| async move {
                        file::answer(state, &forwarder, request).await.unwrap_or_else(problem)
                    },
                )
            }
            Target::Page(page) => on(
                method,
                move |State(state): State<Arc<HttpState>>, request: Request| async move {
                    pages::answer(&state, page, request).await.unwrap_or_else(problem)
                },
            ),
        };
        router = router.route(&pattern(route), handler);
    }
    router
        .merge(docs::routes())
        .fallback(async || problem(Problem::not_found("no such route: GET /docs lists the routes")))
        .method_not_allowed_fallback(async || {
            let sentence = "method not allowed: the header `Allow` lists the methods of this route";
            problem(refusal(StatusCode::METHOD_NOT_ALLOWED, sentence))
        })
        .layer(from_fn_with_state(Arc::clone(state), pass))
        .with_state(Arc::clone(state))
}

/// The path of a route as the router writes it: that of a file has any number of parts.
fn pattern(route: &Route) -> String {
    let file = route.parameters.iter().find(|parameter| parameter.kind == ParameterType::FilePath);
    file.map_or(route.path.to_owned(), |file| {
        route.path.replace(&format!("{{{}}}", file.name), &format!("{{*{}}}", file.name))
    })
}

/// Handles one request.
async fn pass(State(state): State<Arc<HttpState>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let request_id = request_id(request.headers(), &*state.bridge.ids);
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map(MatchedPath::as_str);
    let span = trace::span(request.method(), route, request.uri().path(), &request_id);
    let traceparent = trace::parent(request.headers()).map(str::to_owned);
    if let Some(traceparent) = &traceparent {
        state.bridge.traces.adopt(&span, traceparent);
    }
    request.extensions_mut().insert(Caller { request_id: request_id.clone(), traceparent });
    let passing = AssertUnwindSafe(admit(&state, route, request, next)).catch_unwind();
    let passed = passing.instrument(span.clone()).await;
    let mut response = passed.unwrap_or_else(|_| {
        // The panic hook has already logged the panic.
        problem(Problem::internal("the server failed: its log says why"))
    });
    record_status(&span, response.status());
    complete(response.headers_mut(), &request_id, began.elapsed());
    response
}

/// Checks the guard, then takes a permit.
async fn admit(state: &HttpState, route: Option<&str>, request: Request, next: Next) -> Response {
    let is_one = |which: fn(&Route) -> bool| {
        ROUTES.iter().any(|known| which(known) && route == Some(known.path))
    };
    if let Err(refused) =
        state.access.check(request.uri(), request.headers(), is_one(Route::is_open))
    {
        return problem(refused);
    }
    if request.extensions().get() == Some(&ServiceLevel::ChecksOnly) && !is_one(Route::is_check) {
        let connections_max = state.bridge.settings.connections_max;
        let sentence = format!("all {connections_max} connections are busy: try again");
        return problem(Problem::busy(sentence, retry_after::REQUEST));
    }
    let permit = state.requests.try_acquire();
    if permit.is_err() && !is_one(Route::is_check) {
        let requests_max = state.bridge.settings.requests_max;
        let sentence = format!("{requests_max} requests are under way already: try again");
        return problem(Problem::busy(sentence, retry_after::REQUEST));
    }
    next.run(request).await
}

/// The caller's request id if there is a single valid one, else a new one.
fn request_id(headers: &HeaderMap, ids: &dyn IdSource) -> RequestId {
    let mut given = headers.get_all(X_REQUEST_ID).iter();
    let own = match (given.next(), given.next()) {
        (Some(value), None) => value.to_str().ok().and_then(|text| text.parse().ok()),
        _ => None,
    };
    own.unwrap_or_else(|| ids.new_id().into())
}

fn record_status(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// Sets the headers that every answer has. A handler may have set the request id already: a
/// repeated key gets the answer of the first request, with its id.
fn complete(headers: &mut HeaderMap, request_id: &RequestId, took: Duration) {
    if !headers.contains_key(X_REQUEST_ID)
        && let Ok(value) = HeaderValue::from_str(request_id.as_str())
    {
        headers.insert(X_REQUEST_ID, value);
    }
    let seconds = format!("{}.{:03}", took.as_secs(), took.subsec_millis());
    if let Ok(value) = HeaderValue::try_from(seconds) {
        headers.insert(X_DURATION, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
