//! The tool `write_file`, and what all tools for files share: paths, contents, changes.

use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{
    text::Blob,
    turn::ToolOutcome,
    workspace::{
        ChangeList, FileChange, WorkspaceEnd, WorkspaceFile, WorkspaceLimits, WorkspaceManifest,
        check_path,
    },
};
use serde::Deserialize;

use super::{
    arguments,
    terms::{ToolEnd, ToolTerms},
};
use crate::{
    agent::{
        fences::{FencedText, FencedWriter},
        tool_names::{EDIT_FILE, LIST_FILES, WRITE_FILE},
    },
    deps::Deps,
    mask::{MASKED, Mask},
    workspace::contents,
};

/// The longest path that a sentence quotes, in characters.
const PATH_CHARS_MAX: usize = 255;
/// The most files that a sentence proposes in place of one that is not there.
const SIMILAR_MAX: usize = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteArguments {
    path: String,
    content: String,
}

/// Carries out a call of `write_file`.
pub(super) async fn write(deps: &Deps, terms: &ToolTerms, arguments: &str) -> ToolEnd {
    let mask = &*deps.mask;
    let wanted: WriteArguments = match arguments::read(WRITE_FILE, arguments) {
        Ok(wanted) => wanted,
        Err(fault) => return ToolEnd::sentence(ToolOutcome::Invalid, fault, mask),
    };
    if let Some(file) = terms.files.files.get(&wanted.path)
        && wanted.content.contains(MASKED)
    {
        match load(&*deps.journal, &wanted.path, file).await {
            Ok(present) if loses_secret(&present, &wanted.content, mask) => {
                return masked(&wanted.path, mask);
            }
            Ok(_) => {}
            Err(fault) => return fault.end(&wanted.path, FencedWriter::new(mask)),
        }
    }
    write_file(&terms.files, &deps.limits.workspace, wanted, mask)
}

/// Whether a content has the mark of a hidden secret where the present file has the secret.
fn loses_secret(present: &[u8], content: &str, mask: &Mask) -> bool {
    let marks = |text: &str| text.matches(MASKED).count();
    let Some(present) = as_text(present) else { return false };
    mask.finds_in(present) && marks(content) > marks(present)
}

/// The end of a call that would replace a secret by its mark.
fn masked(path: &str, mask: &Mask) -> ToolEnd {
    let mut text = FencedWriter::new(mask);
    let name = file_name(&text, path);
    text.say(format!(
        "Nothing was written: {name} has a secret where you were shown {MASKED}, and it would be lost. Change the \
         parts around it with `{EDIT_FILE}`; its `old_text` cannot contain {MASKED}."
    ));
    ToolEnd::new(ToolOutcome::Failed, text.finish())
}

fn write_file(
    files: &WorkspaceManifest,
    limits: &WorkspaceLimits,
    wanted: WriteArguments,
    mask: &Mask,
) -> ToolEnd {
    let WriteArguments { path, content } = wanted;
    let bytes = content.len();
    let is_new = !files.files.contains_key(&path);
    let mut text = FencedWriter::new(mask);
    match change(files, limits, &path, content.into_bytes()) {
        Err(fault) => fault.end(&path, text),
        Ok(None) => {
            let name = file_name(&text, &path);
            text.say(format!("The file {name} has this content already: nothing is changed."));
            ToolEnd::new(ToolOutcome::Done, text.finish())
        }
        Ok(Some(changed)) => {
            let what = if is_new { "new file" } else { "file" };
            text.say(format!("Wrote the {what} {}: {bytes} bytes.", file_name(&text, &path)));
            changed.end(text.finish())
        }
    }
}

/// A path for a sentence.
pub(super) fn file_name(text: &FencedWriter<'_>, path: &str) -> String {
    text.name(path, PATH_CHARS_MAX)
}

/// A change of the workspace that is within its limits.
pub(super) struct Changed {
    workspace: WorkspaceEnd,
    blobs: Vec<Blob>,
}

impl Changed {
    /// The end of a call that made the change.
    pub(super) fn end(self, text: FencedText) -> ToolEnd {
        let end = ToolEnd::new(ToolOutcome::Done, text);
        ToolEnd { workspace: Some(self.workspace), blobs: self.blobs, ..end }
    }
}

/// Why a path or a change is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileFault {
    /// The path cannot be one of the workspace; the end of a sentence that begins with it.
    Path(String),
    /// The workspace would not be within its limits; the end of a sentence that begins with it.
    Workspace(String),
    /// The factory failed; a sentence.
    Factory(String),
}

