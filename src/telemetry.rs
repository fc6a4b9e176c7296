//! Tracing output for people and files.
