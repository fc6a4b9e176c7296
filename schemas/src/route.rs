//! The routes of the HTTP door: one table, from which the router is built and the OpenAPI document is made.
//!
//! *Limits.* The bounds of counts are stated here for the reader of the document; the actors enforce them, for
//! every door alike, and a test holds the two together.

mod table;

use crate::subject::Operation;

pub use table::ROUTES;

/// What a route is asked with. HEAD is answered where GET is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Does something.
    Post,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind the question mark.
    Query,
    /// In the path, between braces.
    Path,
    /// In a header.
    Header,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At least 1 character.
    Text,
    /// A whole number from 1 to `max`.
    Count {
        /// Where nothing is said.
        default: u32,
        /// The most.
        max: u32,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A time of RFC 3339, or a date.
    Time,
    /// A place in the journal, from 0 to its end.
    Position,
    /// The id of a request.
    Request,
    /// The key of a command.
    Key,
    /// What a session is called: its id, or else the id of the request or the key that opened it.
    Session,
}

/// A parameter outside the body. Those of an operation become fields of its body.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it may be.
    pub kind: Kind,
    /// Whether there is no request without it.
    pub required: bool,
    /// What it means.
    pub doc: &'static str,
}

/// What a request may bring as a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing is read.
    None,
    /// A JSON object.
    Json,
    /// A JSON object, or nothing.
    Optional,
}

/// What the door answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// What this is and where the documentation is.
    Welcome,
    /// How every part is.
    Health,
    /// Whether the process answers.
    Live,
    /// Whether requests can be served.
    Ready,
    /// The journal as server-sent events.
    Events,
    /// The OpenAPI document.
    OpenApi,
    /// The OpenAPI document, to read.
    Docs,
    /// The style sheet of the page to read.
    Style,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An actor, over the bus.
    Operation(Operation),
    /// The door itself.
    Page(Page),
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// What it is asked with.
    pub method: Method,
    /// Its path; a parameter stands in braces.
    pub path: &'static str,
    /// Who answers.
    pub target: Target,
    /// What it takes outside the body.
    pub parameters: &'static [Parameter],
    /// What it takes as a body.
    pub body: Body,
    /// The status of an answer that is no problem.
    pub status: u16,
    /// The statuses of problems that are this route's own; see [`Route::problems`] for all.
    pub own_problems: &'static [u16],
    /// What it does.
    pub doc: &'static str,
    /// A request body, as JSON.
    pub asked: Option<&'static str>,
    /// An answer, as JSON where the answer is JSON.
    pub answered: &'static str,
}

impl Route {
    /// The statuses of every problem that it may answer.
    pub fn problems(&self) -> Vec<u16> {
        let mut statuses = vec![400, 403, 414, 431, 500, 503];
        statuses.extend(self.own_problems);
        if !self.is_open() {
            statuses.push(401);
        }
        if matches!(self.target, Target::Operation(_)) {
            statuses.extend([422, 504]);
        }
        if self.method == Method::Post {
            statuses.extend([408, 413, 415]);
        }
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }

    /// Whether it is answered without a token.
    pub fn is_open(&self) -> bool {
        matches!(self.target, Target::Page(Page::Live | Page::Ready))
    }

    /// Whether it is answered however busy the door is.
    pub fn is_check(&self) -> bool {
        matches!(self.target, Target::Page(Page::Live | Page::Ready | Page::Health))
    }

    /// Its name in the OpenAPI document: `planner.dispatch`.
    pub fn name(&self) -> String {
        match self.target {
            Target::Operation(operation) => operation.to_string(),
            Target::Page(page) => format!("door.{page:?}").to_lowercase(),
        }
    }

    /// What it belongs to: the actor, or the door.
    pub fn group(&self) -> &'static str {
        match self.target {
            Target::Operation(operation) => operation.actor,
            Target::Page(_) => "door",
        }
    }
}
