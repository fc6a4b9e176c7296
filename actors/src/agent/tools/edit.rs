//! The tool `edit_file`: one exact text of a file replaced by another.

use ai_factory_schemas::{
    turn::ToolOutcome,
    workspace::{WorkspaceLimits, WorkspaceManifest},
};
use serde::Deserialize;

use super::{
    arguments,
    files::{self, file_name},
    terms::{ToolEnd, ToolTerms},
};
use crate::{
    agent::{
        fences::FencedWriter,
        tool_names::{EDIT_FILE, READ_FILE, WRITE_FILE},
    },
    deps::Deps,
    mask::{MASKED, Mask},
};

/// The most places of a text that are named.
const PLACES_MAX: usize = 10;
/// The most lines that a hint shows.
const HINT_LINES_MAX: usize = 40;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditArguments {
    path: String,
    old_text: String,
    new_text: String,
}

/// Carries out a call of `edit_file`.
pub(super) async fn perform(deps: &Deps, terms: &ToolTerms, arguments: &str) -> ToolEnd {
    let mask = &*deps.mask;
    let edit: EditArguments = match arguments::read(EDIT_FILE, arguments) {
        Ok(edit) => edit,
        Err(fault) => return ToolEnd::sentence(ToolOutcome::Invalid, fault, mask),
    };
    let file = match files::file_at(&terms.files, &edit.path, mask) {
        Ok(file) => file,
        Err(end) => return *end,
    };
    match files::load(&*deps.journal, &edit.path, file).await {
        Ok(content) => edited(&terms.files, &deps.limits.workspace, &edit, &content, mask),
        Err(fault) => fault.end(&edit.path, FencedWriter::new(mask)),
    }
}

/// The end of a call on a file with this content.
fn edited(
    files: &WorkspaceManifest,
    limits: &WorkspaceLimits,
    edit: &EditArguments,
    content: &[u8],
    mask: &Mask,
) -> ToolEnd {
    let EditArguments { path, .. } = edit;
    let mut text = FencedWriter::new(mask);
    let name = file_name(&text, path);
    let Some(content) = files::as_text(content) else {
        text.say(format!("{name} is no text: replace it as a whole with `{WRITE_FILE}`."));
        return ToolEnd::new(ToolOutcome::Failed, text.finish());
    };
    let (old, new) = with_line_ends_of(content, edit);
    if old.is_empty() {
        let words = format!(
            "`old_text` is empty: write the text to replace. `{WRITE_FILE}` makes a new file."
        );
        return ToolEnd::sentence(ToolOutcome::Invalid, words, mask);
    }
    if old == new {
        let words = "`old_text` and `new_text` are the same: nothing would change.";
        return ToolEnd::sentence(ToolOutcome::Invalid, words, mask);
    }
    let Some(at) = only_place(content, &old) else {
        match content.matches(&old).count() {
            0 => not_found(&mut text, &name, content, &old),
            count => ambiguous(&mut text, &name, content, &old, count),
        }
        return ToolEnd::new(ToolOutcome::Failed, text.finish());
    };
    let after = [&content[..at], &new, &content[at + old.len()..]].concat();
    let (first, bytes) = (line_of(content, at), after.len());
    let last = first + new.matches('\n').count();
    match files::change(files, limits, path, after.into_bytes()) {
        Ok(Some(changed)) => {
            let lines = if first == last {
                format!("line {first}")
            } else {
                format!("lines {first} to {last}")
            };
            text.say(format!("Edited {name} at {lines}; it has {bytes} bytes."));
            changed.end(text.finish())
        }
        Ok(None) => ToolEnd::sentence(ToolOutcome::Done, "Nothing changed.", mask),
        Err(fault) => fault.end(path, text),
    }
}

/// Both texts with the line ends of the file: a model is shown line feeds alone.
fn with_line_ends_of(content: &str, edit: &EditArguments) -> (String, String) {
    let EditArguments { old_text, new_text, .. } = edit;
    let is_windows = content.contains("\r\n") && !content.replace("\r\n", "").contains('\n');
    if !is_windows || old_text.contains('\r') || new_text.contains('\r') {
        return (old_text.clone(), new_text.clone());
    }
    (old_text.replace('\n', "\r\n"), new_text.replace('\n', "\r\n"))
}

/// Where a text stands, if it stands there once, overlaps included.
fn only_place(content: &str, text: &str) -> Option<usize> {
    let at = content.find(text)?;
    let second = at + text.chars().next().map_or(1, char::len_utf8);
    (!content[second..].contains(text)).then_some(at)
}

/// The number of the line at this place, from 1.
fn line_of(content: &str, at: usize) -> usize {
    content[..at].matches('\n').count() + 1
}

/// Says that a text stands in more than one place.
fn ambiguous(text: &mut FencedWriter<'_>, name: &str, content: &str, old: &str, count: usize) {
    let places = content.match_indices(old).take(PLACES_MAX);
    let lines: Vec<_> = places.map(|(at, _)| line_of(content, at).to_string()).collect();
    let more = if count > PLACES_MAX { " and more" } else { "" };
    let times = match count {
        1 => "more than once, overlapping itself".to_owned(),
        count => format!("{count} times"),
    };
    text.say(format!(
        "`old_text` stands in {name} {times}, at line {}{more}: nothing was changed. Add lines around it until it \
         stands there once.",
        lines.join(", ")
    ));
}

