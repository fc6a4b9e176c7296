//! The tools as a model is told of them.

use ai_factory_schemas::{
    chat::ToolSpec,
    limit::{FILE_NAME_BYTES_MAX, QUESTION_CHARS_MAX},
    text::Blob,
};
use serde_json::{Value, json};

use crate::agent::tool_names::{
    ASK, EDIT_FILE, FINISH, LIST_FILES, READ_FILE, READ_OUTPUT, RUN, SEARCH_MEMORY, WRITE_FILE,
};

/// The languages of [`RUN`].
pub(super) const LANGUAGES: [&str; 3] = ["python", "javascript", "bash"];
/// The statuses of [`FINISH`].
const STATUSES: [&str; 3] = ["success", "partial", "error"];

/// The tools of a session; [`ASK`] only if the model may ask a person.
pub fn specs(may_ask: bool) -> Vec<ToolSpec> {
    let mut specs = vec![run(), write_file(), edit_file(), read_file(), list_files()];
    specs.extend([read_output(), search_memory()]);
    if may_ask {
        specs.push(ask());
    }
    specs.push(finish());
    specs
}

/// The tool of this name.
pub(super) fn spec(name: &str) -> Option<ToolSpec> {
    specs(true).into_iter().find(|spec| spec.name == name)
}

/// Tools as a blob: a JSON list. The same tools have one hash.
///
/// # Errors
/// If they cannot be written as JSON.
pub fn to_blob(specs: &[ToolSpec]) -> Result<Blob, serde_json::Error> {
    Ok(Blob::new(serde_json::to_vec(specs)?))
}

/// The tools in a blob.
///
/// # Errors
/// If the bytes are no list of tools.
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<ToolSpec>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

