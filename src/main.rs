//! The `ai-factory` program.

#![forbid(unsafe_code)]

fn main() {}
