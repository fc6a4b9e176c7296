//! Routes of the HTTP server: one table, from which the router and the OpenAPI document are made.
//!
//! *Limits.* The bounds of counts are here for the reader of the document. The actors enforce them
//! at every ingress alike; a test compares the two.

mod model;
mod table;

pub use model::{
    Method, Page, Parameter, ParameterLocation, ParameterType, RequestBody, Route, Target,
};
pub use table::ROUTES;
