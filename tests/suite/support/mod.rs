//! What the tests need: temporary factories, servers, processes.

pub mod certificates;
pub mod conversing_model;
pub mod embeddings;
pub mod memory_journal;
pub mod memory_uploads;
pub mod model_server;
pub mod nats;
pub mod process;
pub mod scripted_files;
