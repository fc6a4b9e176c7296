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
    let advice = "`ai-factory verify` checks the whole journal";
    match journal.blob(hash).await {
        Ok(Some(bytes)) if BlobHash::of(&bytes) == hash => Ok(bytes),
        Ok(Some(_)) => Err(format!("{what} ({hash}) is altered in the journal: {advice}")),
        Ok(None) => Err(format!("{what} ({hash}) is missing in the journal: {advice}")),
        Err(error) => Err(format!("{what} ({hash}) cannot be read: {error}")),
    }
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
    async fn content(&self, hash: BlobHash) -> Result<Vec<u8>, String> {
        let path = self.files.files.iter().find(|(_, file)| file.blob == hash);
        let what = path.map_or("a file".to_owned(), |(path, _)| format!("the file {path:?}"));
        load(&*self.journal, hash, &what).await
    }
}
