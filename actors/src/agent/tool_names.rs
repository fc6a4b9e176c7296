//! The names of the tools.

/// Runs a program on the session's files.
pub const RUN: &str = "run";
/// Writes a whole file.
pub const WRITE_FILE: &str = "write_file";
/// Replaces one text in a file.
pub const EDIT_FILE: &str = "edit_file";
/// Reads lines of a file.
pub const READ_FILE: &str = "read_file";
/// Lists files.
pub const LIST_FILES: &str = "list_files";
/// Reads a part of an earlier result that was cut.
pub const READ_OUTPUT: &str = "read_output";
/// Searches what the factory knows.
pub const SEARCH_MEMORY: &str = "search_memory";
/// Asks a person.
pub const ASK: &str = "ask";
/// Ends the work.
pub const FINISH: &str = "finish";

/// Every tool, in the order in which a model is told of them.
pub const ALL: [&str; 9] =
    [RUN, WRITE_FILE, EDIT_FILE, READ_FILE, LIST_FILES, READ_OUTPUT, SEARCH_MEMORY, ASK, FINISH];
