//! What a route is.

use crate::subject::{Operation, operation};

/// The method of a route. HEAD is answered wherever GET is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Has an effect.
    Post,
    /// Stores a part of what the path names.
    Put,
}

impl Method {
    /// The method as a request has it: `GET`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// The place of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterLocation {
    /// After the question mark.
    Query,
    /// A part of the path, in braces.
    Path,
    /// A header.
    Header,
}

/// The values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterType {
    /// At least 1 character.
    Text,
    /// A whole number from 1 to `max`.
    Count {
        /// The value if it is missing.
        default: u32,
        /// The largest value.
        max: u32,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An RFC 3339 time, or a date.
    Time,
    /// A journal position, from 0 to the journal's end.
    Position,
    /// A request's id.
    Request,
    /// A command's key.
    Key,
    /// A session: its id, or the id of the request or the key that opened it.
    Session,
    /// The hash of a content.
    Hash,
    /// A number of bytes, from 0.
    Bytes,
    /// The path of a file: the last part of the route's path, and whatever follows.
    FilePath,
}

/// A parameter outside the body. Those of an operation become fields of its body.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its place.
    pub place: ParameterLocation,
    /// Its values.
    pub kind: ParameterType,
    /// Whether it is mandatory.
    pub required: bool,
    /// Its meaning.
    pub doc: &'static str,
}

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// No body is read.
    None,
    /// A JSON object.
    Json,
    /// A JSON object, or nothing.
    Optional,
    /// The bytes of a part of a file. In the operation's body they are the field
    /// `content_base64`.
    FilePart,
}

/// Pages that the HTTP server answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// A greeting with the path of the documentation.
    Welcome,
    /// The health of every part.
    Health,
    /// Whether the process answers.
    Live,
    /// Whether requests can be served.
    Ready,
    /// The journal as server-sent events.
    Events,
    /// What a session's model says while it says it, as server-sent events.
    Stream,
    /// The OpenAPI document.
    OpenApi,
}

/// Who answers a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An actor, over the bus.
    Operation(Operation),
    /// A file's bytes, for which an actor is asked in parts over the bus.
    File(Operation),
    /// The HTTP server itself.
    Page(Page),
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with parameters in braces.
    pub path: &'static str,
    /// Who answers.
    pub target: Target,
    /// Its parameters outside the body.
    pub parameters: &'static [Parameter],
    /// Its body.
    pub body: RequestBody,
    /// The status of a successful answer; [`Route::successes`] has all.
    pub status: u16,
    /// Statuses of problems that only this route has; [`Route::problems`] has all.
    pub own_problems: &'static [u16],
    /// Its description.
    pub doc: &'static str,
    /// An example of a request body, as JSON.
    pub asked: Option<&'static str>,
    /// An example of an answer, as JSON if the answer is JSON.
    pub answered: &'static str,
}

impl Route {
    /// The statuses of all successful answers.
    pub fn successes(&self) -> Vec<u16> {
        let other = match (self.body, self.target) {
            // The content is complete.
            (RequestBody::FilePart, _) => Some(201),
            // The client has the file.
            (_, Target::File(_)) => Some(304),
            // The session goes on.
            (_, Target::Operation(operation::SUPERVISOR_RUN)) => Some(202),
            _ => None,
        };
        [self.status].into_iter().chain(other).collect()
    }

    /// Its operation on the bus.
    pub fn operation(&self) -> Option<Operation> {
        match self.target {
            Target::Operation(operation) | Target::File(operation) => Some(operation),
            Target::Page(_) => None,
        }
    }

    /// Whether its body is JSON, where it has one.
    pub fn takes_json(&self) -> bool {
        matches!(self.body, RequestBody::Json | RequestBody::Optional)
    }

    /// The statuses of all problems that it may answer.
    pub fn problems(&self) -> Vec<u16> {
        let mut statuses = vec![400, 403, 414, 431, 500, 503];
        statuses.extend(self.own_problems);
        if !self.is_open() {
            statuses.push(401);
        }
        if self.operation().is_some() {
            statuses.extend([422, 504]);
        }
        if self.body != RequestBody::None {
            statuses.extend([408, 413, 415]);
        }
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }

    /// Whether it needs no token.
    pub fn is_open(&self) -> bool {
        matches!(self.target, Target::Page(Page::Live | Page::Ready))
    }

    /// Whether it is answered even if the server is busy.
    pub fn is_check(&self) -> bool {
        matches!(self.target, Target::Page(Page::Live | Page::Ready | Page::Health))
    }

    /// Its name in the OpenAPI document: `planner.dispatch`.
    pub fn name(&self) -> String {
        match self.target {
            Target::Operation(operation) | Target::File(operation) => operation.to_string(),
            Target::Page(page) => format!("http.{page:?}").to_lowercase(),
        }
    }

    /// Its group: the actor, or that of the server's own pages.
    pub fn group(&self) -> &'static str {
        match self.target {
            Target::Operation(operation) | Target::File(operation) => operation.actor,
            Target::Page(_) => "http",
        }
    }
}
