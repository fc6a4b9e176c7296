//! The body of a request: a JSON object that every JSON reader understands alike.
//!
//! *Promises.* The whole body is checked, unknown fields included. Refused are text that is not
//! Unicode (a lone surrogate, a broken UTF-8 sequence), numbers out of range (`NaN`, `1e400`) and
//! nesting deeper than 128 levels. A refusal names the path of the faulty value at any depth.

use std::fmt;

use ai_factory_schemas::{
    encoding::{BYTE_ORDER_MARK, has_other_mark},
    problem::{PathSegment, Problem},
    quote::{printable, quoted},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::error::Category;
use serde_path_to_error::Segment;

/// The longest description of a fault, in characters: it may quote the body.
const FAULT_CHARS_MAX: usize = 300;
/// The longest path to a faulty value, in steps.
const PLACES_MAX: usize = 16;

/// The text behind a byte order mark, and behind the white space around the mark (RFC 8259 §8.1
/// lets a reader ignore the mark). Text without a mark is unchanged.
pub fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    let mut mark = [0; 4];
    let mark = BYTE_ORDER_MARK.encode_utf8(&mut mark).as_bytes();
    let (mut rest, mut has_mark) = (text, false);
    loop {
        let trimmed = rest.trim_ascii_start();
        match trimmed.strip_prefix(mark) {
            Some(behind) => (rest, has_mark) = (behind, true),
            None if has_mark => return trimmed,
            None => return text,
        }
    }
}

/// The text as UTF-8, or the problem; `what` says what is expected.
pub fn utf_8<'a>(text: &'a [u8], what: &str) -> Result<&'a str, Problem> {
    std::str::from_utf8(text).map_err(|fault| {
        Problem::bad_request(if has_other_mark(text) {
            format!("{what}: this begins with the byte order mark of UTF-16, send UTF-8")
        } else {
            format!("{what}: byte {} is neither", fault.valid_up_to())
        })
    })
}

/// The body as `T`, or the problem. An empty body counts as `{}`; a leading byte order mark is
/// ignored.
pub fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = without_byte_order_mark(body);
    let body = if body.is_empty() { b"{}" } else { body };
    if has_other_mark(body) {
        let sentence = "this is UTF-16: send JSON in UTF-8";
        return Err(Problem::invalid(&["body"], "json_invalid", sentence));
    }
    let JsonObject = serde_json::from_slice(body).map_err(|fault| {
        not_read::<JsonObject>(body, &fault, Stage::Syntax, vec!["body".into()])
    })?;
    read_object(body, vec!["body".into()])
}

/// An object inside a body that is valid JSON, as `T`, or the problem. `at` is the object's path.
pub fn read_object<T: DeserializeOwned>(json: &[u8], at: Vec<PathSegment>) -> Result<T, Problem> {
    // serde would also accept a list of the field values.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::invalid_at(at, "value_error", "must be a JSON object"));
    }
    serde_json::from_slice(json).map_err(|fault| not_read::<T>(json, &fault, Stage::Values, at))
}

/// The stage of reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The text may not be JSON.
    Syntax,
    /// The text is JSON: faults are in its values, even if serde calls them syntax errors.
    Values,
}

/// The problem for JSON that could not be read as `T`, with its path below `at`.
fn not_read<T: DeserializeOwned>(
    json: &[u8],
    error: &serde_json::Error,
    stage: Stage,
    at: Vec<PathSegment>,
) -> Problem {
    let sentence = printable(&error.to_string(), FAULT_CHARS_MAX);
    let missing = sentence.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    let mut loc = fault_path::<T>(json, at);
    match (missing, error.classify(), stage) {
        (Some((field, _)), ..) => {
            loc.push(field.into());
            Problem::invalid_at(loc, "missing", "this field is required")
        }
        (None, Category::Data, _) => Problem::invalid_at(loc, "value_error", sentence),
        (None, _, Stage::Syntax) => Problem::invalid_at(loc, "json_invalid", sentence),
        // The only fault in valid JSON that serde reports as a syntax error: a variant name was
        // expected.
        (None, _, Stage::Values) => {
            Problem::invalid_at(loc, "value_error", "must be one of the allowed words")
        }
    }
}