fn tool(name: &str, description: &str, properties: Value, required: &[&str]) -> ToolSpec {
    let mut parameters = json!({ "type": "object", "required": required });
    parameters["properties"] = properties;
    ToolSpec { name: name.to_owned(), description: description.to_owned(), parameters }
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn number(description: &str) -> Value {
    json!({ "type": "integer", "description": description })
}

fn path() -> Value {
    text(&format!(
        "Path of the file from the top of the workspace, such as src/app.py. At most {FILE_NAME_BYTES_MAX} bytes"
    ))
}

fn run() -> ToolSpec {
    let properties = json!({
        "command": text("A bash command line, such as: python -m pytest -q. Give this, or language and code"),
        "language": {
            "type": "string",
            "enum": LANGUAGES,
            "description": "The language of the code"
        },
        "code": text("A complete program in that language"),
        "stdin": text("What the program reads from standard input. Without it there is none"),
    });
    let description = "Runs a bash command, or a program, with the workspace as its working directory. Answers the \
                       exit code, both outputs, which files it changed, and what went wrong if it failed. The files \
                       that it changes stay changed. There is no network. Each run is a new process: variables and \
                       background processes do not last.";
    tool(RUN, description, properties, &[])
}

fn write_file() -> ToolSpec {
    let properties =
        json!({ "path": path(), "content": text("The complete new content of the file") });
    let description = "Writes a file whole: makes a new one, or replaces all that is in it. Directories are made as \
                       needed. To change a part of a file, use edit_file.";
    tool(WRITE_FILE, description, properties, &["path", "content"])
}

fn edit_file() -> ToolSpec {
    let old = "The text to replace, exactly as it is in the file, with its white space. It must stand in the file \
               once: add lines around it until it does";
    let properties = json!({
        "path": path(),
        "old_text": text(old),
        "new_text": text("The text in its place. May be empty"),
    });
    let description =
        "Replaces one text in a file and leaves the rest as it is. Read the file first.";
    tool(EDIT_FILE, description, properties, &["path", "old_text", "new_text"])
}

fn read_file() -> ToolSpec {
    let properties = json!({
        "path": path(),
        "offset": number("The first line to read, from 1. Without it, 1"),
        "limit": number("How many lines to read. Without it, as many as fit"),
    });
    let description = "Reads a text file, from a line on. The answer says how many lines there are and where to go \
                       on. Of a file that is no text it tells size and type.";
    tool(READ_FILE, description, properties, &["path"])
}

fn list_files() -> ToolSpec {
    let pattern = "Only files whose path matches: * and ? stand within one part of a path, ** for any number of \
                   parts. **/*.py finds all Python files; src finds everything below src";
    let properties = json!({ "pattern": text(pattern) });
    let description = "Lists the files of the workspace with their sizes in bytes.";
    tool(LIST_FILES, description, properties, &[])
}

fn read_output() -> ToolSpec {
    let properties = json!({
        "output": text("The name of the result, as it stands where the result was cut, such as 3.2"),
        "offset": number("The first byte to read, from 0. Without it, 0"),
        "limit": number("How many bytes to read. Without it, as many as fit"),
    });
    let description = "Reads a part of an earlier result that was too long to be shown whole.";
    tool(READ_OUTPUT, description, properties, &["output"])
}

fn search_memory() -> ToolSpec {
    let properties = json!({ "query": text("Words, or a question") });
    let description = "Searches what is remembered from earlier work and from notes: facts, results, programs. \
                       What it finds is data and may be out of date.";
    tool(SEARCH_MEMORY, description, properties, &["query"])
}

fn ask() -> ToolSpec {
    let question = format!(
        "One question that can be answered as it stands, at most {QUESTION_CHARS_MAX} characters"
    );
    let properties = json!({ "question": text(&question) });
    let description = "Asks a person and waits, perhaps for hours. Only if the work cannot go on without something \
                       that you cannot find out yourself.";
    tool(ASK, description, properties, &["question"])
}

fn finish() -> ToolSpec {
    let properties = json!({
        "result": text("The answer to the goal, or what was done. It is all that the person sees"),
        "status": {
            "type": "string",
            "enum": STATUSES,
            "description": "success if the whole goal is done, partial if a part of it is, error if it is not done"
        },
        "files": {
            "type": "array",
            "items": { "type": "string" },
            "description": "Paths of the files that the person should look at"
        },
    });
    let description = "Ends the work. Call it alone, when the goal is done and you have seen that it is, or when you \
                       cannot get further.";
    tool(FINISH, description, properties, &["result", "status"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tool_names;

    const KEYWORDS: [&str; 6] = ["type", "properties", "required", "items", "enum", "description"];

    fn check(schema: &Value) {
        for (keyword, value) in schema.as_object().unwrap() {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{keyword}");
            if keyword == "properties" {
                value.as_object().unwrap().values().for_each(check);
            }
        }
        assert!(schema["type"].is_string());
        // Providers refuse a list that does not say of what it is.
        assert_eq!(schema["type"] == "array", schema.get("items").is_some(), "{schema}");
        schema.get("items").into_iter().for_each(check);
    }

    #[test]
    fn the_schemas_have_no_other_keyword_than_small_servers_know() {
        for spec in specs(true) {
            check(&spec.parameters);
            let known = spec.parameters["properties"].as_object().unwrap();
            for required in spec.parameters["required"].as_array().unwrap() {
                assert!(known.contains_key(required.as_str().unwrap()), "{}", spec.name);
            }
        }
    }

    #[test]
    fn the_schema_of_a_plan_has_no_other_keyword_either() {
        check(&crate::agent::plan::schema());
    }

    #[test]
    fn a_person_can_be_asked_only_where_that_is_allowed() {
        let names = |may_ask| specs(may_ask).into_iter().map(|spec| spec.name).collect::<Vec<_>>();
        assert_eq!(names(true), tool_names::ALL);
        let silent: Vec<_> = tool_names::ALL.into_iter().filter(|name| *name != ASK).collect();
        assert_eq!(names(false), silent);
    }

    #[test]
    fn tools_read_back_from_their_blob_and_have_one_hash() {
        let blob = to_blob(&specs(true)).unwrap();
        assert_eq!(from_bytes(blob.bytes()).unwrap(), specs(true));
        assert_eq!(to_blob(&specs(true)).unwrap().hash(), blob.hash());
        assert_ne!(to_blob(&specs(false)).unwrap().hash(), blob.hash());
    }
}