/// Says that a text is not there, and what is near it.
fn not_found(text: &mut FencedWriter<'_>, name: &str, content: &str, old: &str) {
    let lead = format!("`old_text` does not stand in {name}: nothing was changed.");
    let wanted = without_space(old.trim());
    let first = wanted.lines().next().unwrap_or_default();
    let bare = without_space(content);
    let start_of = |wanted: &str| {
        let at = format!("\n{bare}\n").find(&format!("\n{wanted}\n"))?;
        Some(bare[..at].matches('\n').count())
    };
    if old.contains(MASKED) {
        text.say(format!(
            "{lead} The file has a secret where you were shown {MASKED}: replace the text before or after it."
        ));
    } else if first.is_empty() {
        text.say(format!("{lead} Read the file first with `{READ_FILE}`."));
    } else if let Some(start) = start_of(&wanted) {
        let end = start + wanted.lines().count();
        text.say(format!(
            "{lead} The lines {} to {end} differ from it in white space alone. Use them as they are:",
            start + 1
        ));
        let lines: Vec<_> =
            content.lines().skip(start).take((end - start).min(HINT_LINES_MAX)).collect();
        text.data(&lines.join("\n"));
    } else if let Some(start) = start_of(first) {
        text.say(format!(
            "{lead} Its first line stands at line {}, but what follows is different: read on from there with \
             `{READ_FILE}`.",
            start + 1
        ));
    } else {
        text.say(format!("{lead} Read the file with `{READ_FILE}`: what you expect is not in it."));
    }
}

/// A text without white space other than its line feeds.
fn without_space(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::samples::{after, manifest},
        *,
    };

    fn edited_of(content: &str, old_text: &str, new_text: &str) -> (ToolEnd, WorkspaceManifest) {
        let files = manifest(&[("a.py", content)]);
        let arguments = json!({ "path": "a.py", "old_text": old_text, "new_text": new_text });
        let edit: EditArguments = arguments::read(EDIT_FILE, &arguments.to_string()).unwrap();
        let limits = WorkspaceLimits::default();
        let end = edited(&files, &limits, &edit, content.as_bytes(), &Mask::default());
        let after = after(&files, &end);
        (end, after)
    }

    #[test]
    fn a_text_that_stands_once_is_replaced_and_nothing_else() {
        for (content, old, new, expected, words) in [
            ("a\nb\nc\n", "b", "B", "a\nB\nc\n", "at line 2; it has 6 bytes"),
            ("a\nb\nc\n", "b\nc", "1\n2\n3", "a\n1\n2\n3\n", "at lines 2 to 4"),
            ("a\nb\n", "b\n", "", "a\n", "at line 2"),
            ("ä$1\\n", "$1\\n", "€", "ä€", "at line 1"),
            ("a\r\nb\r\n", "a\nb", "x\ny", "x\r\ny\r\n", "at lines 1 to 2"),
            ("a\r\nb\nc", "b\nc", "d", "a\r\nd", "at line 2"),
        ] {
            let (end, after) = edited_of(content, old, new);
            assert_eq!(end.outcome, ToolOutcome::Done, "{}", end.text.as_str());
            assert!(end.text.as_str().contains(words), "{}", end.text.as_str());
            assert_eq!(after, manifest(&[("a.py", expected)]), "{content:?}");
        }
    }

    #[test]
    fn a_text_that_is_not_there_once_changes_nothing_and_the_answer_helps() {
        let lines = "def f():\n\treturn  1\n\n    x = 2\n";
        for (content, old, words) in [
            ("x\nx\nx\n", "x", "stands in `a.py` 3 times, at line 1, 2, 3: nothing was changed"),
            ("aaa", "aa", "stands in `a.py` more than once, overlapping itself"),
            (
                lines,
                "def f():\n    return 1\n",
                "The lines 1 to 2 differ from it in white space alone",
            ),
            (lines, "x=2", "The lines 4 to 4 differ"),
            (lines, "def f():\n    return 2", "Its first line stands at line 1, but"),
            (lines, "class A:", "what you expect is not in it"),
            (lines, "   \n ", "Read the file first"),
            ("", "a", "what you expect is not in it"),
            ("key = a1b2", "key = [masked]", "replace the text before or after it"),
        ] {
            let (end, after) = edited_of(content, old, "new");
            assert_eq!(end.outcome, ToolOutcome::Failed, "{}", end.text.as_str());
            assert!(end.text.as_str().contains(words), "{old:?}: {}", end.text.as_str());
            assert_eq!(after, manifest(&[("a.py", content)]));
        }
        let (end, _) = edited_of(lines, "def f():\n    return 1\n", "");
        assert!(end.text.as_str().contains("\ndef f():\n\treturn  1\n[end "));
    }

    #[test]
    fn nothing_to_replace_nothing_to_change_and_what_is_no_text_are_refused() {
        for (content, old, new, words) in [
            ("a", "", "b", "`old_text` is empty"),
            ("a", "a", "a", "are the same"),
            ("a\0b", "a", "b", "is no text"),
        ] {
            let (end, after) = edited_of(content, old, new);
            assert!(end.text.as_str().contains(words), "{}", end.text.as_str());
            assert_ne!(end.outcome, ToolOutcome::Done);
            assert_eq!(after, manifest(&[("a.py", content)]));
        }
    }

    #[test]
    fn a_file_of_equal_lines_is_searched_in_no_time() {
        let content = "a\n".repeat(500_000);
        let (end, _) = edited_of(&content, &format!("{}b", "a \n".repeat(50_000)), "");
        assert!(end.text.as_str().contains("Its first line stands at line 1"));
        let (end, _) = edited_of(&content, &"a\n".repeat(100_000), "");
        assert!(end.text.as_str().contains("5 times"), "{}", end.text.as_str());
    }
}
