//! The tool `list_files`.

use ai_factory_schemas::{turn::ToolOutcome, workspace::WorkspaceManifest};
use serde::Deserialize;

use super::{
    arguments,
    terms::{ToolEnd, ToolTerms},
};
use crate::{
    agent::{fences::FencedWriter, results::RESULT_BYTES_MAX, tool_names::LIST_FILES},
    mask::Mask,
    workspace::patterns::{ProtectedPaths, check_pattern},
};

/// The most files of one list.
const LISTED_MAX: usize = 500;
/// The longest list, in bytes.
const LIST_BYTES_MAX: usize = RESULT_BYTES_MAX - 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListArguments {
    #[serde(default)]
    pattern: Option<String>,
}

/// Carries out a call of `list_files`.
pub(super) fn perform(terms: &ToolTerms, arguments: &str, mask: &Mask) -> ToolEnd {
    list_files(&terms.files, arguments, mask)
}

fn list_files(files: &WorkspaceManifest, arguments: &str, mask: &Mask) -> ToolEnd {
    let pattern = arguments::read(LIST_FILES, arguments).and_then(|asked: ListArguments| {
        let pattern = asked.pattern.filter(|pattern| !matches!(pattern.as_str(), "" | "." | "/"));
        let Some(pattern) = pattern else { return Ok(None) };
        let pattern = pattern.strip_prefix("./").unwrap_or(&pattern).to_owned();
        check_pattern(&pattern).map_err(|fault| format!("The pattern {pattern:?} {fault}."))?;
        ProtectedPaths::new(&[pattern]).map(Some)
    });
    let pattern = match pattern {
        Ok(pattern) => pattern,
        Err(fault) => return ToolEnd::sentence(ToolOutcome::Invalid, fault, mask),
    };
    let is_wanted = |path: &str| pattern.as_ref().is_none_or(|pattern| pattern.covers(path));
    let wanted: Vec<_> = files.files.iter().filter(|(path, _)| is_wanted(path)).collect();
    let mut text = FencedWriter::new(mask);
    if wanted.is_empty() {
        let words = if pattern.is_some() { "No file matches." } else { "There are no files yet." };
        text.say(words);
        return ToolEnd::new(ToolOutcome::Done, text.finish());
    }
    let named = wanted.iter().map(|(path, file)| (path.as_str(), file.bytes));
    let (list, listed) = names(named, LISTED_MAX, LIST_BYTES_MAX);
    let count = match wanted.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    text.say(format!("{count}, each with its size in bytes:"));
    text.data(&list);
    if listed < wanted.len() {
        let more = wanted.len() - listed;
        text.say(format!("{more} more are not shown: give a \"pattern\" that matches less."));
    }
    ToolEnd::new(ToolOutcome::Done, text.finish())
}

/// Files with their sizes, one a line, and how many they are: at most `count_max`, of at most
/// `bytes_max` together.
pub fn names<'a>(
    files: impl IntoIterator<Item = (&'a str, u64)>,
    count_max: usize,
    bytes_max: usize,
) -> (String, usize) {
    let (mut list, mut count) = (String::new(), 0);
    for (path, bytes) in files.into_iter().take(count_max) {
        let line = format!("{bytes:>8} {path}\n");
        if count > 0 && list.len() + line.len() > bytes_max {
            break;
        }
        list.push_str(&line);
        count += 1;
    }
    (list, count)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::files::tests::manifest, *};

    fn listed(files: &[(&str, &str)], arguments: &Value) -> ToolEnd {
        list_files(&manifest(files), &arguments.to_string(), &Mask::default())
    }

    #[test]
    fn files_are_listed_with_their_sizes_and_by_pattern() {
        let files = [("a.py", "12"), ("src/b.py", ""), ("src/c/d.txt", "1")];
        let all = listed(&files, &json!({})).text.into_string();
        assert!(all.starts_with("3 files, each with its size in bytes:\n[data "), "{all}");
        assert!(
            all.contains("\n       2 a.py\n       0 src/b.py\n       1 src/c/d.txt\n"),
            "{all}"
        );
        for (pattern, count) in [
            ("**/*.py", "2 files"),
            ("*.py", "1 file,"),
            ("src", "2 files"),
            ("./src/", "2 files"),
            (".", "3 files"),
            ("", "3 files"),
            ("*.md", "No file matches."),
        ] {
            let text = listed(&files, &json!({ "pattern": pattern })).text.into_string();
            assert!(text.starts_with(count), "{pattern}: {text}");
        }
        assert!(listed(&[], &json!({})).text.as_str().contains("no files yet"));
        for (arguments, words) in [
            (json!({ "pattern": "a[b]" }), "has a `[`"),
            (json!({ "pattern": "../x" }), "must be a path below"),
            (json!({ "pattern": 3 }), "`pattern`: invalid type"),
            (json!({ "path": "a" }), "unknown field `path`"),
        ] {
            let end = listed(&files, &arguments);
            assert!(end.text.as_str().contains(words), "{}", end.text.as_str());
            assert_eq!(end.outcome, ToolOutcome::Invalid);
        }
    }

    #[test]
    fn a_long_list_is_cut_and_says_how_many_more_there_are() {
        let paths: Vec<_> = (0..600).map(|n| format!("f{n:03}")).collect();
        let files: Vec<_> = paths.iter().map(|path| (path.as_str(), "")).collect();
        let text = listed(&files, &json!({})).text.into_string();
        assert!(text.contains("100 more are not shown"), "{text}");
        let paths: Vec<_> = (0..400).map(|n| format!("{}{n:03}", "d/".repeat(100))).collect();
        let files: Vec<_> = paths.iter().map(|path| (path.as_str(), "")).collect();
        let text = listed(&files, &json!({})).text.into_string();
        assert!(text.len() <= RESULT_BYTES_MAX && text.contains("more are not shown"));
    }
}
