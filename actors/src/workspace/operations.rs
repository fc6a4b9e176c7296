//! Operations on the files of sessions, and uploads for goals to come.

use ai_factory_ports::{journal::ReadError, retry_after, uploads::UploadError};
use ai_factory_schemas::{
    answer::{MissingFilesAnswer, SessionFilePart, Uploaded},
    file::RunFile,
    id::SessionId,
    limit::{
        FILE_PART_BYTES_MAX, FILES_PAGE_PATHS_MAX, UPLOAD_PART_BYTES_MAX, WORKSPACE_FILES_MAX,
    },
    problem::Problem,
    request::{MissingFiles, ReadSessionFile, UploadPart},
    session_files::{ListSessionFiles, SessionFiles},
    text::BlobHash,
};

use super::{contents, trees::SessionTrees};
use crate::{deps::Deps, request::bounded};

/// The answer of `supervisor.files`, from the session's stream: while it is open, too.
pub(crate) async fn files(
    deps: &Deps,
    trees: &SessionTrees,
    id: SessionId,
    asked: ListSessionFiles,
) -> Result<SessionFiles, Problem> {
    let ListSessionFiles { after, limit, .. } = asked;
    let limit = bounded(limit, "limit", FILES_PAGE_PATHS_MAX, FILES_PAGE_PATHS_MAX)?;
    let tree = trees.of(&*deps.journal, id).await?;
    let whole = SessionFiles::new(id, &tree.before, tree.now.clone());
    Ok(whole.page(after.as_deref(), limit))
}

/// The answer of `supervisor.file`.
pub(crate) async fn file(
    deps: &Deps,
    trees: &SessionTrees,
    id: SessionId,
    asked: ReadSessionFile,
) -> Result<SessionFilePart, Problem> {
    let ReadSessionFile { path, offset, .. } = asked;
    let tree = trees.of(&*deps.journal, id).await?;
    let unknown =
        || Problem::not_found(format!("session {id} has no file {path:?} in its workspace"));
    let file = *tree.now.files.get(&path).ok_or_else(unknown)?;
    if offset > file.bytes {
        let bytes = file.bytes;
        let sentence = format!("`offset` {offset} is behind the end of {path:?}: {bytes} bytes");
        return Err(Problem::bad_request(sentence));
    }
    let content = contents::load(&*deps.journal, file.blob, &format!("the file {path:?}")).await;
    let content = content.map_err(Problem::internal)?;
    let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let end = begin.saturating_add(FILE_PART_BYTES_MAX).min(content.len());
    let part = RunFile::new(path, &content[begin..end]);
    Ok(SessionFilePart { file, offset, content_base64: part.content_base64 })
}

/// The answer of `supervisor.missing`: what neither the journal nor the uploads have.
pub(crate) async fn missing(
    deps: &Deps,
    asked: MissingFiles,
) -> Result<MissingFilesAnswer, Problem> {
    let count = asked.hashes.len();
    if count > WORKSPACE_FILES_MAX {
        let sentence = format!("`hashes` has {count} entries: at most {WORKSPACE_FILES_MAX}");
        return Err(Problem::too_large(sentence));
    }
    let stored = deps.journal.blob_sizes(asked.hashes.clone()).await.map_err(Problem::from)?;
    let lacking = asked.hashes.into_iter().zip(stored).filter(|(_, size)| size.is_none());
    let lacking: Vec<_> = lacking.map(|(hash, _)| hash).collect();
    let uploaded = deps.uploads.has(lacking.clone()).await.map_err(|error| not_uploaded(&error))?;
    let missing = lacking.into_iter().zip(uploaded).filter(|(_, is_here)| !is_here);
    Ok(MissingFilesAnswer { missing: missing.map(|(hash, _)| hash).collect() })
}

/// The answer of `supervisor.upload`. A content that the journal has is complete.
pub(crate) async fn upload(deps: &Deps, asked: UploadPart) -> Result<Uploaded, Problem> {
    let UploadPart { hash, bytes, offset, content_base64 } = asked;
    let part = decoded(hash, content_base64)?;
    check_part(deps, bytes, offset, part.len())?;
    if let Some(stored) = stored(deps, hash).await.map_err(Problem::from)? {
        if stored != bytes {
            let sentence = format!("the content {hash} has {stored} bytes, not {bytes}");
            return Err(Problem::bad_request(sentence));
        }
        return Ok(Uploaded { hash, received: bytes, complete: true });
    }
    deps.uploads.put(hash, bytes, offset, part).await.map_err(|error| not_uploaded(&error))
}

async fn stored(deps: &Deps, hash: BlobHash) -> Result<Option<u64>, ReadError> {
    let sizes = deps.journal.blob_sizes(vec![hash]).await?;
    Ok(sizes.into_iter().next().flatten())
}

fn decoded(hash: BlobHash, content_base64: String) -> Result<Vec<u8>, Problem> {
    // Four characters for three bytes.
    if content_base64.len() > UPLOAD_PART_BYTES_MAX.div_ceil(3) * 4 {
        return Err(too_large());
    }
    RunFile { name: hash.to_string(), content_base64 }.bytes().map_err(Problem::bad_request)
}

fn too_large() -> Problem {
    Problem::too_large(format!("the part is too large: at most {UPLOAD_PART_BYTES_MAX} bytes"))
}

/// Refuses a part that cannot be one of a file of a workspace.
fn check_part(deps: &Deps, bytes: u64, offset: u64, part: usize) -> Result<(), Problem> {
    let bytes_max = deps.limits.workspace.file_bytes_max;
    if bytes > bytes_max {
        let sentence = format!("`bytes` is {bytes}: a file of a workspace has at most {bytes_max}");
        return Err(Problem::too_large(sentence));
    }
    if part > UPLOAD_PART_BYTES_MAX {
        return Err(too_large());
    }
    let end = offset.saturating_add(part as u64);
    if end > bytes {
        let sentence = format!("the part ends at {end}, behind the end of the content: {bytes}");
        return Err(Problem::bad_request(sentence));
    }
    if part == 0 && bytes > 0 {
        return Err(Problem::bad_request("the part is empty: send the bytes from `offset` on"));
    }
    Ok(())
}

fn not_uploaded(error: &UploadError) -> Problem {
    let sentence = error.to_string();
    match error {
        UploadError::Refused(_) => Problem::bad_request(sentence),
        UploadError::Full { .. } => Problem::busy(sentence, retry_after::UPLOAD),
        UploadError::Storage(_) => Problem::unavailable(sentence),
    }
}
