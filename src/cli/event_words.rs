//! The words of event filters: types, categories and statuses.
//!
//! *Promises.* A filter that no event can match is refused with a list of what exists, so that
//! nobody waits in vain.

use ai_factory_schemas::{
    envelope::TYPE_PREFIX, event::EVENT_TYPES, id::Category, quote::quoted, run::RunStatus,
    session::SessionStatus, subject::SubjectFilter, subject::Subjects,
};

use super::exit::CommandError;

/// The statuses of runs.
const OF_RUNS: &[&str] =
    &[RunStatus::Success.as_str(), RunStatus::Error.as_str(), RunStatus::Timeout.as_str()];
/// The statuses of sessions.
const OF_SESSIONS: &[&str] = &[
    SessionStatus::Success.as_str(),
    SessionStatus::Partial.as_str(),
    SessionStatus::Error.as_str(),
];
/// The event types with a status, and their statuses.
const STATUSES: &[(&str, &[&str])] = &[
    ("run.finished", OF_RUNS),
    ("session.step_finished", OF_RUNS),
    ("session.check_finished", OF_RUNS),
    ("session.concluded", OF_SESSIONS),
];

/// The names of all types.
fn types() -> impl Iterator<Item = &'static str> {
    EVENT_TYPES.iter().map(|(name, _)| *name)
}

/// The statuses of a type's events.
fn statuses_of(name: &str) -> &'static [&'static str] {
    STATUSES.iter().find(|(of, _)| *of == name).map_or(&[], |(_, statuses)| statuses)
}

/// Whether `kind` is the type `name`, or its category.
pub(crate) fn is_of_kind(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Parses a type or category, also in its wire form: `dev.ai-factory.run.finished.v1`.
pub(crate) fn kind(text: &str) -> Result<String, String> {
    let name = text.trim();
    let name = match name.strip_prefix(TYPE_PREFIX) {
        Some(rest) => rest.rsplit_once(".v").map_or(rest, |(name, _)| name),
        None => name,
    };
    if !name.is_empty() && types().any(|known| is_of_kind(known, name)) {
        return Ok(name.to_owned());
    }
    let types: Vec<_> = types().collect();
    let categories = Category::ALL.map(Category::as_str);
    Err(format!(
        "no event has this type: use {}; or a category: {}",
        types.join(", "),
        or(&categories)
    ))
}

/// Parses a status.
pub(crate) fn status(text: &str) -> Result<String, String> {
    let word = text.trim();
    let mut known: Vec<&str> = Vec::new();
    for status in STATUSES.iter().flat_map(|(_, statuses)| *statuses) {
        if !known.contains(status) {
            known.push(status);
        }
    }
    if known.contains(&word) {
        return Ok(word.to_owned());
    }
    Err(format!("no event carries this status: use {}", or(&known)))
}

/// Refuses a combination that matches no event although each part is valid.
pub(crate) fn check_together(
    subjects: &Subjects,
    filter: Option<&SubjectFilter>,
    kind: Option<&str>,
    status: Option<&str>,
) -> Result<(), CommandError> {
    let is_asked_for = |name: &&str| kind.is_none_or(|kind| is_of_kind(name, kind));
    let mut names: Vec<_> = types()
        .filter(|name| filter.is_none_or(|filter| subjects.has_event_of(filter, name)))
        .filter(is_asked_for)
        .collect();
    if names.is_empty() {
        return Err(CommandError::usage(format_args!(
            "no event of the type `{}` has such a subject: ask for one of them",
            quoted(kind.unwrap_or_default())
        )));
    }
    let Some(status) = status else { return Ok(()) };
    names.retain(|name| statuses_of(name).contains(&status));
    if names.is_empty() {
        let of = STATUSES.iter().filter(|(_, words)| words.contains(&status));
        let of: Vec<_> = of.map(|(name, _)| *name).collect();
        return Err(CommandError::usage(format_args!(
            "no selected event can have the status `{status}`: only {} can",
            and(&of)
        )));
    }
    Ok(())
}

/// Joins words with commas and a final `or`.
fn or(words: &[&str]) -> String {
    listed(words, "or")
}

fn and(words: &[&str]) -> String {
    listed(words, "and")
}

fn listed(words: &[&str], last_with: &str) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            format!("{} {last_with} {last}", rest.join(", "))
        }
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::sample;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_type_is_one_that_there_is_or_its_category() {
        for (text, expected) in [
            ("run", "run"),
            ("run.finished", "run.finished"),
            (" session.step_finished ", "session.step_finished"),
            ("dev.ai-factory.run.finished.v1", "run.finished"),
        ] {
            assert_eq!(kind(text).as_deref(), Ok(expected));
        }
        for wrong in [
            "",
            " ",
            "nonsense",
            "ru",
            "run.",
            "run.finish",
            "finished",
            "Run.Finished",
            "run.*",
            "run>",
            "runs",
            "dev.ai-factory.",
            "dev.ai-factory.nonsense.v1",
            "run.finished.v1",
        ] {
            let said = kind(wrong).unwrap_err();
            assert!(said.contains("run.finished") && said.contains("goal or call"), "{said}");
        }
    }

    #[test]
    fn a_status_is_one_that_events_carry() {
        for right in ["success", "error", "timeout", "partial", " error\t"] {
            assert_eq!(status(right).as_deref(), Ok(right.trim()));
        }
        for wrong in ["", "running", "waiting", "Success", "err", "422", "abandoned"] {
            let said = status(wrong).unwrap_err();
            assert!(said.contains("success, error, timeout or partial"), "{said}");
        }
    }

    #[test]
    fn what_together_matches_nothing_is_refused() {
        let subjects = Subjects::default();
        let check = |filter: &str, kind: &str, status: &str| {
            let given = |text: &'static str| Some(text).filter(|text| !text.is_empty());
            let filter = (!filter.is_empty()).then(|| subjects.event_filter(filter).unwrap());
            let (kind, status) = (kind.to_owned().leak(), status.to_owned().leak());
            check_together(&subjects, filter.as_ref(), given(kind), given(status))
        };
        for (filter, kind, status) in [
            ("", "", ""),
            ("session.>", "", ""),
            ("session.>", "session.concluded", "partial"),
            (">", "run", "timeout"),
            ("*.*.finished", "run", "error"),
            ("", "session", "timeout"),
        ] {
            assert_eq!(check(filter, kind, status), Ok(()), "{filter} {kind} {status}");
        }
        for (filter, kind, status) in [
            ("session.>", "run", ""),
            ("run.*.finished", "run.requested", ""),
            ("", "memory", "success"),
            ("", "run", "partial"),
            ("", "session.opened", "success"),
            ("", "session.concluded", "timeout"),
            ("plan.>", "", "error"),
        ] {
            assert!(check(filter, kind, status).is_err(), "{filter} {kind} {status}");
        }
    }

    #[test]
    fn the_types_that_carry_a_status_are_known() {
        for event in sample::events() {
            let data: Value = serde_json::from_str(&event.data().unwrap()).unwrap();
            let is_word = |value: &Value| value["status"].is_string();
            let carries = is_word(&data) || is_word(&data["end"]);
            assert_eq!(carries, !statuses_of(event.name()).is_empty(), "{}", event.name());
        }
    }
}
