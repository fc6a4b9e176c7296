//! The files of a goal: from the request to the manifest and the blobs of the session's opening.
//!
//! *Limits.* [`FILES_OPENING_BYTES_MAX`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ai_factory_ports::{journal::Command, uploads::UploadError};
use ai_factory_schemas::{
    file::RunFile,
    problem::Problem,
    request::{Goal, GoalFile},
    text::{Blob, BlobHash},
    workspace::{WorkspaceFile, WorkspaceManifest, WorkspaceRef},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::contents;
use crate::{deps::Deps, request::RequestContext};

/// Contents of files held for sessions that are about to be opened, together, in bytes: four of the
/// largest workspaces. Further openings wait.
pub const FILES_OPENING_BYTES_MAX: usize = 96 * 1024 * 1024;

/// The contents that came with a goal, by their hash.
pub(crate) type GivenContents = HashMap<BlobHash, Blob>;

/// The sizes of contents that the journal has, in bytes, by their hash.
type StoredSizes = HashMap<BlobHash, u64>;

/// What the opening of a session stores beside its event.
#[derive(Debug, Default)]
pub(crate) struct OpeningBlobs {
    pub(crate) blobs: Vec<Blob>,
    /// Held as long as the blobs are.
    pub(crate) room: Option<OpeningRoom>,
    /// The contents of the files: none has to be kept as an upload once the event is on disk.
    pub(crate) uploads: Vec<BlobHash>,
}

/// A share of [`FILES_OPENING_BYTES_MAX`].
pub(crate) type OpeningRoom = OwnedSemaphorePermit;

/// Whether a session for this goal has a workspace.
pub(crate) fn has_workspace(goal: &Goal) -> bool {
    goal.workspace || !goal.files.is_empty() || goal.check.is_some()
}

/// The command of a goal that was taken in, if its request has a key. Whether a session without
/// files and check has a workspace is no part of it: a repetition joins the first session either
/// way.
pub(crate) fn command(context: &RequestContext, goal: &Goal) -> Option<Command> {
    context.command("goal", &Goal { workspace: false, ..goal.clone() })
}

/// The goal with each file named by the hash of its content, sorted by path, and the contents: so
/// the same goal is the same request, however its files were sent.
pub(crate) fn take_in(mut goal: Goal) -> Result<(Goal, GivenContents), Problem> {
    let mut contents = GivenContents::new();
    for file in &mut goal.files {
        let Some(blob) = given(file)? else { continue };
        file.hash = Some(blob.hash());
        contents.insert(blob.hash(), blob);
    }
    goal.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((goal, contents))
}

/// The content that came with a file; `None` if its hash came.
fn given(file: &mut GoalFile) -> Result<Option<Blob>, Problem> {
    if let Some(text) = file.text.take() {
        return Ok(Some(Blob::new(text.into_bytes())));
    }
    let Some(content_base64) = file.content_base64.take() else { return Ok(None) };
    let encoded = RunFile { name: file.name.clone(), content_base64 };
    let bytes = encoded.bytes();
    let bytes = bytes.map_err(|fault| Problem::bad_request(format!("`files`: {fault}")))?;
    Ok(Some(Blob::new(bytes)))
}

/// The workspace of a goal that was taken in, and the blobs that the journal lacks. Contents that
/// did not come with the goal are those of the journal, or uploads.
pub(crate) async fn gather(
    deps: &Deps,
    opening: &Arc<Semaphore>,
    goal: &Goal,
    mut given: GivenContents,
) -> Result<(WorkspaceRef, OpeningBlobs), Problem> {
    let hashes: Vec<_> = goal.files.iter().filter_map(|file| file.hash).collect();
    let stored = deps.journal.blob_sizes(hashes.clone()).await.map_err(Problem::from)?;
    let mut stored: StoredSizes =
        hashes.iter().zip(stored).filter_map(|(hash, size)| Some((*hash, size?))).collect();
    given.retain(|hash, _| !stored.contains_key(hash));
    let absent = |file: &&GoalFile| file.hash.is_some_and(|hash| !stored.contains_key(&hash));
    let lacking: Vec<_> = goal.files.iter().filter(absent).collect();
    let room = room(deps, opening, &lacking, &given).await?;
    take_uploads(deps, &lacking, &mut given, &mut stored).await?;
    let files: BTreeMap<_, _> = goal
        .files
        .iter()
        .filter_map(|file| {
            let blob = file.hash?;
            let held = given.get(&blob).map(|blob| blob.bytes().len() as u64);
            let bytes = stored.get(&blob).copied().or(held)?;
            let executable = file.executable;
            Some((file.name.clone(), WorkspaceFile { blob, bytes, executable }))
        })
        .collect();
    let manifest = WorkspaceManifest { files };
    let too_large = |fault| Problem::too_large(format!("`files` {fault}"));
    manifest.check(&deps.limits.workspace).map_err(too_large)?;
    let mut blobs: Vec<_> = given.into_values().collect();
    let workspace = record(deps, &manifest, &mut blobs).await?;
    Ok((workspace, OpeningBlobs { blobs, room, uploads: hashes }))
}

/// Room for the contents: as many bytes as came, or a whole workspace if some are uploads, whose
/// sizes are not known yet.
async fn room(
    deps: &Deps,
    opening: &Arc<Semaphore>,
    lacking: &[&GoalFile],
    given: &GivenContents,
) -> Result<Option<OpeningRoom>, Problem> {
    if lacking.is_empty() {
        return Ok(None);
    }
    let has = |file: &&GoalFile| file.hash.is_some_and(|hash| given.contains_key(&hash));
    let held: usize = given.values().map(|blob| blob.bytes().len()).sum();
    let whole = usize::try_from(deps.limits.workspace.bytes_max).unwrap_or(usize::MAX);
    let bytes = if lacking.iter().all(has) { held } else { held.max(whole) };
    let bytes = u32::try_from(bytes.min(FILES_OPENING_BYTES_MAX)).unwrap_or(u32::MAX);
    let permit = Arc::clone(opening).acquire_many_owned(bytes).await;
    permit.map(Some).map_err(|_| Problem::unavailable("the supervisor is stopping"))
}

/// Adds the uploaded contents of the files whose contents did not come with the goal.
async fn take_uploads(
    deps: &Deps,
    lacking: &[&GoalFile],
    given: &mut GivenContents,
    stored: &mut StoredSizes,
) -> Result<(), Problem> {
    let mut bytes_left = deps.limits.workspace.bytes_max;
    let mut missing = Vec::new();
    for file in lacking {
        let Some(hash) = file.hash.filter(|hash| !given.contains_key(hash)) else { continue };
        match deps.uploads.content(hash).await.map_err(|error| not_read(&error))? {
            Some(bytes) if BlobHash::of(&bytes) == hash => {
                let fits = bytes_left.checked_sub(bytes.len() as u64);
                bytes_left = fits.ok_or_else(|| {
                    let bytes_max = deps.limits.workspace.bytes_max;
                    Problem::too_large(format!("`files` take more than {bytes_max} bytes in all"))
                })?;
                given.insert(hash, Blob::new(bytes));
            }
            Some(_) | None => missing.push((&file.name, hash)),
        }
    }
    // The opening of another session may have moved them to the journal meanwhile.
    let hashes: Vec<_> = missing.iter().map(|(_, hash)| *hash).collect();
    let sizes = deps.journal.blob_sizes(hashes.clone()).await.map_err(Problem::from)?;
    stored.extend(hashes.into_iter().zip(sizes).filter_map(|(hash, size)| Some((hash, size?))));
    missing.retain(|(_, hash)| !stored.contains_key(hash));
    let Some((name, hash)) = missing.first() else { return Ok(()) };
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(" and of {more} more"),
    };
    Err(Problem::bad_request(format!(
        "`files`: the factory does not have the content of {name:?} ({hash}){more}: upload it, or send it with the \
         goal"
    )))
}