/// The path to the faulty value, as far as it is known. Only refused bodies are read this way,
/// because tracking the path takes time.
fn fault_path<T: DeserializeOwned>(json: &[u8], mut loc: Vec<PathSegment>) -> Vec<PathSegment> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    if let Err(fault) = serde_path_to_error::deserialize::<_, T>(&mut reader) {
        for segment in fault.path().iter().take(PLACES_MAX) {
            loc.push(match segment {
                Segment::Seq { index } => PathSegment::Item(*index as u64),
                Segment::Map { key } => quoted(key).as_str().into(),
                Segment::Enum { variant } => quoted(variant).as_str().into(),
                Segment::Unknown => break,
            });
        }
    }
    loc
}

/// A JSON object, checked as a whole and discarded.
struct JsonObject;

/// Any JSON value, checked as a whole and discarded.
struct AnyJson;

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(JsonObjectVisitor)
    }
}

impl<'de> Deserialize<'de> for AnyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJsonVisitor)
    }
}

struct JsonObjectVisitor;

impl<'de> Visitor<'de> for JsonObjectVisitor {
    type Value = JsonObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonObject, A::Error> {
        while map.next_entry::<AnyJson, AnyJson>()?.is_some() {}
        Ok(JsonObject)
    }
}

struct AnyJsonVisitor;

impl<'de> Visitor<'de> for AnyJsonVisitor {
    type Value = AnyJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<AnyJson, E> {
        Ok(AnyJson)
    }

    fn visit_i64<E>(self, _: i64) -> Result<AnyJson, E> {
        Ok(AnyJson)
    }

    fn visit_u64<E>(self, _: u64) -> Result<AnyJson, E> {
        Ok(AnyJson)
    }

    fn visit_f64<E>(self, _: f64) -> Result<AnyJson, E> {
        Ok(AnyJson)
    }

    fn visit_str<E>(self, _: &str) -> Result<AnyJson, E> {
        Ok(AnyJson)
    }

