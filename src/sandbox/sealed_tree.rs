//! The contents of workspaces in sealed memory: read and checked once, handed to jails as a
//! descriptor, and kept a while for the next run on the same or nearly the same files.
//!
//! *Promises.* What a jail gets cannot be changed by anybody, and holds the contents of its own
//! workspace only. A content is taken from kept memory only under its hash.
//!
//! *Limits.* [`KEPT_TREES_MAX`], [`KEPT_BYTES_MAX`], [`KEPT_FOR`]; those used last are kept.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt as _,
    },
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use ai_factory_ports::sandbox::FileContents;
use ai_factory_schemas::{text::BlobHash, workspace::WorkspaceManifest};
use parking_lot::Mutex;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
};

/// Workspaces whose contents are kept.
const KEPT_TREES_MAX: usize = 8;
/// The kept contents together, in bytes: two of the largest workspaces.
const KEPT_BYTES_MAX: u64 = 48 * 1024 * 1024;
/// How long contents are kept after their last use.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// The name of the memory in `/proc`.
const NAME: &str = "ai-factory workspace";
/// Bytes of a write into new memory.
const WRITE_BYTES: usize = 256 * 1024;

/// The contents of a workspace, in the order of its paths.
pub(super) struct SealedTree {
    files: Arc<WorkspaceManifest>,
    memory: File,
    /// The size of the contents.
    bytes: u64,
}

impl AsFd for SealedTree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl SealedTree {
    /// Where each content begins, and its size.
    fn parts(&self) -> impl Iterator<Item = (BlobHash, (u64, u64))> + use<'_> {
        self.files.files.values().scan(0, |next, file| {
            let at = *next;
            *next += file.bytes;
            Some((file.blob, (at, file.bytes)))
        })
    }

    fn part(&self, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        self.memory.read_exact_at(&mut content, at)?;
        Ok(content)
    }
}

/// A kept tree and the time of its last use.
type KeptTree = (Instant, Arc<SealedTree>);

/// The kept trees, those used last at the end.
#[derive(Default)]
pub(super) struct SealedTrees(Mutex<Vec<KeptTree>>);

impl SealedTrees {
    /// The contents of `files`; those that no kept tree has come from `source`.
    ///
    /// # Errors
    /// A sentence, if a content cannot be had, or there is no memory.
    pub(super) async fn of(
        self: &Arc<Self>,
        files: &Arc<WorkspaceManifest>,
        source: &dyn FileContents,
    ) -> Result<Arc<SealedTree>, String> {
        let kept = self.kept(files);
        if let Some(same) = kept.last().filter(|tree| tree.files == *files) {
            return Ok(Arc::clone(same));
        }
        let parts = kept.iter().flat_map(|tree| {
            tree.parts().map(move |(hash, part)| (hash, Content::Kept(Arc::clone(tree), part)))
        });
        let mut contents: HashMap<_, _> = parts.collect();
        let mut missing: Vec<_> = files.files.values().map(|file| file.blob).collect();
        missing.retain(|hash| !contents.contains_key(hash));
        missing.sort_unstable();
        missing.dedup();
        let loaded = source.contents(missing.clone()).await?;
        contents.extend(missing.into_iter().zip(loaded.into_iter().map(Content::Loaded)));
        let files = Arc::clone(files);
        // Copying the largest workspace takes a few milliseconds.
        let sealed = tokio::task::spawn_blocking(move || seal(files, &contents)).await;
        let tree = Arc::new(sealed.unwrap_or_else(|error| Err(error.to_string()))?);
        self.keep(&tree);
        Ok(tree)
    }

    /// The kept trees; the one with exactly these files, if there is one, is the last.
    fn kept(&self, files: &Arc<WorkspaceManifest>) -> Vec<Arc<SealedTree>> {
        let mut kept = self.0.lock();
        if let Some(at) = kept.iter().position(|(_, tree)| tree.files == *files) {
            let (_, tree) = kept.remove(at);
            kept.push((Instant::now(), tree));
        }
        kept.iter().map(|(_, tree)| Arc::clone(tree)).collect()
    }

