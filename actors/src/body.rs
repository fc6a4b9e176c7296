//! The body of a request: a JSON object, and one that every reader of JSON understands alike.
//!
//! *Promises.* All of it is looked at, unknown fields too: what is no Unicode (a lone surrogate, a broken UTF-8
//! sequence), no number of this world (`NaN`, `1e400`) or nested too deeply (128 levels) is refused.

use std::fmt;

use ai_factory_schemas::problem::Problem;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::error::Category;

/// How much is said about what is wrong, in characters: it may quote the body.
const FAULT_CHARS_MAX: usize = 300;

/// The body as `T`, or the problem to answer. No body is an empty object.
pub fn read_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    let Object = serde_json::from_slice(body).map_err(|fault| not_read(&fault, "json_invalid"))?;
    // It is JSON: what is wrong now are its values, even where the reader calls that syntax.
    serde_json::from_slice(body).map_err(|fault| not_read(&fault, "value_error"))
}

/// `syntax` is the kind of a fault that the reader calls one of syntax.
fn not_read(fault: &serde_json::Error, syntax: &str) -> Problem {
    let sentence: String = fault.to_string().chars().take(FAULT_CHARS_MAX).collect();
    let missing = sentence.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    match (missing, fault.classify()) {
        (Some((field, _)), _) => {
            Problem::invalid(&["body", field], "missing", "this field is required")
        }
        (None, Category::Data) => Problem::invalid(&["body"], "value_error", sentence),
        (None, _) => Problem::invalid(&["body"], syntax, sentence),
    }
}

/// A JSON object, looked at as a whole and not kept.
struct Object;

/// Any JSON value, looked at as a whole and not kept.
struct Whole;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        while map.next_entry::<Whole, Whole>()?.is_some() {}
        Ok(Object)
    }
}

struct WholeVisitor;

impl<'de> Visitor<'de> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Whole, E> {
        Ok(Whole)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Whole, E> {
        Ok(Whole)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Whole, E> {
        Ok(Whole)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Whole, E> {
        Ok(Whole)
    }

    fn visit_str<E>(self, _: &str) -> Result<Whole, E> {
        Ok(Whole)
    }

    fn visit_unit<E>(self) -> Result<Whole, E> {
        Ok(Whole)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Whole, A::Error> {
        while seq.next_element::<Whole>()?.is_some() {}
        Ok(Whole)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Whole, A::Error> {
        ObjectVisitor.visit_map(map).map(|Object| Whole)
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::request::Search;

    use super::*;

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
            match read_body::<Search>(body) {
                Ok(_) => assert!(is_fine, "{shown}"),
                Err(problem) => assert!(!is_fine && problem.status == 422, "{shown}: {problem}"),
            }
        }
        let long = format!(r#"{{"q":"a","n":"{}"}}"#, "x".repeat(100_000));
        assert!(read_body::<Search>(long.as_bytes()).unwrap_err().sentence().len() < 400);
    }
}
