//! The commands of the real program: what they take, what they refuse, and what they say.

mod files;
mod filters;
mod progress;
mod settings;
mod signals;
mod text_files;

use serde_json::Value;

use crate::support::process::TestHome;

/// A goal that runs at once and writes something.
const GOAL: &str = "Print:\n```python\nprint(6 * 7)\n```\n";

/// Runs it, expects that it is refused as used wrongly, and that what it says contains all of
/// `parts`.
fn refused(place: &TestHome, arguments: &[&str], parts: &[&str]) {
    let (printed, said) = place.printed(2, arguments);
    assert_eq!(printed, "", "{arguments:?}: {said}");
    assert!(said.starts_with("error: "), "{arguments:?}: {said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
}

/// The value and the source of a setting.
fn setting(settings: &Value, key: &str) -> (String, String) {
    let found = settings.as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    (text(&found["value"]), text(&found["source"]))
}
