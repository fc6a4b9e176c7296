//! The projections: rows, search, files and snapshots over a journal in memory.

mod file_recovery;
mod files;
mod fixture;
mod forget;
mod idle_merge;
mod remote_embedder;
mod rows;
mod search;
mod semantic_search;
mod shadow_rebuild;
mod vector_backfill;
