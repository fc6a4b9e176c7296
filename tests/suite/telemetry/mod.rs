//! Traces from outside: the real program, and a collector in this process.

mod collector;
mod export;
mod ingress;
