//! The routes that the server answers itself: what it is, its health, and its description.

use ai_factory_ports::health::DegradedComponent;
use ai_factory_schemas::{
    health::{ComponentProblem, Health, HealthStatus, Probe, Welcome},
    problem::Problem,
    route::Page,
};
use axum::{extract::Request, http::StatusCode, response::Response};

use super::{
    answer::{json, raw, without_paths},
    docs, events, live,
    state::HttpState,
};

/// The name of this service.
const SERVICE: &str = "ai-factory";
/// The construction phase of the system that clients expect from a service with this contract.
const PHASE: u32 = 4;

/// The answer of a page.
pub async fn answer(state: &HttpState, page: Page, request: Request) -> Result<Response, Problem> {
    Ok(match page {
        Page::Welcome => json(StatusCode::OK, &welcome()),
        Page::Health => json(StatusCode::OK, &health(state)),
        Page::Live => probe(Vec::new()),
        Page::Ready => {
            let degraded = (state.bridge.health_report)().degraded;
            probe(component_problems(degraded.into_iter().filter(|part| !part.serves).collect()))
        }
        Page::Events => events::answer(state, &request)?,
        Page::Stream => live::answer(state, request).await?,
        Page::OpenApi => raw(StatusCode::OK, docs::OPENAPI),
    })
}

fn welcome() -> Welcome {
    Welcome {
        message: "AI Factory: a goal comes in, a session comes out".to_owned(),
        docs: "/docs".to_owned(),
    }
}

fn health(state: &HttpState) -> Health {
    let health_report = (state.bridge.health_report)();
    let parts = component_problems(health_report.degraded);
    Health {
        status: if parts.is_empty() { HealthStatus::Ok } else { HealthStatus::Degraded },
        service: SERVICE.to_owned(),
        phase: PHASE,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        position: state.bridge.tail.head().position,
        parts,
        under_way: health_report.rebuilding,
    }
}

fn component_problems(degraded: Vec<DegradedComponent>) -> Vec<ComponentProblem> {
    let problem = |DegradedComponent { name, reason, serves }: DegradedComponent| {
        ComponentProblem { part: name.to_owned(), reason: without_paths(&reason), serves }
    };
    degraded.into_iter().map(problem).collect()
}

fn probe(parts: Vec<ComponentProblem>) -> Response {
    let (status, word) = if parts.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    json(status, &Probe { status: word.to_owned(), parts })
}
