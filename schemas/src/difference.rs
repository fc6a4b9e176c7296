//! The first difference of two JSON values.

use serde_json::Value;

/// Length limit of a value in a difference, in characters.
const SHOWN_CHARS_MAX: usize = 80;
/// Characters that two texts have in common and that are shown before their difference.
const COMMON_CHARS_SHOWN: usize = 20;
/// Stands for a value that is not there.
const NOTHING: &str = "nothing";

/// A difference.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where it is, such as `$.messages[2].text`.
    pub path: String,
    /// What the first value has there, shortened.
    pub before: String,
    /// What the second value has there, shortened.
    pub after: String,
}

/// Where two values differ first; keys are compared in their order.
pub fn first_difference(before: &Value, after: &Value) -> Option<Difference> {
    differ("$".to_owned(), Some(before), Some(after))
}

fn differ(path: String, before: Option<&Value>, after: Option<&Value>) -> Option<Difference> {
    match (before, after) {
        (Some(before), Some(after)) if before == after => None,
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            let mut keys = keys.into_iter();
            keys.find_map(|key| differ(format!("{path}.{key}"), before.get(key), after.get(key)))
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            (0..before.len().max(after.len())).find_map(|place| {
                differ(format!("{path}[{place}]"), before.get(place), after.get(place))
            })
        }
        (Some(Value::String(before)), Some(Value::String(after))) => {
            let pairs = before.chars().zip(after.chars());
            let common = pairs.take_while(|(before, after)| before == after).count();
            let skipped = common.saturating_sub(COMMON_CHARS_SHOWN);
            Some(Difference { path, before: part(before, skipped), after: part(after, skipped) })
        }
        (before, after) => Some(Difference { path, before: shown(before), after: shown(after) }),
    }
}

/// A part of a text, quoted.
fn part(text: &str, skipped: usize) -> String {
    let mut chars = text.chars().skip(skipped);
    let shown: String = chars.by_ref().take(SHOWN_CHARS_MAX).collect();
    let (before, after) =
        (if skipped > 0 { "…" } else { "" }, if chars.next().is_some() { "…" } else { "" });
    format!("{:?}", format!("{before}{shown}{after}"))
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return NOTHING.to_owned() };
    let text = value.to_string();
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(SHOWN_CHARS_MAX).collect();
    if chars.next().is_some() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(before: &Value, after: &Value) -> [String; 3] {
        let Some(difference) = first_difference(before, after) else {
            return Default::default();
        };
        [difference.path, difference.before, difference.after]
    }

    #[test]
    fn the_first_difference_has_its_path_and_both_values() {
        let same = json!({ "a": [1, 2] });
        assert_eq!(first_difference(&same, &same), None);
        assert_eq!(
            found(&json!({ "a": [1, { "b": true }], "z": 1 }), &json!({ "a": [1, { "b": null }] })),
            ["$.a[1].b", "true", "null"]
        );
        assert_eq!(found(&json!({ "a": [1] }), &json!({ "a": [] })), ["$.a[0]", "1", NOTHING]);
        assert_eq!(found(&json!({}), &json!({ "k": "v" })), ["$.k", NOTHING, "\"v\""]);
        let (long, same) = ("x".repeat(500), "s".repeat(100));
        let [_, before, after] =
            found(&json!(format!("{same}a{long}")), &json!(format!("{same}b")));
        assert!(before.starts_with("\"…ssss") && before.ends_with("x…\""), "{before}");
        assert_eq!(after, format!("\"…{}b\"", "s".repeat(COMMON_CHARS_SHOWN)));
    }
}
