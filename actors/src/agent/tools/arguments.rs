//! Arguments of tool calls: what a model wrote, read strictly, refused with what is expected.

use ai_factory_schemas::{chat::ToolSpec, quote::printable};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::specs::spec;

/// The longest description of a fault, in characters.
const FAULT_CHARS_MAX: usize = 300;

/// The arguments of a call of `tool`. No arguments count as `{}`, and a string that holds an object
/// as that object: some models write it so.
///
/// # Errors
/// A sentence that names the field and what is expected.
pub(super) fn read<T: DeserializeOwned>(tool: &str, arguments: &str) -> Result<T, String> {
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    parse(arguments).or_else(|fault| {
        let inner = serde_json::from_str::<String>(arguments).ok();
        inner.and_then(|inner| parse(&inner).ok()).ok_or_else(|| {
            let expected = spec(tool).map(|spec| expected(&spec)).unwrap_or_default();
            format!("The arguments of `{tool}` are wrong: {fault}. {expected}.")
        })
    })
}

fn parse<T: DeserializeOwned>(arguments: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(arguments);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|fault| {
        let (path, cause) = (fault.path().to_string(), fault.inner().to_string());
        let told = if path == "." { cause } else { format!("`{path}`: {cause}") };
        printable(&told, FAULT_CHARS_MAX)
    })?;
    json.end().map_err(|fault| printable(&fault.to_string(), FAULT_CHARS_MAX))?;
    Ok(read)
}

/// What a tool takes: each field with its type.
fn expected(tool: &ToolSpec) -> String {
    let none = Vec::new();
    let required = tool.parameters["required"].as_array().unwrap_or(&none);
    let fields = tool.parameters["properties"].as_object().into_iter().flatten();
    let mut fields: Vec<_> = fields
        .map(|(name, field)| {
            let is_required = required.iter().any(|required| required == name);
            let needed = if is_required { "required" } else { "optional" };
            (!is_required, format!("`{name}` ({}, {needed})", kind(field)))
        })
        .collect();
    fields.sort();
    let fields: Vec<_> = fields.into_iter().map(|(_, field)| field).collect();
    match fields.as_slice() {
        [] => "It takes an empty JSON object".to_owned(),
        fields => format!("It takes a JSON object with {}", fields.join(", ")),
    }
}

fn kind(field: &Value) -> String {
    match field["enum"].as_array() {
        Some(values) => {
            let values: Vec<_> = values.iter().map(Value::to_string).collect();
            format!("one of {}", values.join(", "))
        }
        None => field["type"].as_str().unwrap_or("any").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::agent::tool_names;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Read {
        path: String,
        #[serde(default)]
        offset: Option<u64>,
    }

    fn read_file(arguments: &str) -> Result<Read, String> {
        read(tool_names::READ_FILE, arguments)
    }

    #[test]
    fn a_fault_names_the_field_and_what_is_expected() {
        for (arguments, words) in [
            ("", "missing field `path`"),
            ("  ", "missing field `path`"),
            ("{", "EOF while parsing"),
            ("[]", "invalid length 0"),
            ("7", "invalid type: integer `7`"),
            ("{\"path\": 3}", "`path`: invalid type: integer `3`, expected a string"),
            ("{\"path\": null}", "`path`: invalid type: null, expected a string"),
            ("{\"path\": \"a\", \"offset\": \"2\"}", "`offset`: invalid type: string \"2\""),
            ("{\"path\": \"a\", \"offset\": -2}", "`offset`: invalid value: integer `-2`"),
            ("{\"path\": \"a\", \"file\": 1}", "unknown field `file`"),
            ("{\"path\": \"a\"} and more", "trailing characters"),
            ("{\"path\": \"a\", \"path\": \"b\"}", "duplicate field `path`"),
            ("\"{\\\"file\\\": 1}\"", "invalid type: string"),
        ] {
            let fault = read_file(arguments).unwrap_err();
            assert!(fault.contains(words), "{arguments}: {fault}");
            assert!(fault.starts_with("The arguments of `read_file` are wrong: "), "{fault}");
            assert!(fault.contains("`path` (string, required), "), "{fault}");
            assert!(fault.contains("`offset` (integer, optional)"), "{fault}");
        }
    }

    #[test]
    fn an_object_within_a_string_is_read_and_null_counts_as_absent() {
        let read = read_file("\"{\\\"path\\\": \\\"a\\\", \\\"offset\\\": null}\"").unwrap();
        assert_eq!((read.path.as_str(), read.offset), ("a", None));
    }

    #[test]
    fn a_fault_quotes_little_and_nothing_hidden() {
        let hostile = format!("{{\"path\": \"a\", \"{}\": 1}}", "\\u001b]0;".repeat(10_000));
        let fault = read_file(&hostile).unwrap_err();
        assert!(fault.len() < 4_000 && !fault.contains('\u{1b}'), "{fault}");
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read_file(&nested).is_err());
    }
}
