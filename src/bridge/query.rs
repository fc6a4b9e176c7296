//! Converts query and path parameters into fields of an operation's body.

use std::str::FromStr;

use ai_factory_schemas::{
    file::check_name,
    id::{CommandId, ParseIdError, RequestId, SessionRef},
    problem::Problem,
    route::{Parameter, ParameterLocation, ParameterType, Route},
    text::BlobHash,
    time::Timestamp,
};
use serde_json::{Map, Value};

/// Shown part of an invalid value, in characters.
const SHOWN_CHARS_MAX: usize = 40;

/// The fields from a request's path and query, or the error in them. Unknown parameters are
/// ignored.
pub fn fields(route: &Route, path: &str, query: &str) -> Result<Map<String, Value>, Problem> {
    let mut fields = Map::new();
    for parameter in route.parameters {
        let text = match parameter.place {
            ParameterLocation::Query => in_query(parameter.name, query)?,
            ParameterLocation::Path => in_path(parameter.name, route.path, path)?,
            ParameterLocation::Header => None,
        };
        match text {
            Some(text) => {
                fields.insert(parameter.name.to_owned(), value(parameter, text)?);
            }
            None if parameter.required => {
                let loc = ["query", parameter.name];
                return Err(Problem::invalid(&loc, "missing", "this parameter is required"));
            }
            None => {}
        }
    }
    Ok(fields)
}

/// The single value of a query parameter.
pub fn in_query(name: &str, query: &str) -> Result<Option<String>, Problem> {
    let invalid = |kind, msg| Problem::invalid(&["query", name], kind, msg);
    let mut found = None;
    for pair in query.split('&') {
        let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key).as_deref() != Some(name) {
            continue;
        }
        let Some(text) = decoded(text) else {
            return Err(invalid("bad_encoding", "is not percent-encoded UTF-8"));
        };
        if found.replace(text).is_some() {
            return Err(invalid("repeated", "must be given once"));
        }
    }
    Ok(found)
}

/// The part of `path` at the route's `{name}`.
fn in_path(name: &str, pattern: &str, path: &str) -> Result<Option<String>, Problem> {
    let tokens = pattern.split('/').count();
    // The last token of a pattern has the rest of the path: a file's path has slashes.
    let mut pairs = pattern.split('/').zip(path.splitn(tokens, '/'));
    let found = pairs.find(|(token, _)| {
        token.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) == Some(name)
    });
    let Some((_, text)) = found else { return Ok(None) };
    // `+` means a space only in a query; RFC 3986 has no such rule.
    let decoded = decoded(&text.replace('+', "%2B"));
    decoded.map(Some).ok_or_else(|| {
        Problem::invalid(&["path", name], "bad_encoding", "is not percent-encoded UTF-8")
    })
}

fn value(parameter: &Parameter, text: String) -> Result<Value, Problem> {
    let invalid = |place, kind, wanted: &str| {
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        let msg = format!("must be {wanted}, not `{shown}`");
        Problem::invalid(&[place, parameter.name], kind, msg)
    };
    match parameter.kind {
        ParameterType::Text => Ok(text.into()),
        ParameterType::Count { max, .. } => text.parse::<u32>().map(Value::from).map_err(|_| {
            invalid("query", "int_parsing", &format!("a whole number between 1 and {max}"))
        }),
        ParameterType::Choice(words) if words.contains(&text.as_str()) => Ok(text.into()),
        ParameterType::Choice(words) => {
            Err(invalid("query", "enum", &format!("one of {}", words.join(", "))))
        }
        ParameterType::Time => {
            Timestamp::parse_human(&text).map(|time| time.to_string().into()).map_err(|_| {
                invalid(
                    "query",
                    "datetime_parsing",
                    "a time such as 2026-01-31T12:00:00Z, or a date",
                )
            })
        }
        ParameterType::Position => text
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| invalid("query", "int_parsing", "a position of the journal")),
        ParameterType::Bytes => text
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| invalid("query", "int_parsing", "a number of bytes")),
        ParameterType::Hash => match text.parse::<BlobHash>() {
            Ok(hash) => Ok(hash.to_string().into()),
            Err(wrong) => {
                Err(Problem::invalid(&["path", parameter.name], "value_error", wrong.to_string()))
            }
        },
        ParameterType::FilePath => match check_name(&text) {
            Ok(()) => Ok(text.into()),
            Err(wrong) => Err(Problem::invalid(&["path", parameter.name], "value_error", wrong)),
        },
        ParameterType::Request => named::<RequestId>(parameter, "query", text),
        ParameterType::Key => named::<CommandId>(parameter, "query", text),
        ParameterType::Session => named::<SessionRef>(parameter, "path", text),
    }
}

/// Checks a text that must be an id or a key.
fn named<T: FromStr<Err = ParseIdError>>(
    parameter: &Parameter,
    place: &str,
    text: String,
) -> Result<Value, Problem> {
    match text.parse::<T>() {
        Ok(_) => Ok(text.into()),
        Err(wrong) => {
            Err(Problem::invalid(&[place, parameter.name], "value_error", wrong.to_string()))
        }
    }
}

/// Decodes form encoding: `+` is a space, `%` precedes two hexadecimal digits, and the result is
/// UTF-8.
fn decoded(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => u8::try_from(digit(bytes.next())? * 16 + digit(bytes.next())?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_a_form_is_written() {
        for (query, value) in [
            ("q=a", Ok(Some("a"))),
            ("n=1&q=a+b%20c%C3%A4&x", Ok(Some("a b cä"))),
            ("%71=100%25", Ok(Some("100%"))),
            ("q", Ok(Some(""))),
            ("", Ok(None)),
            ("Q=a&%zz=1", Ok(None)),
            ("q=a&q=a", Err("repeated")),
            ("q=%", Err("bad_encoding")),
            ("q=%4", Err("bad_encoding")),
            ("q=%+1", Err("bad_encoding")),
            ("q=%ff", Err("bad_encoding")),
        ] {
            match (in_query("q", query), value) {
                (Ok(found), Ok(value)) => assert_eq!(found.as_deref(), value, "{query}"),
                (Err(problem), Err(kind)) => {
                    let said = serde_json::to_string(&problem.detail).unwrap();
                    assert!(
                        said.contains(kind) && said.contains(r#"["query","q"]"#),
                        "{query}: {said}"
                    );
                }
                (found, _) => panic!("{query}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_name_in_a_path_is_percent_encoded_and_a_plus_in_it_is_a_plus() {
        for (path, value) in [
            ("/a/x/b", Some("x")),
            ("/a/x+y%20z%2Fw/b", Some("x+y z/w")),
            ("/a/%C3%A4/b", Some("ä")),
            ("/a", None),
        ] {
            assert_eq!(in_path("id", "/a/{id}/b", path).unwrap().as_deref(), value, "{path}");
        }
        let file = |path| in_path("path", "/a/{path}", path).unwrap();
        assert_eq!(file("/a/x/y%2f../z").as_deref(), Some("x/y/../z"));
        for path in ["/a/%ff/b", "/a/%/b", "/a/%zz/b"] {
            assert!(in_path("id", "/a/{id}/b", path).is_err(), "{path}");
        }
    }
}
