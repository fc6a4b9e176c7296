//! The workspace of a run: what its record names, what the sandbox gets, what is taken of what the
//! program changed.

use std::sync::Arc;

use ai_factory_ports::sandbox::{ChangedFile, ProgramWorkspace, WorkspaceOutcome};
use ai_factory_schemas::{
    problem::Problem,
    request::RunRequest,
    run::FileLeftOut,
    workspace::{
        ChangeList, FileChange, RunTree, RunWorkspace, WorkspaceEnd, WorkspaceFile,
        WorkspaceLimits, WorkspaceManifest,
    },
};

use super::input::Blobs;
use crate::{
    deps::Deps,
    workspace::contents::{self, WorkspaceContents},
};

/// The most names of a record that say what stayed out; one more entry counts the rest.
const LEFT_OUT_MAX: usize = 100;

/// Refuses what only a session may set, and a workspace beyond a limit.
pub(super) fn check(asked: &RunRequest, deps: &Deps, of_session: bool) -> Result<(), Problem> {
    if !of_session && (asked.workspace.is_some() || asked.wall_ms_max.is_some()) {
        let sentence = "`workspace` and `wall_ms_max` are set by sessions: submit a goal with `files` or a `check`";
        return Err(Problem::bad_request(sentence));
    }
    let Some(workspace) = &asked.workspace else { return Ok(()) };
    let limits =
        if workspace.discard { beside(&deps.limits.workspace) } else { deps.limits.workspace };
    workspace
        .files
        .check(&limits)
        .map_err(|fault| Problem::too_large(format!("the session's workspace {fault}")))
}

/// The limits of a workspace that a check sees: files as they came in beside those of the steps,
/// each within the limits of a workspace.
fn beside(limits: &WorkspaceLimits) -> WorkspaceLimits {
    WorkspaceLimits {
        files_max: limits.files_max.saturating_mul(2),
        bytes_max: limits.bytes_max.saturating_mul(2),
        ..*limits
    }
}

/// The workspace of a request as its record names it.
pub(super) fn tree(asked: &RunRequest) -> Result<Option<RunTree>, Problem> {
    let Some(RunWorkspace { files, .. }) = &asked.workspace else { return Ok(None) };
    let manifest = files.to_blob().map_err(|fault| Problem::internal(fault.to_string()))?;
    Ok(Some(RunTree {
        manifest: manifest.hash(),
        files: u32::try_from(files.files.len()).unwrap_or(u32::MAX),
        bytes: files.bytes(),
    }))
}

/// The workspace for the sandbox: contents come from the journal by their hash.
pub(super) fn of_program(deps: &Deps, workspace: &RunWorkspace) -> ProgramWorkspace {
    let files = Arc::new(workspace.files.clone());
    let contents =
        WorkspaceContents { journal: Arc::clone(&deps.journal), files: Arc::clone(&files) };
    ProgramWorkspace {
        files,
        contents: Arc::new(contents),
        limits: deps.limits.workspace,
        discard: workspace.discard,
    }
}

/// What a program made of its workspace, for the record; the contents that the journal lacks are
/// added to `blobs`. All changes are taken or none: none if one breaks a limit, or if it cannot be
/// known what the journal has.
pub(super) async fn record_end(
    deps: &Deps,
    files: &WorkspaceManifest,
    outcome: WorkspaceOutcome,
    blobs: &mut Blobs,
) -> WorkspaceEnd {
    let left_out = bounded(outcome.left_out);
    let taken = match outcome.changes {
        Ok(changes) => take(deps, files, changes, blobs).await,
        Err(refused) => Err(refused),
    };
    match taken {
        Ok(changes) => WorkspaceEnd { changes, refused: None, left_out },
        Err(refused) => WorkspaceEnd { changes: None, refused: Some(refused), left_out },
    }
}

async fn take(
    deps: &Deps,
    files: &WorkspaceManifest,
    changed_files: Vec<ChangedFile>,
    blobs: &mut Blobs,
) -> Result<Option<ChangeList>, String> {
    let mut contents = Vec::new();
    let mut after = files.clone();
    for ChangedFile { path, file } in changed_files {
        let file = file.map(|content| {
            let (blob, bytes) = (content.blob.hash(), content.blob.bytes().len() as u64);
            contents.push(content.blob);
            WorkspaceFile { blob, bytes, executable: content.executable }
        });
        after.apply([FileChange { path, file }]);
    }
    after.check(&deps.limits.workspace).map_err(|fault| format!("the workspace {fault}"))?;
    let changes = files.changes_to(&after);
    if changes.is_empty() {
        return Ok(None);
    }
    let (list, blob) = ChangeList::new(changes).map_err(|fault| fault.to_string())?;
    contents.extend(blob);
    let contents = contents::without_stored(&*deps.journal, contents).await;
    blobs.extend(contents.map_err(|error| error.to_string())?);
    Ok(Some(list))
}

fn bounded(mut left_out: Vec<FileLeftOut>) -> Vec<FileLeftOut> {
    let more = left_out.len().saturating_sub(LEFT_OUT_MAX);
    if more > 0 {
        left_out.truncate(LEFT_OUT_MAX);
        let reason = "only the first names are recorded".to_owned();
        left_out.push(FileLeftOut { name: format!("… and {more} more"), reason });
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_stayed_out_are_bounded() {
        let left = |n: usize| {
            bounded(vec![FileLeftOut { name: "l".to_owned(), reason: "r".to_owned() }; n])
        };
        assert_eq!(left(LEFT_OUT_MAX).len(), LEFT_OUT_MAX);
        let many = left(LEFT_OUT_MAX + 7);
        assert_eq!((many.len(), &*many[LEFT_OUT_MAX].name), (LEFT_OUT_MAX + 1, "… and 7 more"));
    }
}
