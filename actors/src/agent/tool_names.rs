//! The names of the tools, as the model is told of them.

/// Runs a program on the workspace.
pub const RUN: &str = "run";
/// Writes a file.
pub const WRITE_FILE: &str = "write_file";
/// Replaces a text in a file.
pub const EDIT_FILE: &str = "edit_file";
/// Reads a file.
pub const READ_FILE: &str = "read_file";
/// Lists the files.
pub const LIST_FILES: &str = "list_files";
/// Reads a part of an earlier result that was cut.
pub const READ_OUTPUT: &str = "read_output";
/// Searches what the factory knows.
pub const SEARCH_MEMORY: &str = "search_memory";
/// Asks a person.
pub const ASK: &str = "ask";
/// Declares the end of the work.
pub const FINISH: &str = "finish";