impl FileFault {
    /// The end of the call that it refuses.
    pub(super) fn end(self, path: &str, mut text: FencedWriter<'_>) -> ToolEnd {
        let (outcome, words) = match self {
            Self::Path(fault) => {
                (ToolOutcome::Invalid, format!("The path {} {fault}.", file_name(&text, path)))
            }
            Self::Workspace(fault) => {
                let words = format!(
                    "Nothing was written: the workspace would not be within its limits. It {}.",
                    text.shown(&fault)
                );
                (ToolOutcome::Failed, words)
            }
            Self::Factory(fault) => (ToolOutcome::Failed, factory_failed(&text.shown(&fault))),
        };
        text.say(words);
        ToolEnd::new(outcome, text.finish())
    }
}

/// The sentence about a failure that is not the model's.
pub(super) fn factory_failed(fault: &str) -> String {
    format!(
        "The factory failed, not your call: {fault}. The same call may succeed if you repeat it."
    )
}

/// The workspace with this content at `path`; `None` if that is what it has. The mode of a file
/// that is there stays.
pub(super) fn change(
    files: &WorkspaceManifest,
    limits: &WorkspaceLimits,
    path: &str,
    content: Vec<u8>,
) -> Result<Option<Changed>, FileFault> {
    check_path(path).map_err(FileFault::Path)?;
    let content = Blob::new(content);
    let executable = files.files.get(path).is_some_and(|file| file.executable);
    let (blob, bytes) = (content.hash(), content.bytes().len() as u64);
    let file = WorkspaceFile { blob, bytes, executable };
    if files.files.get(path) == Some(&file) {
        return Ok(None);
    }
    let change = FileChange { path: path.to_owned(), file: Some(file) };
    let mut after = files.clone();
    after.apply([change.clone()]);
    after.check(limits).map_err(FileFault::Workspace)?;
    let (list, more) = ChangeList::new(vec![change])
        .map_err(|fault| FileFault::Factory(format!("the change cannot be written: {fault}")))?;
    let workspace = WorkspaceEnd { changes: Some(list), ..WorkspaceEnd::default() };
    Ok(Some(Changed { workspace, blobs: [content].into_iter().chain(more).collect() }))
}

/// The file at `path`, or the end of a call that names none.
pub(super) fn file_at<'a>(
    files: &'a WorkspaceManifest,
    path: &str,
    mask: &Mask,
) -> Result<&'a WorkspaceFile, Box<ToolEnd>> {
    let mut text = FencedWriter::new(mask);
    if let Err(fault) = check_path(path) {
        return Err(Box::new(FileFault::Path(fault).end(path, text)));
    }
    if let Some(file) = files.files.get(path) {
        return Ok(file);
    }
    let below = format!("{path}/");
    let name = file_name(&text, path);
    if files.files.keys().any(|known| known.starts_with(&below)) {
        text.say(format!("{name} is a directory: `{LIST_FILES}` shows what is in it."));
        return Err(Box::new(ToolEnd::new(ToolOutcome::Failed, text.finish())));
    }
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_lowercase();
    let similar = files.files.keys().filter(|known| last(known) == last(path));
    let similar: Vec<_> = similar.take(SIMILAR_MAX).map(String::as_str).collect();
    if similar.is_empty() {
        text.say(format!("There is no file {name}: `{LIST_FILES}` shows those that there are."));
    } else {
        text.say(format!("There is no file {name}. Files of that name:"));
        text.data(&similar.join("\n"));
    }
    Err(Box::new(ToolEnd::new(ToolOutcome::Failed, text.finish())))
}

/// The content of a file.
pub(super) async fn load(
    journal: &dyn Journal,
    path: &str,
    file: &WorkspaceFile,
) -> Result<Vec<u8>, FileFault> {
    let what = format!("the file {path:?}");
    contents::load(journal, file.blob, &what).await.map_err(FileFault::Factory)
}