    fn keep(self: &Arc<Self>, tree: &Arc<SealedTree>) {
        let mut kept = self.0.lock();
        if kept.is_empty() {
            tokio::spawn(Self::expire(Arc::downgrade(self)));
        }
        kept.push((Instant::now(), Arc::clone(tree)));
        let mut bytes: u64 = kept.iter().map(|(_, tree)| tree.bytes).sum();
        while kept.len() > KEPT_TREES_MAX || bytes > KEPT_BYTES_MAX {
            bytes -= kept.remove(0).1.bytes;
        }
    }

    /// Drops the trees that are too old, until none is left.
    async fn expire(trees: Weak<Self>) {
        while let Some(used) = trees.upgrade().and_then(|trees| trees.drop_expired()) {
            tokio::time::sleep_until((used + KEPT_FOR).into()).await;
        }
    }

    /// Returns when the oldest that is left was used.
    fn drop_expired(&self) -> Option<Instant> {
        let mut kept = self.0.lock();
        kept.retain(|(used, _)| used.elapsed() < KEPT_FOR);
        kept.first().map(|(used, _)| *used)
    }
}

/// The content of a file.
enum Content {
    Loaded(Vec<u8>),
    /// Where it is in a kept tree, and its size.
    Kept(Arc<SealedTree>, (u64, u64)),
}

/// Copies the contents of `files` into new memory and seals it.
fn seal(
    files: Arc<WorkspaceManifest>,
    contents: &HashMap<BlobHash, Content>,
) -> Result<SealedTree, String> {
    let memory = new_memory().map_err(|error| no_memory(&error))?;
    let mut to = BufWriter::with_capacity(WRITE_BYTES, &memory);
    for (path, file) in &files.files {
        let missing = || format!("{path:?} did not come");
        let content = match contents.get(&file.blob).ok_or_else(missing)? {
            Content::Loaded(content) => Cow::Borrowed(&content[..]),
            Content::Kept(tree, (at, bytes)) => {
                Cow::Owned(tree.part(*at, *bytes).map_err(|error| no_memory(&error))?)
            }
        };
        let (has, bytes) = (content.len(), file.bytes);
        if has as u64 != bytes {
            return Err(format!("{path:?} has {has} bytes instead of {bytes}"));
        }
        to.write_all(&content).map_err(|error| no_memory(&error))?;
    }
    to.flush().map_err(|error| no_memory(&error))?;
    drop(to);
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&memory, seals).map_err(|error| no_memory(&error.into()))?;
    let bytes = files.bytes();
    Ok(SealedTree { files, memory, bytes })
}

fn new_memory() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3.
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        made => made,
    };
    Ok(File::from(made?))
}

