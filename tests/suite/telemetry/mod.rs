//! Traces from outside, by the real program and a collector in this process; and metrics.

mod collector;
mod export;
mod ingress;
mod metrics;
mod open_metrics;
