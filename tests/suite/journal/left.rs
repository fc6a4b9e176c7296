//! Reading what a crash left: without writing, beside a writer that comes back, and as somebody who
//! may not write.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory::journal::{JournalReader, verify};
use ai_factory_ports::journal::Journal;

use super::{open, small};
use crate::contract::journal::{append, notes};

/// What a write to a file would change: which one it is, when it was written, what is in it.
pub type Seen = (u64, i64, i64, Option<Vec<u8>>);

/// Every file below a directory.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::symlink_metadata(&path).unwrap();
        let content = data.is_file().then(|| fs::read(&path).unwrap());
        if data.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path, (data.ino(), data.mtime(), data.mtime_nsec(), content));
    }
    found
}

/// A copy of a journal that is open for writing: what a crash would leave of it.
fn crashed(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("segments")).unwrap();
    for (path, (.., content)) in files(from) {
        if let Some(content) = content {
            fs::write(dir.path().join(path.strip_prefix(from).unwrap()), content).unwrap();
        }
    }
    dir
}

#[tokio::test]
async fn a_reader_repairs_in_memory_and_leaves_every_file_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    for version in 0..20 {
        journal.append(append(notes(1), version, &["a"])).await.unwrap();
    }
    let left = crashed(dir.path());
    let before = files(left.path());
    let reader = JournalReader::open(left.path()).unwrap();
    assert_eq!(reader.head(), journal.head());
    assert_eq!(reader.read_sync(0, 100).unwrap().len(), 20);
    assert_eq!(reader.load_sync(notes(1), 0).unwrap().len(), 20);
    assert_eq!(verify(left.path(), Some(journal.head())).unwrap().events, 20);
    assert!(files(left.path()) == before);
}

#[tokio::test]
async fn a_reader_of_what_a_crash_left_follows_the_writer_that_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    for version in 0..3 {
        journal.append(append(notes(1), version, &["a"])).await.unwrap();
    }
    let left = crashed(dir.path());
    let reader = JournalReader::open(left.path()).unwrap();
    assert_eq!(reader.head().position, 3);
    let writer = open(small(left.path()));
    for version in 3..20 {
        writer.append(append(notes(1), version, &["b"])).await.unwrap();
        assert_eq!(reader.head(), writer.head());
        assert_eq!(reader.load_sync(notes(1), 0).unwrap().len() as u64, version + 1);
        assert_eq!(reader.read_sync(version, 10).unwrap().len(), 1);
    }
    assert_eq!(verify(left.path(), None).unwrap().events, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn many_readers_come_while_a_writer_repairs() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(small(dir.path()));
    for version in 0..5 {
        journal.append(append(notes(1), version, &["a"])).await.unwrap();
    }
    for _ in 0..10 {
        let left = crashed(dir.path());
        let path = Arc::new(left.path().to_owned());
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let path = Arc::clone(&path);
                std::thread::spawn(move || {
                    for _ in 0..5 {
                        let reader = JournalReader::open(&*path).unwrap();
                        assert!(reader.load_sync(notes(1), 0).unwrap().len() >= 5);
                        verify(&*path, None).unwrap();
                    }
                })
            })
            .collect();
        let writer = open(small(left.path()));
        writer.append(append(notes(1), 5, &["b"])).await.unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
    }
}