fn no_memory(error: &io::Error) -> String {
    format!("the files cannot be held in memory: {error}")
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::workspace::WorkspaceFile;

    use super::*;

    /// Contents by their hash; notes what is asked for.
    #[derive(Default)]
    struct Source {
        contents: HashMap<BlobHash, Vec<u8>>,
        asked: Mutex<Vec<BlobHash>>,
    }

    #[async_trait::async_trait]
    impl FileContents for Source {
        async fn contents(&self, hashes: Vec<BlobHash>) -> Result<Vec<Vec<u8>>, String> {
            self.asked.lock().extend(&hashes);
            hashes
                .iter()
                .map(|hash| self.contents.get(hash).cloned().ok_or_else(|| "gone".to_owned()))
                .collect()
        }
    }

    fn manifest(files: &[(&str, &str)]) -> Arc<WorkspaceManifest> {
        let file = |content: &str| WorkspaceFile {
            blob: BlobHash::of(content.as_bytes()),
            bytes: content.len() as u64,
            executable: false,
        };
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), file(content)));
        Arc::new(WorkspaceManifest { files: files.collect() })
    }

    fn source(contents: &[&str]) -> Source {
        let content = |it: &&str| (BlobHash::of(it.as_bytes()), it.as_bytes().to_vec());
        Source { contents: contents.iter().map(content).collect(), ..Source::default() }
    }

    fn text(tree: &SealedTree) -> String {
        String::from_utf8(tree.part(0, tree.bytes).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn each_content_is_asked_for_once_and_a_changed_tree_asks_for_the_change_only() {
        let trees = Arc::new(SealedTrees::default());
        let source = source(&["one", "2", "new"]);
        let first = manifest(&[("a", "one"), ("b", "2"), ("c", "one"), ("d", "")]);
        let tree = trees.of(&first, &source).await;
        assert_eq!(tree.err().as_deref(), Some("gone"), "the empty one is missing");
        let first = manifest(&[("a", "one"), ("b", "2"), ("c", "one")]);
        source.asked.lock().clear();
        let tree = trees.of(&first, &source).await.unwrap();
        assert_eq!((text(&tree).as_str(), source.asked.lock().len()), ("one2one", 2));
        let again = trees.of(&Arc::new(WorkspaceManifest::clone(&first)), &source).await.unwrap();
        assert!(Arc::ptr_eq(&tree, &again));
        source.asked.lock().clear();
        let changed = manifest(&[("a", "new"), ("b", "2")]);
        let changed = trees.of(&changed, &source).await.unwrap();
        assert_eq!(text(&changed), "new2");
        assert_eq!(*source.asked.lock(), [BlobHash::of(b"new")]);
    }

    #[tokio::test]
    async fn nobody_can_change_what_is_sealed() {
        let trees = Arc::new(SealedTrees::default());
        let tree = trees.of(&manifest(&[("a", "one")]), &source(&["one"])).await.unwrap();
        let handed_over = File::from(tree.as_fd().try_clone_to_owned().unwrap());
        assert!(handed_over.write_at(b"x", 0).is_err());
        assert!(handed_over.write_at(b"x", 3).is_err());
        assert!(handed_over.set_len(1).is_err() && handed_over.set_len(9).is_err());
        assert!(fcntl_add_seals(&handed_over, SealFlags::FUTURE_WRITE).is_err());
        assert_eq!(text(&tree), "one");
    }

    #[tokio::test]
    async fn a_content_of_another_size_than_announced_is_refused_by_path() {
        let mut files = WorkspaceManifest::clone(&manifest(&[("a", "one")]));
        files.files.get_mut("a").unwrap().bytes = 2;
        let trees = Arc::new(SealedTrees::default());
        let refused = trees.of(&Arc::new(files), &source(&["one"])).await.err().unwrap();
        assert_eq!(refused, "\"a\" has 3 bytes instead of 2");
    }

    #[tokio::test]
    async fn the_trees_used_last_are_kept_within_the_limits_and_for_their_time() {
        let trees = Arc::new(SealedTrees::default());
        let names: Vec<_> = (0..=KEPT_TREES_MAX).map(|n| n.to_string()).collect();
        let source = source(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let manifests: Vec<_> = names.iter().map(|name| manifest(&[("a", name)])).collect();
        for files in &manifests[..KEPT_TREES_MAX] {
            trees.of(files, &source).await.unwrap();
        }
        for files in [&manifests[0], &manifests[KEPT_TREES_MAX]] {
            trees.of(files, &source).await.unwrap();
        }
        let is_kept = |n: usize| trees.0.lock().iter().any(|(_, it)| it.files == manifests[n]);
        assert!(is_kept(0) && !is_kept(1) && is_kept(2));
        if let Some(long_ago) = Instant::now().checked_sub(KEPT_FOR) {
            trees.0.lock()[0].0 = long_ago;
            assert!(trees.drop_expired().is_some());
            assert!(!is_kept(2) && is_kept(3));
        }
    }
}
