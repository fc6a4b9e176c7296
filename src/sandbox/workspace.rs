//! The workspace of a run on the factory's side: loaded before the run, and its changes after it.
//!
//! *Promises.* Changes are taken only if the workspace with them keeps its rules and limits; a jail
//! is not trusted to have checked.

use std::{borrow::Cow, io, sync::Arc};

use ai_factory_ports::sandbox::{
    ChangedContent, ChangedFile, ProgramWorkspace, SandboxError, WorkspaceOutcome,
};
use ai_factory_schemas::{
    limit::FILE_NAME_BYTES_MAX,
    text::Blob,
    workspace::{FileChange, WorkspaceFile, WorkspaceLimits, WorkspaceManifest},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{
    descriptor,
    jail::{
        LEFT_OUT_BYTES_MAX,
        message::{TreeBytes, TreeOrder, TreeReply},
    },
    sealed_tree::{SealedTree, SealedTrees},
};

/// The layer that is named when a workspace cannot be loaded.
const WORKSPACE: &str = "workspace";
/// The most bytes of a byte of text in JSON: as an escape, `\u0000`.
const JSON_BYTES_PER_BYTE: u64 = 6;
/// The most bytes of a change in JSON beside its path.
const CHANGE_BYTES_MAX: u64 = 256;

/// The workspace of a program, complete and ready to send.
pub(super) struct PackedWorkspace {
    /// The [`TreeOrder`] as JSON.
    list: Vec<u8>,
    tree: Arc<SealedTree>,
    before: Arc<WorkspaceManifest>,
    limits: WorkspaceLimits,
}

impl PackedWorkspace {
    /// Loads the contents of all files.
    pub(super) async fn load(
        workspace: &ProgramWorkspace,
        trees: &Arc<SealedTrees>,
    ) -> Result<Self, SandboxError> {
        let ProgramWorkspace { files: before, contents, limits, discard } = workspace;
        let order = TreeOrder { files: Cow::Borrowed(before), limits: *limits, discard: *discard };
        let list = serde_json::to_vec(&order).map_err(|error| broken(error.to_string()))?;
        let tree = trees.of(before, &**contents).await.map_err(broken)?;
        Ok(Self { list, tree, before: Arc::clone(before), limits: *limits })
    }

    /// The size of its list, in bytes.
    pub(super) fn list_bytes(&self) -> u64 {
        self.list.len() as u64
    }

    /// Sends it.
    pub(super) async fn send(&self, to: &mut UnixStream) -> io::Result<()> {
        to.write_all(&self.list).await?;
        descriptor::send(to, &*self.tree).await
    }

    /// Reads what became of it.
    pub(super) async fn receive(
        &self,
        bytes: TreeBytes,
        from: &mut UnixStream,
    ) -> io::Result<WorkspaceOutcome> {
        if bytes.list > self.list_bytes_max() || bytes.contents > self.limits.bytes_max {
            return Err(io::Error::other("it sends more than a workspace may have"));
        }
        let list = read(from, bytes.list).await?;
        let TreeReply { changes, left_out } = serde_json::from_slice(&list)?;
        let changes = match changes {
            Ok(changes) => Ok(self.take(changes, &read(from, bytes.contents).await?)?),
            Err(why) => Err(why),
        };
        Ok(WorkspaceOutcome { changes, left_out })
    }

    /// The size of the longest list of changes, in bytes.
    fn list_bytes_max(&self) -> u64 {
        let changes = (self.before.files.len() + self.limits.files_max) as u64;
        let path = FILE_NAME_BYTES_MAX as u64 * JSON_BYTES_PER_BYTE;
        let left_out = LEFT_OUT_BYTES_MAX as u64 * JSON_BYTES_PER_BYTE;
        changes * (path + CHANGE_BYTES_MAX) + left_out + CHANGE_BYTES_MAX
    }

    fn take(&self, changes: Vec<FileChange>, contents: &[u8]) -> io::Result<Vec<ChangedFile>> {
        let mut rest = contents;
        let mut taken = Vec::with_capacity(changes.len());
        for FileChange { path, file } in &changes {
            let file = match file {
                Some(WorkspaceFile { bytes, executable, .. }) => {
                    let length = usize::try_from(*bytes).map_err(io::Error::other)?;
                    let (content, after) = rest.split_at_checked(length).ok_or_else(torn)?;
                    rest = after;
                    let blob = Blob::new(content.to_vec());
                    Some(ChangedContent { blob, executable: *executable })
                }
                None => None,
            };
            taken.push(ChangedFile { path: path.clone(), file });
        }
        let mut after = WorkspaceManifest::clone(&self.before);
        after.apply(changes);
        after.check(&self.limits).map_err(io::Error::other)?;
        if rest.is_empty() { Ok(taken) } else { Err(torn()) }
    }
}

fn torn() -> io::Error {
    io::Error::other("its files do not have the announced sizes")
}

async fn read(from: &mut UnixStream, bytes: u64) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    from.read_exact(&mut content).await?;
    Ok(content)
}

fn broken(message: String) -> SandboxError {
    SandboxError::Broken { layer: WORKSPACE, message }
}