/// Drops uploads whose contents are in the journal.
pub(crate) async fn release_uploads(deps: &Deps, hashes: Vec<BlobHash>) {
    if hashes.is_empty() {
        return;
    }
    if let Err(error) = deps.uploads.release(hashes).await {
        tracing::warn!(%error, "uploads that the journal has now take room until they expire");
    }
}

fn not_read(error: &UploadError) -> Problem {
    Problem::unavailable(format!("an uploaded content cannot be read: {error}"))
}

/// The manifest for the record, and its blob if the journal lacks it.
async fn record(
    deps: &Deps,
    manifest: &WorkspaceManifest,
    blobs: &mut Vec<Blob>,
) -> Result<WorkspaceRef, Problem> {
    let blob = manifest.to_blob();
    let blob = blob.map_err(|fault| Problem::internal(fault.to_string()))?;
    let workspace = WorkspaceRef {
        blob: blob.hash(),
        files: u32::try_from(manifest.files.len()).unwrap_or(u32::MAX),
        bytes: manifest.bytes(),
    };
    let blob = contents::without_stored(&*deps.journal, vec![blob]).await;
    blobs.extend(blob.map_err(Problem::from)?);
    Ok(workspace)
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::plan::TaskType;

    use super::*;

    fn goal(files: Vec<GoalFile>) -> Goal {
        Goal {
            goal: "g".to_owned(),
            task_type: TaskType::General,
            files,
            check: None,
            protect: Vec::new(),
            workspace: false,
            ask: false,
            budget: None,
            model: None,
            turns_max: None,
        }
    }

    fn file(name: &str) -> GoalFile {
        GoalFile { name: name.to_owned(), ..GoalFile::default() }
    }

    #[test]
    fn the_same_files_are_the_same_goal_however_they_were_sent() {
        let (text, encoded) = (Some("hi".to_owned()), Some("aGk=".to_owned()));
        let hash = Some(BlobHash::of(b"hi"));
        let sent = [
            vec![GoalFile { text, ..file("a") }, GoalFile { hash, ..file("b") }],
            vec![GoalFile { hash, ..file("b") }, GoalFile { content_base64: encoded, ..file("a") }],
        ];
        let [first, second] = sent.map(|files| take_in(goal(files)).unwrap());
        assert_eq!(first, second);
        assert_eq!(first.1.len(), 1);
        assert!(first.0.files.iter().all(|file| file.hash == hash && file.text.is_none()));
    }

    #[test]
    fn a_content_that_is_not_base64_is_refused_by_name() {
        let broken = GoalFile { content_base64: Some("%".to_owned()), ..file("a/b") };
        let problem = take_in(goal(vec![broken])).unwrap_err();
        assert_eq!(problem.status, 400);
        assert!(problem.sentence().contains("\"a/b\" is not base64"), "{problem}");
    }
}