/// The content as text; `None` for other data.
pub(super) fn as_text(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::samples::{after, manifest},
        *,
    };

    fn written(files: &WorkspaceManifest, arguments: &Value) -> ToolEnd {
        let limits = WorkspaceLimits { files_max: 3, file_bytes_max: 10, bytes_max: 15 };
        match arguments::read(WRITE_FILE, &arguments.to_string()) {
            Ok(wanted) => write_file(files, &limits, wanted, &Mask::default()),
            Err(fault) => ToolEnd::sentence(ToolOutcome::Invalid, fault, &Mask::default()),
        }
    }

    #[test]
    fn a_secret_in_the_present_file_is_not_replaced_by_its_mark() {
        let mask = Mask::default();
        let secret = b"url = 1\napi_key = \"a1b2c3d4e5f6a7b8\"\n";
        assert!(loses_secret(secret, "url = 2\napi_key = \"[masked]\"\n", &mask));
        assert!(!loses_secret(secret, "url = 2\napi_key = \"a1b2c3d4e5f6a7b8\"\n", &mask));
        assert!(!loses_secret(b"say(\"[masked]\")", "tell(\"[masked]\")", &mask));
        assert!(!loses_secret(b"\0api_key=a1b2c3d4e5f6a7b8", "[masked]", &mask));
        let end = masked("a.py", &mask);
        assert_eq!(end.outcome, ToolOutcome::Failed);
        assert!(end.text.as_str().contains("`edit_file`") && end.workspace.is_none());
    }

    #[test]
    fn a_file_is_written_whole_and_keeps_its_mode() {
        let mut before = manifest(&[("a.sh", "1")]);
        before.files.get_mut("a.sh").unwrap().executable = true;
        let end = written(&before, &json!({ "path": "a.sh", "content": "22" }));
        assert_eq!(end.outcome, ToolOutcome::Done);
        assert_eq!(end.text.as_str(), "Wrote the file `a.sh`: 2 bytes.\n");
        let file = after(&before, &end).files["a.sh"];
        assert_eq!((file.bytes, file.executable), (2, true));
        assert_eq!(end.blobs, [Blob::new(b"22".to_vec())]);
        let end = written(&before, &json!({ "path": "d/b.py", "content": "" }));
        assert_eq!(end.text.as_str(), "Wrote the new file `d/b.py`: 0 bytes.\n");
        assert!(!after(&before, &end).files["d/b.py"].executable);
        let end = written(&before, &json!({ "path": "a.sh", "content": "1" }));
        assert!(end.workspace.is_none() && end.text.as_str().contains("nothing is changed"));
    }

    #[test]
    fn what_does_not_belong_to_a_workspace_is_refused_with_the_reason() {
        let before = manifest(&[("a", "1234567"), ("b/c", "1234567")]);
        for (path, content, outcome, words) in [
            ("../a", "", ToolOutcome::Invalid, "`../a` must be a path below"),
            ("/etc/passwd", "", ToolOutcome::Invalid, "`/etc/passwd` must be a path below"),
            ("", "", ToolOutcome::Invalid, "must be a path below"),
            ("a/./b", "", ToolOutcome::Invalid, "must be a path below"),
            ("b\u{1b}[31m", "", ToolOutcome::Invalid, "has control characters"),
            (".git/hooks/x", "", ToolOutcome::Invalid, "does not belong to a workspace"),
            ("x/node_modules/y", "", ToolOutcome::Invalid, "does not belong to a workspace"),
            (&*"x".repeat(300), "", ToolOutcome::Invalid, "is too long"),
            ("a/b", "", ToolOutcome::Failed, "cannot be a file and a directory"),
            ("b", "", ToolOutcome::Failed, "cannot be a file and a directory"),
            ("c", "12345678901", ToolOutcome::Failed, "at most 10 each"),
            ("c", "12", ToolOutcome::Failed, "16 bytes in all: at most 15"),
        ] {
            let end = written(&before, &json!({ "path": path, "content": content }));
            let told = end.text.as_str();
            assert!(told.contains(words) && !told.contains('\u{1b}'), "{path}: {told}");
            assert_eq!(end.outcome, outcome, "{told}");
            assert!(end.workspace.is_none() && end.blobs.is_empty(), "{told}");
        }
        let full = manifest(&[("a", ""), ("b", ""), ("c", "")]);
        let end = written(&full, &json!({ "path": "d", "content": "" }));
        assert!(end.text.as_str().contains("4 files: at most 3"));
        let end = written(&full, &json!({ "path": "d" }));
        assert_eq!(end.outcome, ToolOutcome::Invalid);
    }

    #[test]
    fn a_file_that_is_not_there_is_told_with_what_is() {
        let files = manifest(&[("src/App.py", ""), ("b", "")]);
        let mask = Mask::default();
        let told = |path| file_at(&files, path, &mask).err().unwrap().text.into_string();
        assert!(told("app.py").contains("Files of that name:\n[data "));
        assert!(told("app.py").contains("\nsrc/App.py\n"));
        assert!(told("src").contains("`src` is a directory"));
        assert!(told("x").contains("no file `x`: `list_files`"));
        assert!(told("../b").contains("must be a path"));
        assert!(file_at(&files, "b", &mask).is_ok());
    }
}
