//! What a model says while it says it, in lines for a terminal.

use ai_factory_schemas::{
    answer::{StreamEnd, StreamPart},
    id::CallId,
};

use super::text::one_line;

/// Length from which a line is told before its end has come, in bytes.
const LINE_BYTES_MAX: usize = 2_000;

/// The text of the answer under way.
#[derive(Debug, Default)]
pub(crate) struct SpokenLines {
    of: Option<(CallId, u32)>,
    /// The last line, which has no end yet.
    rest: String,
}

impl SpokenLines {
    /// The lines that a part completes.
    pub(crate) fn add(&mut self, part: &StreamPart) -> Vec<String> {
        let mut told = Vec::new();
        let of = (part.call, part.attempt);
        if self.of != Some(of) {
            told.extend(self.last());
            self.of = Some(of);
        }
        self.rest.push_str(&part.text);
        while let Some(at) = self.rest.find('\n') {
            let rest = self.rest.split_off(at + 1);
            told.push(shown(&std::mem::replace(&mut self.rest, rest)));
        }
        if part.end.is_some() || self.rest.len() > LINE_BYTES_MAX {
            told.extend(self.last());
        }
        if part.end == Some(StreamEnd::Void) {
            told.push("(the attempt failed: what it said does not count)".to_owned());
        }
        told
    }

    /// The line under way.
    pub(crate) fn rest(&self) -> Option<String> {
        Some(one_line(&self.rest)).filter(|line| !line.trim().is_empty())
    }

    fn last(&mut self) -> Option<String> {
        let last = std::mem::take(&mut self.rest);
        Some(shown(&last)).filter(|line| !line.trim().is_empty())
    }
}

fn shown(line: &str) -> String {
    one_line(line.trim_end())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn part(attempt: u32, text: &str, end: Option<StreamEnd>) -> StreamPart {
        let call = CallId(Uuid::nil());
        StreamPart { call, attempt, seq: 0, text: text.to_owned(), end }
    }

    #[test]
    fn lines_are_told_when_they_are_complete_and_the_rest_is_known() {
        let mut live = SpokenLines::default();
        assert!(live.add(&part(1, "I be", None)).is_empty());
        assert_eq!(live.rest().as_deref(), Some("I be"));
        assert_eq!(live.add(&part(1, "gin.\nThen\nI", None)), ["I begin.", "Then"]);
        assert_eq!(live.add(&part(1, " end", Some(StreamEnd::End))), ["I end"]);
        assert_eq!(live.rest(), None);
    }

    #[test]
    fn another_attempt_begins_anew_and_a_void_one_is_told() {
        let mut live = SpokenLines::default();
        live.add(&part(1, "lost", None));
        assert_eq!(live.add(&part(2, "new\n", None)), ["lost", "new"]);
        let told = live.add(&part(2, "", Some(StreamEnd::Void)));
        assert!(told[0].contains("does not count"), "{told:?}");
    }

    #[test]
    fn a_terminal_gets_no_control_characters_and_no_line_without_end() {
        let mut live = SpokenLines::default();
        let told = live.add(&part(1, "a\u{1b}[2Jb\u{202e}c\n", None));
        assert!(!told[0].contains(['\u{1b}', '\u{202e}']), "{told:?}");
        assert_eq!(live.add(&part(1, &"x".repeat(5_000), None)).len(), 1);
    }
}
