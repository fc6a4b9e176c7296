//! Limits of the contract. Those that an operator may change are settings, with these as defaults.

/// The longest text that a record holds inline, in bytes; longer ones become blobs.
pub const TEXT_INLINE_BYTES_MAX: usize = 32 * 1024;
/// The longest beginning of a blob's text in its record, in bytes.
pub const TEXT_HEAD_BYTES_MAX: usize = 4 * 1024;
/// The largest encoded record, in bytes. A 100 kB goal with its plan is far below it.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// The largest blob, in bytes: one captured output stream with room to spare.
pub const BLOB_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most events in one append.
pub const APPEND_EVENTS_MAX: usize = 256;
/// The longest goal or prompt, in bytes.
pub const GOAL_BYTES_MAX: usize = 128 * 1024;
/// The longest submitter name that is kept, in characters.
pub const SUBMITTER_CHARS_MAX: usize = 160;
/// The longest beginning of a rejected goal that is kept, in bytes.
pub const REJECTED_BYTES_MAX: usize = 4 * 1024;
/// The longest code of one run, in bytes.
pub const CODE_BYTES_MAX: usize = 128 * 1024;
/// The longest standard input of one run, in bytes.
pub const STDIN_BYTES_MAX: usize = 256 * 1024;
/// The most input files of one run, and the most output files.
pub const FILES_MAX: usize = 64;
/// The content of all input files of one run, or of all output files, in bytes as sent.
pub const FILES_BYTES_MAX: usize = 512 * 1024;
/// The longest name of an input or output file, in bytes.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// The longest content of such a file that a record holds inline, in bytes; longer ones become
/// blobs.
pub const FILE_INLINE_BYTES_MAX: usize = 1024;
/// The longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// The most notes in one import.
pub const NOTES_MAX: usize = 1_000;
/// The most tags on one note.
pub const TAGS_MAX: usize = 16;
/// The longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 64;
/// The most steps of a plan; a goal with more is refused.
pub const STEPS_MAX: usize = 64;
/// The longest summary, in characters: the result is cut there and `...` appended.
pub const SUMMARY_CHARS_MAX: usize = 180;
/// The longest snippet of a run in search results, in characters.
pub const SNIPPET_CHARS_MAX: usize = 240;
/// The longest snippet of a memory in search results, in characters.
pub const MEMORY_SNIPPET_CHARS_MAX: usize = 240;
/// The most memories that a session recalls.
pub const CONTEXT_ITEMS_MAX: usize = 3;
/// The longest recalled text in a session's context, in bytes; longer ones are cut.
pub const CONTEXT_ITEM_BYTES_MAX: usize = 4 * 1024;
/// The longest search query, in bytes; the rest is ignored.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;
/// The longest indexed text of one search document, in bytes; the rest is not searched.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024;
/// The most files of a workspace.
pub const WORKSPACE_FILES_MAX: usize = 2_000;
/// The largest file of a workspace, in bytes.
pub const WORKSPACE_FILE_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// All files of a workspace together, in bytes.
pub const WORKSPACE_BYTES_MAX: u64 = 24 * 1024 * 1024;
/// The longest code of a check, in bytes.
pub const CHECK_BYTES_MAX: usize = 32 * 1024;
/// The most patterns of protected files.
pub const PROTECT_PATTERNS_MAX: usize = 64;
/// The largest part of an uploaded file in one request, in bytes.
pub const UPLOAD_PART_BYTES_MAX: usize = 1024 * 1024;
/// The largest part of a session's file in one answer, in bytes.
pub const FILE_PART_BYTES_MAX: usize = 512 * 1024;
/// The most changed files that an answer about a session names; `supervisor.files` tells all.
pub const CHANGED_FILES_MAX: usize = 100;
/// The most paths on a page of a session's files.
pub const FILES_PAGE_PATHS_MAX: u32 = 4_000;
/// The longest page of a session's files, in bytes of JSON: with its frame it fits a message of
/// 1 MiB, the default limit of a NATS server.
pub const FILES_PAGE_BYTES_MAX: usize = 768 * 1024;
/// The longest message of a diagnosis, in characters.
pub const DIAGNOSIS_MESSAGE_CHARS_MAX: usize = 500;
/// The longest source line in a diagnosis, in characters.
pub const DIAGNOSIS_LINE_CHARS_MAX: usize = 200;
/// The most failing tests that a diagnosis names.
pub const DIAGNOSIS_TESTS_MAX: usize = 50;
/// The longest name of a tool that is recorded, in characters.
pub const TOOL_NAME_CHARS_MAX: usize = 64;
/// The most tool calls of one answer that are carried out.
pub const TOOL_CALLS_MAX: usize = 16;
/// The most tool calls of one answer that is read at all.
pub const TOOL_CALLS_READ_MAX: usize = 64;
/// The largest answer of a model, and the longest line of its stream, in bytes.
pub const MODEL_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// The beginning of a tool's result that the model sees, in bytes.
pub const TOOL_RESULT_HEAD_BYTES_MAX: usize = 4 * 1024;
/// The end of a tool's result that the model sees, in bytes.
pub const TOOL_RESULT_TAIL_BYTES_MAX: usize = 12 * 1024;
/// The longest question to a person, in characters.
pub const QUESTION_CHARS_MAX: usize = 2_000;
/// The longest answer to a question, in bytes.
pub const QUESTION_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Tokens set aside for each message of a request beside its bytes.
pub const MESSAGE_TOKENS_MAX: u64 = 16;
