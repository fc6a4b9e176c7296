//! Contents from the journal, checked against their hash.

use std::sync::Arc;

use ai_factory_ports::{
    journal::{Journal, ReadError},
    sandbox::FileContents,
};
use ai_factory_schemas::{
    text::{Blob, BlobHash},
    workspace::WorkspaceManifest,
};

/// The blob with this hash; `what` names it in the sentence of a fault.
///
/// # Errors
/// A sentence, if the blob is missing, altered or cannot be read.
pub(crate) async fn load(
    journal: &dyn Journal,
    hash: BlobHash,
    what: &str,
) -> Result<Vec<u8>, String> {
    let content = journal.blob(hash).await.map_err(|error| unreadable(hash, what, &error))?;
    checked(content, hash, || what.to_owned())
}

/// `content`, if it is the one with this hash.
fn checked(
    content: Option<Vec<u8>>,
    hash: BlobHash,
    what: impl FnOnce() -> String,
) -> Result<Vec<u8>, String> {
    let fault = match content {
        Some(bytes) if BlobHash::of(&bytes) == hash => return Ok(bytes),
        Some(_) => "altered",
        None => "missing",
    };
    let advice = "`ai-factory verify` checks the whole journal";
    Err(format!("{} ({hash}) is {fault} in the journal: {advice}", what()))
}

fn unreadable(hash: BlobHash, what: &str, error: &ReadError) -> String {
    format!("{what} ({hash}) cannot be read: {error}")
}

/// Those of `blobs` that the journal does not have.
pub(crate) async fn without_stored(
    journal: &dyn Journal,
    blobs: Vec<Blob>,
) -> Result<Vec<Blob>, ReadError> {
    if blobs.is_empty() {
        return Ok(blobs);
    }
    let sizes = journal.blob_sizes(blobs.iter().map(Blob::hash).collect()).await?;
    let missing = blobs.into_iter().zip(sizes).filter(|(_, size)| size.is_none());
    Ok(missing.map(|(blob, _)| blob).collect())
}

/// The contents of a workspace for a program.
pub(crate) struct WorkspaceContents {
    pub(crate) journal: Arc<dyn Journal>,
    /// The files that are asked for: a fault is told with its path.
    pub(crate) files: Arc<WorkspaceManifest>,
}

#[ractor::async_trait]
impl FileContents for WorkspaceContents {
    async fn contents(&self, hashes: Vec<BlobHash>) -> Result<Vec<Vec<u8>>, String> {
        let read = self.journal.blobs(hashes.clone()).await;
        let read = read.map_err(|error| format!("the files cannot be read: {error}"))?;
        let checked = read.into_iter().zip(hashes).map(|(content, hash)| {
            checked(content, hash, || {
                let path = self.files.files.iter().find(|(_, file)| file.blob == hash);
                path.map_or("a file".to_owned(), |(path, _)| format!("the file {path:?}"))
            })
        });
        checked.collect()
    }
}
