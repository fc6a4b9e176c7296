//! Files and ends of runs for the tests of the tools.

use ai_factory_schemas::{
    run::{EndedBy, RunEnd, RunStatus},
    text::{Blob, Text},
    workspace::{ChangeList, WorkspaceFile, WorkspaceManifest},
};

use super::terms::ToolEnd;

/// Files with these contents.
pub(super) fn manifest(files: &[(&str, &str)]) -> WorkspaceManifest {
    let files = files.iter().map(|(path, content)| {
        let content = Blob::new(content.as_bytes().to_vec());
        let (blob, bytes) = (content.hash(), content.bytes().len() as u64);
        ((*path).to_owned(), WorkspaceFile { blob, bytes, executable: false })
    });
    WorkspaceManifest { files: files.collect() }
}

/// The files after a call.
pub(super) fn after(before: &WorkspaceManifest, end: &ToolEnd) -> WorkspaceManifest {
    let mut after = before.clone();
    if let Some(ChangeList::Inline(changes)) =
        end.workspace.as_ref().and_then(|workspace| workspace.changes.clone())
    {
        after.apply(changes);
    }
    after
}

/// A run that ended so, without outputs.
pub(super) fn ended(ended_by: EndedBy, exit_code: i32) -> RunEnd {
    RunEnd {
        status: if exit_code == 0 { RunStatus::Success } else { RunStatus::Error },
        exit_code,
        signal: None,
        ended_by,
        stdout: Text::default(),
        stderr: Text::default(),
        stdout_bytes: 0,
        stderr_bytes: 0,
        duration_ms: 1,
        isolation: None,
        files: Vec::new(),
        files_left_out: Vec::new(),
        reason: None,
        workspace: None,
        diagnosis: None,
    }
}