    fn visit_unit<E>(self) -> Result<AnyJson, E> {
        Ok(AnyJson)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnyJson, A::Error> {
        while seq.next_element::<AnyJson>()?.is_some() {}
        Ok(AnyJson)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AnyJson, A::Error> {
        JsonObjectVisitor.visit_map(map).map(|JsonObject| AnyJson)
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{
        problem::Detail,
        request::{Dispatch, Remember, SearchRuns},
    };
    use serde_json::{Value, json};

    use super::*;

    /// The path and the kind of the body's only fault.
    fn fault<T: DeserializeOwned>(body: &str) -> (Value, String) {
        let problem = read_body::<T>(body.as_bytes()).err().expect("refused");
        let Detail::Faults(faults) = problem.detail else { panic!("{body}: no field is named") };
        assert_eq!(faults.len(), 1, "{body}");
        (json!(faults[0].loc), faults[0].kind.clone())
    }

    #[test]
    fn a_refusal_names_the_value_that_is_wrong() {
        for (body, loc, kind) in [
            (r#"{"text":5}"#, json!(["body", "text"]), "value_error"),
            (r#"{"text":null}"#, json!(["body", "text"]), "value_error"),
            (r#"{"text":"x","tags":"y"}"#, json!(["body", "tags"]), "value_error"),
            (r#"{"text":"x","tags":["y",7]}"#, json!(["body", "tags", 1]), "value_error"),
            (r#"{"text":"x","tags":[{"a":[]}]}"#, json!(["body", "tags", 0]), "value_error"),
            ("{}", json!(["body", "text"]), "missing"),
            (
                r#"{"text":"x","more":{"a":[1,1e400]}}"#,
                json!(["body", "more", "a", 1]),
                "json_invalid",
            ),
            (r#"{"text":"\ud800"}"#, json!(["body", "text"]), "json_invalid"),
            ("[]", json!(["body"]), "value_error"),
        ] {
            assert_eq!(fault::<Remember>(body), (loc, kind.to_owned()), "{body}");
        }
        let (loc, kind) = fault::<Dispatch>(r#"{"prompt":"x","task_type":"walk"}"#);
        assert_eq!((loc, &*kind), (json!(["body", "task_type"]), "value_error"));
        let (loc, kind) = fault::<Dispatch>(r#"{"prompt":"x","task_type":5}"#);
        assert_eq!((loc, &*kind), (json!(["body", "task_type"]), "value_error"));
    }

    #[test]
    fn a_byte_order_mark_before_a_body_is_passed_over_and_one_within_it_stays() {
        for body in [
            "\u{feff}{\"q\":\"a\"}",
            "\u{feff} \n{\"q\":\"a\"}",
            " \r\n\u{feff}{\"q\":\"a\"}",
            "\u{feff}\u{feff}{\"q\":\"a\"}",
        ] {
            assert_eq!(read_body::<SearchRuns>(body.as_bytes()).unwrap().q, "a", "{body:?}");
        }
        let within = read_body::<SearchRuns>("{\"q\":\"\u{feff}a\"}".as_bytes()).unwrap();
        assert_eq!(within.q, "\u{feff}a");
        assert!(read_body::<SearchRuns>("{\u{feff}\"q\":\"a\"}".as_bytes()).is_err());
        assert_eq!(without_byte_order_mark(b"  a"), b"  a", "white space alone is left");
        assert_eq!(without_byte_order_mark("\u{feff}".as_bytes()), b"");
    }

    #[test]
    fn what_is_said_about_a_body_is_short_and_printable() {
        let name = "\\u001b".repeat(1000);
        let deep = format!(r#"{{"text":"x","{name}":{}1e400{}}}"#, "[".repeat(90), "]".repeat(90));
        let (loc, _) = fault::<Remember>(&deep);
        assert_eq!(loc.as_array().unwrap().len(), PLACES_MAX + 1);
        assert!(loc.to_string().len() < 500, "{loc}");
        let body = format!(r#"{{"prompt":"x","task_type":"{name}"}}"#);
        let said = read_body::<Dispatch>(body.as_bytes()).unwrap_err().sentence();
        assert!(said.len() < 2000 && !said.contains('\u{1b}'), "{said}");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_utf_16_is_refused_by_name() {
        for body in ["\u{feff}{\"q\":\"a\"}", " \n\u{feff} {\"q\":\"a\"}"] {
            assert_eq!(read_body::<SearchRuns>(body.as_bytes()).unwrap().q, "a", "{body:?}");
        }
        assert_eq!(fault::<SearchRuns>("\u{feff}"), (json!(["body", "q"]), "missing".to_owned()));
        assert_eq!(fault::<SearchRuns>("{\u{feff}\"q\":\"a\"}").1, "json_invalid");
        for utf_16 in [&b"\xff\xfe{\0}\0"[..], b"\xfe\xff\0{\0}"] {
            let refused = read_body::<SearchRuns>(utf_16).unwrap_err();
            assert!(refused.status == 422 && refused.sentence().contains("UTF-8"), "{refused}");
        }
    }

    #[test]
    fn a_body_is_an_object_that_everybody_reads_alike() {
        let deep = format!(r#"{{"q":"a","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let bodies: [(&[u8], bool); 16] = [
            (br#"{"q":"a"}"#, true),
            (
                b" { \"q\" : \"\\ud83d\\ude00\", \"x\": [1, -2, 3.5, null, true, {\"y\": []}] } ",
                true,
            ),
            (b"[]", false),
            (br#"["a"]"#, false),
            (b"null", false),
            (b"\"a\"", false),
            (b"", false),
            (br#"{"q":"a"} {}"#, false),
            (br#"{"q":"a","q":"b"}"#, false),
            (br#"{"q":"\ud800"}"#, false),
            (br#"{"q":"a","x":"\ud800"}"#, false),
            (br#"{"q":"a","\udc00":1}"#, false),
            (br#"{"q":"a","x":NaN}"#, false),
            (br#"{"q":"a","x":1e400}"#, false),
            (b"{\"q\":\"a\",\"x\":\"\xff\"}", false),
            (deep.as_bytes(), false),
        ];
        for (body, is_fine) in bodies {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
            match read_body::<SearchRuns>(body) {
                Ok(_) => assert!(is_fine, "{shown}"),
                Err(problem) => assert!(!is_fine && problem.status == 422, "{shown}: {problem}"),
            }
        }
        let long = format!(r#"{{"q":"a","n":"{}"}}"#, "x".repeat(100_000));
        assert!(read_body::<SearchRuns>(long.as_bytes()).unwrap_err().sentence().len() < 400);
    }
}
