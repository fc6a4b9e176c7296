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

use super::{ToolEnd, ToolTerms, arguments};
use crate::{
    agent::{
        fences::{FencedText, FencedWriter},
        tool_names::{LIST_FILES, WRITE_FILE},
    },
    deps::Deps,
    mask::Mask,
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
pub(super) fn write(deps: &Deps, terms: &ToolTerms, arguments: &str) -> ToolEnd {
    write_file(&terms.files, &deps.limits.workspace, arguments, &deps.mask)
}

fn write_file(
    files: &WorkspaceManifest,
    limits: &WorkspaceLimits,
    arguments: &str,
    mask: &Mask,
) -> ToolEnd {
    let WriteArguments { path, content } = match arguments::read(WRITE_FILE, arguments) {
        Ok(read) => read,
        Err(fault) => return ToolEnd::sentence(ToolOutcome::Invalid, fault, mask),
    };
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
