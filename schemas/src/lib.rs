//! The contract: ids, events, subjects, requests and answers of the AI factory. Data only.
//!
//! *Promises.* All types are plain data that serialises to JSON; JSON names are wire names, frozen
//! once released. Every event ever recorded can still be read (I-12).
//!
//! *Not here.* No I/O, no clock, no randomness, no async runtime; nothing of the other packages.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

pub mod answer;
pub mod asyncapi;
pub mod call;
pub mod catalogue;
pub mod chat;
pub mod check;
pub mod diagnosis;
pub mod difference;
pub mod encoding;
pub mod envelope;
pub mod event;
pub mod file;
pub mod filter;
pub mod goal;
pub mod health;
pub mod id;
pub mod limit;
pub mod memory;
pub mod model;
pub mod model_answer;
pub mod openapi;
pub mod plan;
pub mod problem;
pub mod quote;
pub mod reference;
pub mod request;
pub mod route;
pub mod run;
pub mod sample;
pub mod session;
pub mod session_files;
pub mod session_status;
pub mod subject;
pub mod submitter;
pub mod text;
pub mod time;
pub mod turn;
pub mod workspace;
