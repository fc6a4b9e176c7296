//! Problems: the answers of operations that failed or were refused.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of the path to a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PathSegment {
    /// The field of this name; the first one is `body`, `query`, `path` or `header`.
    Field(String),
    /// The item of a list, from 0.
    Item(u64),
}

impl fmt::Display for PathSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => name.fmt(f),
            Self::Item(index) => index.fmt(f),
        }
    }
}

impl From<&str> for PathSegment {
    fn from(name: &str) -> Self {
        Self::Field(name.to_owned())
    }
}

/// One fault of a validated field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldFault {
    /// The path: `["body", "prompt"]`, `["body", "tags", 0]`.
    pub loc: Vec<PathSegment>,
    /// The fault, for people.
    pub msg: String,
    /// The fault, for programs.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The `detail` of an error body: a sentence, or the faults of single fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Detail {
    /// A sentence.
    Sentence(String),
    /// Faults of single fields.
    Faults(Vec<FieldFault>),
}

/// The body of every error answer: `{"detail": …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemBody {
    /// The fault.
    pub detail: Detail,
}

/// Why an operation failed. `status` is the HTTP status and the `Nats-Service-Error-Code`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Problem {
    /// An HTTP status code (RFC 9110).
    pub status: u16,
    /// The fault.
    pub detail: Detail,
    /// When to retry, if that helps.
    pub retry_after: Option<Duration>,
}

impl Problem {
    fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: Detail::Sentence(detail.into()), retry_after: None }
    }

    /// 400: the request is invalid.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, detail)
    }

    /// 401: the caller is not authenticated.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(401, detail)
    }

    /// 403: the caller may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, detail)
    }

    /// 404: it does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, detail)
    }

    /// 409: it conflicts with the present state.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, detail)
    }

    /// 413: it is too large.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(413, detail)
    }

    /// 422: one field is wrong.
    pub fn invalid(loc: &[&str], kind: &str, msg: impl Into<String>) -> Self {
        Self::invalid_at(loc.iter().map(|name| PathSegment::from(*name)).collect(), kind, msg)
    }

    /// 422: the value at this path is wrong.
    pub fn invalid_at(loc: Vec<PathSegment>, kind: &str, msg: impl Into<String>) -> Self {
        let fault = FieldFault { loc, msg: msg.into(), kind: kind.to_owned() };
        Self { status: 422, detail: Detail::Faults(vec![fault]), retry_after: None }
    }

    /// 500: a fault of the server.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(500, detail)
    }

    /// 503: no capacity at the moment; retry after the given time.
    pub fn busy(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(503, detail) }
    }

    /// 503: a required part does not work.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, detail)
    }

    /// 504: the time limit passed.
    pub fn timed_out(detail: impl Into<String>) -> Self {
        Self::new(504, detail)
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 503 | 504)
    }

    /// The detail as one sentence.
    pub fn sentence(&self) -> String {
        match &self.detail {
            Detail::Sentence(sentence) => sentence.clone(),
            Detail::Faults(faults) => {
                let told = faults.iter().map(|fault| {
                    let loc: Vec<_> = fault.loc.iter().map(PathSegment::to_string).collect();
                    format!("{}: {}", loc.join("."), fault.msg)
                });
                told.collect::<Vec<_>>().join("; ")
            }
        }
    }
}
