//! Changed files in words.

use ai_factory_schemas::{answer::SessionAnswer, id::SessionId, workspace::FileChange};

use crate::cli::{diagnosis_words, text::first};

/// Changed files that a result shows.
const CHANGES_SHOWN_MAX: usize = 50;

/// The letter of a change, as version control has it: added, modified or deleted.
fn letter(change: &FileChange, came_in: bool) -> char {
    match (&change.file, came_in) {
        (None, _) => 'D',
        (Some(_), true) => 'M',
        (Some(_), false) => 'A',
    }
}

/// The same as a word.
pub(crate) fn word(change: &FileChange, came_in: bool) -> &'static str {
    match letter(change, came_in) {
        'D' => "deleted",
        'M' => "changed",
        _ => "added",
    }
}

/// One line for each change: `M src/main.py`. `came_in` tells the paths that went in.
pub(crate) fn lines(changes: &[FileChange], came_in: impl Fn(&str) -> bool) -> Vec<String> {
    let line =
        |change: &FileChange| format!("{} {}", letter(change, came_in(&change.path)), change.path);
    changes.iter().map(line).collect()
}

/// The changed files and the check's outcome of a session, in lines. `came_in` tells the paths that
/// went in.
pub(crate) fn of_answer(answer: &SessionAnswer, came_in: impl Fn(&str) -> bool) -> Vec<String> {
    let (id, changed) = (answer.session_id, answer.changed_files.as_deref().unwrap_or_default());
    let unnamed =
        answer.changed_files_count.map_or(0, |all| (all as usize).saturating_sub(changed.len()));
    let rest = |more| format!("and {} more changed files: `ai-factory files {id}`", more + unnamed);
    let mut told = first(lines(changed, came_in), CHANGES_SHOWN_MAX, rest);
    told.extend(answer.check.iter().flat_map(|check| diagnosis_words::outcome(check, id)));
    told
}

/// How the changed files of a session can be had.
pub(crate) fn hint(id: SessionId) -> String {
    format!("files changed: `ai-factory files {id} --out DIR` writes them")
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{text::BlobHash, workspace::WorkspaceFile};

    use super::*;

    #[test]
    fn a_change_is_told_by_what_was_there_and_what_is() {
        let file = WorkspaceFile { blob: BlobHash::of(b""), bytes: 0, executable: false };
        let changes = [("a", Some(file)), ("b", Some(file)), ("c", None)]
            .map(|(path, file)| FileChange { path: path.to_owned(), file });
        let told = lines(&changes, |path| path != "a");
        assert_eq!(told, ["A a", "M b", "D c"]);
        assert_eq!(word(&changes[0], false), "added");
    }
}
