//! The limits that are part of the contract. Those an operator may change are settings, with these as defaults.

/// The longest text that a record holds inline, in bytes; longer ones become blobs.
pub const TEXT_INLINE_BYTES_MAX: usize = 32 * 1024;
/// How much of a blob's text its record shows, in bytes.
pub const TEXT_HEAD_BYTES_MAX: usize = 4 * 1024;
/// The largest encoded record, in bytes. A 100 kB goal with its plan is far below it.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// The largest blob, in bytes: one captured output stream with room to spare.
pub const BLOB_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most events in one append.
pub const APPEND_EVENTS_MAX: usize = 256;
/// The longest goal or prompt, in bytes.
pub const GOAL_BYTES_MAX: usize = 128 * 1024;
/// How much of what a submitter calls itself is kept, in characters.
pub const SUBMITTER_CHARS_MAX: usize = 160;
/// How much of a rejected goal is kept, in bytes.
pub const REJECTED_BYTES_MAX: usize = 4 * 1024;
/// The longest code of one run, in bytes.
pub const CODE_BYTES_MAX: usize = 128 * 1024;
/// The longest standard input of one run, in bytes.
pub const STDIN_BYTES_MAX: usize = 256 * 1024;
/// The most files that go into one run, and the most that come back.
pub const FILES_MAX: usize = 64;
/// The longest content of all files that go into one run, or come back, in bytes as they are sent.
pub const FILES_BYTES_MAX: usize = 512 * 1024;
/// The longest name of such a file, in bytes.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// The longest content of such a file that a record holds inline, in bytes; longer ones become blobs.
pub const FILE_INLINE_BYTES_MAX: usize = 1024;
/// The longest text that memory is asked to keep, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// The most notes in one request.
pub const NOTES_MAX: usize = 1_000;
/// The most tags on one note.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// The most steps of a plan; a longer goal is refused.
pub const STEPS_MAX: usize = 64;
/// A session's summary is its result cut at this many characters, then `...`.
pub const SUMMARY_CHARS_MAX: usize = 180;
/// A run's snippet in search results is cut at this many characters.
pub const SNIPPET_CHARS_MAX: usize = 240;
/// A memory's snippet in search results is cut at this many characters.
pub const MEMORY_SNIPPET_CHARS_MAX: usize = 240;
/// How many memories a session recalls.
pub const CONTEXT_ITEMS_MAX: usize = 3;
/// The longest recalled text in a session's context, in bytes; the rest is cut.
pub const CONTEXT_ITEM_BYTES_MAX: usize = 4 * 1024;
/// The longest search query that is looked at, in bytes; the rest is ignored.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;
/// The longest text of one search document, in bytes; the rest is not searched.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024;
