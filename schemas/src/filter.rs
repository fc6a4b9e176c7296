//! Event filters as people write them: on the command line and in the query of `/events`.
//!
//! *Promises.* A filter that can match no event is refused, so that nobody waits for one in vain.

use uuid::Uuid;

use crate::{
    event::EVENT_TYPES,
    quote::quoted,
    subject::{ParseSubjectError, SubjectFilter, Subjects},
};

/// A text that is not an event filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseEventFilterError {
    /// It is not a subject filter.
    #[error(transparent)]
    Subject(#[from] ParseSubjectError),
    /// It matches no event's subject.
    #[error(
        "`{filter}` matches no event: write category, id and verb, such as session.> or run.*.finished, or the whole \
         subject, such as {events}; `*` stands for one word, a final `>` for all that follow"
    )]
    MatchesNothing {
        /// The filter.
        filter: String,
        /// The filter for all events.
        events: SubjectFilter,
    },
}

impl Subjects {
    /// The filter in `text`: for complete subjects (`factory.events.session.>`), or for what
    /// follows `factory.events.` (`session.>`). A text that could be both is taken as complete.
    pub fn event_filter(&self, text: &str) -> Result<SubjectFilter, ParseEventFilterError> {
        let whole: SubjectFilter = text.parse()?;
        if self.has_event_for(&whole) {
            return Ok(whole);
        }
        let events = self.events();
        let short: SubjectFilter =
            format!("{}{whole}", events.as_str().trim_end_matches('>')).parse()?;
        if self.has_event_for(&short) {
            return Ok(short);
        }
        Err(ParseEventFilterError::MatchesNothing { filter: quoted(text), events })
    }

    /// Whether the filter can match an event.
    fn has_event_for(&self, filter: &SubjectFilter) -> bool {
        EVENT_TYPES.iter().any(|(name, _)| self.has_event_of(filter, name))
    }

    /// Whether the filter can match an event of the type `name`, such as `run.finished`.
    pub fn has_event_of(&self, filter: &SubjectFilter, name: &str) -> bool {
        let events = self.events();
        let events = events.as_str().trim_end_matches('>');
        // After `events` and the category.
        let place_of_id = events.matches('.').count() + 1;
        let id = filter.as_str().split('.').nth(place_of_id);
        // Without an id in the filter any id will do.
        let id = id.and_then(|token| Uuid::parse_str(token).ok()).unwrap_or_default();
        name.split_once('.').is_some_and(|(category, verb)| {
            filter.matches(&format!("{events}{category}.{id}.{verb}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c0de-0000-7000-8000-00000000000a";

    #[test]
    fn a_filter_is_for_whole_subjects_or_for_what_follows_the_prefix() {
        let subjects = Subjects::default();
        for (text, filter) in [
            (">", ">"),
            ("*.>", "*.>"),
            ("factory.>", "factory.>"),
            ("factory.events.>", "factory.events.>"),
            ("factory.events.memory.>", "factory.events.memory.>"),
            ("*.events.*.*.remembered", "*.events.*.*.remembered"),
            ("session.>", "factory.events.session.>"),
            ("*.*.finished", "factory.events.*.*.finished"),
            ("run.*.*", "factory.events.run.*.*"),
            (&format!("session.{ID}.concluded"), &format!("factory.events.session.{ID}.concluded")),
        ] {
            assert_eq!(subjects.event_filter(text).unwrap().as_str(), filter, "{text}");
        }
        let team = Subjects::new("team.factory".parse().unwrap());
        for (text, filter) in [
            ("run.>", "team.factory.events.run.>"),
            ("team.*.events.run.>", "team.*.events.run.>"),
            ("*.*.*.plan.*.proposed", "*.*.*.plan.*.proposed"),
            (&format!("run.{ID}.>"), &format!("team.factory.events.run.{ID}.>")),
        ] {
            assert_eq!(team.event_filter(text).unwrap().as_str(), filter, "{text}");
        }
    }

    #[test]
    fn a_filter_that_can_match_nothing_is_refused() {
        let subjects = Subjects::default();
        for text in [
            "foo",
            "*",
            "session",
            "sessions.>",
            "session.*",
            "session.*.finished",
            "run.*.finished.>",
            "session.0198.concluded",
            &format!("session.{}.concluded", ID.to_uppercase()),
            "factory",
            "factory.goals",
            "factory.memory.>",
            "factory.events",
            "other.events.>",
        ] {
            let refused = subjects.event_filter(text).unwrap_err();
            let told = refused.to_string();
            assert!(told.contains("session.>") && told.contains("factory.events.>"), "{told}");
            assert!(matches!(refused, ParseEventFilterError::MatchesNothing { .. }), "{text}");
        }
        for text in ["", "a..b", "a b", "run.>.x"] {
            let refused = subjects.event_filter(text).unwrap_err();
            assert!(matches!(refused, ParseEventFilterError::Subject(_)), "{text}");
        }
    }
}
