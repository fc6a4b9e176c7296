//! Search of memories by keywords and by vector: the indexes, their workers and the ranking.
//!
//! [`MemorySearch`] owns everything of it. Who folds the journal derives the changes of each event
//! ([`DocumentBuilder`]) and applies them ([`MemorySearch::begin_fold`]). What a search can contain
//! at the moment is its [`SearchState`].
//!
//! *Promises.* A search sees every document from the moment it is applied, with the scores that it
//! has on disk. No query waits for vectors that are made in the background
//! ([`SearchState::Backfilling`]) or for a remote model. A damaged file fails a query, never the
//! program.
//!
//! *Limits.* What is applied and not flushed is lost with the process, and folded again.
//!
//! *Not here.* Lists, and when to fold: the package `ai-factory-projection`.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod bm25;
mod candidate_search;
mod chunking;
mod committed;
mod corpus;
mod documents;
mod error;
mod fields;
mod idle_merge;
mod impacts;
mod index_directory;
mod kernels;
mod keyword_index;
mod keyword_shadow;
mod keyword_state;
mod live_index;
mod memory_search;
mod near_duplicates;
mod overlay;
mod payload;
mod phase;
mod position_filter;
mod posting_list;
mod posting_stats;
mod query;
mod query_term;
mod ranking;
mod remote_embedder;
mod scoring;
mod search_index;
mod search_scheduler;
mod segment_postings;
mod segments;
mod sketches;
mod snippet;
mod term_freqs;
mod tokens;
mod tombstones;
mod vector_backfill;
mod vector_block;
mod vector_file;
mod vector_index;
mod vector_indexes;
mod vector_worker;
mod vectors;
mod window;

pub use documents::{Document, DocumentBuilder, IndexChange, IndexChanges};
pub use error::IndexError;
pub use keyword_shadow::{KeywordReplacement, KeywordShadow};
pub use live_index::{FilesLease, IndexFold, SearchSettings};
pub use memory_search::{MemorySearch, SearchState};
