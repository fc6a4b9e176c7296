//! Words that lines about events share: changes of a workspace, durations, quotes.

use ai_factory_schemas::{
    file::FileLeftOut,
    workspace::{ChangeList, WorkspaceEnd},
};

use super::text::{first, one_line, short};

/// Quoted part of an external text in a line, in characters.
pub(super) const QUOTE_CHARS_MAX: usize = 80;
/// Quoted part of a reason for which no change was taken, in characters.
const REFUSAL_CHARS_MAX: usize = 400;
/// Left out files that are named.
const LEFT_OUT_SHOWN_MAX: usize = 20;

/// What a run made of its workspace.
pub(super) fn changed(end: Option<&WorkspaceEnd>) -> String {
    let Some(end) = end else { return String::new() };
    let changed = end.changes.as_ref().map(|list| format!(", {} changed", files(list)));
    let refused = end.refused.as_ref().map(|why| {
        // The reason ends with what the line begins with.
        let why = why.strip_suffix(": no change is taken").unwrap_or(why);
        format!("; no change was taken: {}", short(why, REFUSAL_CHARS_MAX))
    });
    let left_out = match end.left_out.len() {
        0 => String::new(),
        n => format!("; {n} left out"),
    };
    format!("{}{}{left_out}", changed.unwrap_or_default(), refused.unwrap_or_default())
}

/// What a run left behind that never belongs to a workspace, in lines; of much the first names.
pub(crate) fn left_out(end: Option<&WorkspaceEnd>) -> Vec<String> {
    let left_out = end.map(|end| end.left_out.as_slice()).unwrap_or_default();
    let line = |file: &FileLeftOut| {
        let reason = short(&file.reason, QUOTE_CHARS_MAX);
        format!("left out: {}, {reason}", one_line(&file.name))
    };
    let lines = left_out.iter().map(line).collect();
    first(lines, LEFT_OUT_SHOWN_MAX, |more| format!("left out: {more} more"))
}

/// The number of files of a list.
pub(super) fn files(list: &ChangeList) -> String {
    match list.len() {
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    }
}

/// A duration for people.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// A text in quotes, shortened.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", short(text, QUOTE_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::workspace::FileChange;

    use super::*;

    #[test]
    fn durations_have_a_unit_that_fits() {
        for (ms, text) in [(0, "0 ms"), (999, "999 ms"), (1_250, "1.2 s"), (61_000, "1 min 1 s")] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn what_a_run_made_of_its_workspace_is_told() {
        assert_eq!(changed(None), "");
        let change = FileChange { path: "a".to_owned(), file: None };
        let mut end = WorkspaceEnd {
            changes: Some(ChangeList::Inline(vec![change])),
            ..WorkspaceEnd::default()
        };
        assert_eq!(changed(Some(&end)), ", 1 file changed");
        end = WorkspaceEnd { refused: Some("too large".to_owned()), ..WorkspaceEnd::default() };
        assert_eq!(changed(Some(&end)), "; no change was taken: too large");
        end.refused = Some("\"a\" has 9 bytes: no change is taken".to_owned());
        assert_eq!(changed(Some(&end)), "; no change was taken: \"a\" has 9 bytes");
        let file = |n| FileLeftOut { name: format!("f{n}"), reason: "it is a link".to_owned() };
        end.left_out = (0..22).map(file).collect();
        let lines = left_out(Some(&end));
        assert_eq!((lines.len(), lines[0].as_str()), (21, "left out: f0, it is a link"));
        assert_eq!(lines[20], "left out: 2 more");
    }
}
