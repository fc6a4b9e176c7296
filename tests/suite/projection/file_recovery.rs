//! Files that fail while the factory serves on.

use std::{
    fs::OpenOptions,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ai_factory::projection::{Access, Projections};
use ai_factory_ports::{
    journal::{
        Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord, ReadError,
    },
    views::{SearchQuery, Views},
};
use ai_factory_schemas::{
    envelope::Recorded,
    id::{CommandId, StreamId},
    text::BlobHash,
};
use tokio::sync::watch;

use super::fixture::{Kit, answers, embedder, follow, open_with, pieces};
use crate::support::memory_journal::MemoryJournal;

/// Writes over all of a file behind `from`, which stays the same file.
fn spoil(path: &Path, from: u64) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len() - from).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    file.write_all(&vec![0xA5; length]).unwrap();
}

async fn finds(views: &Projections, text: &str) -> bool {
    let found = views.search(&SearchQuery::new(text, 1)).await.unwrap();
    found.first().is_some_and(|found| found.text == text)
}

#[tokio::test]
async fn files_that_are_lost_again_and_again_are_made_anew_each_time() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let file = kit.dir.path().join("index/words/meta.json");
    for round in 0..3 {
        std::fs::remove_file(&file).unwrap();
        for number in 0.. {
            let text = format!("a pear, {round} {number}");
            kit.note(&text, &[]).await;
            assert!(finds(&views, &text).await, "round {round}, {number}");
            if file.exists() {
                break;
            }
        }
        // Once it was written it may be dropped again.
        views.rebuild().await.unwrap();
        assert!(finds(&views, "a pear, 0 0").await);
    }
}

#[tokio::test]
async fn a_question_is_answered_whatever_stands_in_the_files_beneath_it() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.live(11, 300).await;
    let expected = answers(&views).await;
    views.rebuild().await.unwrap();
    let words = std::fs::read_dir(kit.dir.path().join("index/words")).unwrap();
    let words = words.map(|entry| entry.unwrap().path());
    let is_of_segment = |path: &std::path::PathBuf| {
        path.extension()
            .is_some_and(|kind| ["store", "idx", "term", "pos"].iter().any(|k| kind == *k))
    };
    let segments: Vec<_> = words.filter(is_of_segment).collect();
    assert!(segments.len() >= 4);
    for path in segments {
        spoil(&path, 0);
    }
    assert_eq!(answers(&views).await, expected, "the index by words is spoilt");
    views.rebuild().await.unwrap();
    spoil(&kit.dir.path().join("projections.redb"), 4096);
    assert_eq!(answers(&views).await, expected, "the rows are spoilt");
}

#[tokio::test]
async fn many_who_ask_at_once_are_answered_by_what_one_of_them_has_made_anew() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.live(12, 200).await;
    kit.note("an apple a day", &[]).await;
    views.rebuild().await.unwrap();
    let words = std::fs::read_dir(kit.dir.path().join("index/words")).unwrap();
    for path in words.map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|kind| kind == "store") {
            spoil(&path, 0);
        }
    }
    let asked = (0..64).map(|_| finds(&views, "an apple a day"));
    assert_eq!(futures_util::future::join_all(asked).await, [true; 64]);
}

/// Takes the index away and records notes until somebody notices; answers how many.
async fn notes_without_place(kit: &Kit, views: &Projections, away: &Path) -> u64 {
    let index = kit.dir.path().join("index");
    std::fs::rename(&index, away).unwrap();
    std::fs::write(&index, "no directory").unwrap();
    let mut written = 0;
    while views.search_problem().is_none() {
        written += 1;
        kit.note(&format!("a plum, {written}"), &[]).await;
        // May fail: it has to wait for the disk at some point.
        let _ = views.search(&SearchQuery::new("plum", 1)).await;
    }
    written
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_said_until_it_can() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let (index, away) = (kit.dir.path().join("index"), kit.dir.path().join("away"));
    let mut written = notes_without_place(&kit, &views, &away).await;
    let told = views.search_problem().unwrap();
    assert!(told.contains("the search index cannot be written"), "{told}");
    assert!(told.contains(kit.dir.path().to_str().unwrap()), "{told}");
    assert_eq!(views.revision(), None);

    std::fs::remove_file(&index).unwrap();
    std::fs::rename(&away, &index).unwrap();
    while views.search_problem().is_some() {
        written += 1;
        kit.note(&format!("a plum, {written}"), &[]).await;
        let _ = views.search(&SearchQuery::new("plum", 1)).await;
    }
    for number in 1..=written {
        assert!(finds(&views, &format!("a plum, {number}")).await, "{number} of {written}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_written_when_it_can_though_nobody_wants_anything() {
    for is_given_back in [true, false] {
        let kit = Kit::new();
        let views = kit.open(Access::Write);
        let (index, away) = (kit.dir.path().join("index"), kit.dir.path().join("away"));
        kit.note("a pear", &[]).await;
        views.rebuild().await.unwrap();
        let following = follow(&views);
        let written = notes_without_place(&kit, &views, &away).await;
        std::fs::remove_file(&index).unwrap();
        if is_given_back {
            std::fs::rename(&away, &index).unwrap();
        }
        let meta = index.join("words/meta.json");
        while views.search_problem().is_some() || !meta.exists() {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // And if there is an index, there may be nothing in it yet.
        while pieces(&kit).iter().sum::<u64>() <= written {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(views.search_problem(), None);
        following.abort();
        for text in (1..=written).map(|n| format!("a plum, {n}")).chain(["a pear".to_owned()]) {
            assert!(finds(&views, &text).await, "{text} of {written}, {is_given_back}");
        }
    }
}

#[tokio::test]
async fn lists_whose_file_could_not_be_made_anew_are_written_once_it_can() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.dispatch("one", "Build a shop").await;
    let (data, away) = (kit.dir.path(), kit.dir.path().with_extension("away"));
    std::fs::rename(data, &away).unwrap();
    views.rebuild().await.unwrap_err();
    std::fs::rename(&away, data).unwrap();
    let file = data.join("projections.redb");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(views.logs(2).await.unwrap().len(), 1);
    views.close().await.unwrap();
    assert!(file.metadata().unwrap().len() > 0);
    drop(views);
    assert_eq!(kit.open(Access::Write).logs(2).await.unwrap().len(), 1);
}

/// A journal that cannot be read at times.
struct Unreadable {
    journal: Arc<MemoryJournal>,
    fails: AtomicBool,
}

#[async_trait::async_trait]
impl Journal for Unreadable {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.journal.append(append).await
    }

    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.journal.load(stream, after).await
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        if self.fails.load(Ordering::Acquire) {
            return Err(ReadError::Storage("the disk fails".into()));
        }
        self.journal.read(after, limit).await
    }

    async fn command(&self, id: &CommandId) -> Result<Option<(Command, Appended)>, ReadError> {
        self.journal.command(id).await
    }

    async fn blob(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, ReadError> {
        self.journal.blob(hash).await
    }

    fn head(&self) -> Head {
        self.journal.head()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.journal.watch()
    }

    fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.journal.watch_health()
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_follower_could_not_fold_is_no_problem_once_a_query_has_folded_it() {
    let kit = Kit::new();
    kit.dispatch("one", "Build a shop").await;
    let journal = Arc::clone(&kit.journal);
    let journal = Arc::new(Unreadable { journal, fails: AtomicBool::new(true) });
    let views = open_with(&journal, &kit.settings(), &embedder(), Access::Write);
    let following = follow(&views);
    while views.search_problem().is_none() {
        tokio::task::yield_now().await;
    }
    let told = views.search_problem().unwrap();
    assert!(told.contains("new events cannot be folded"), "{told}");
    journal.fails.store(false, Ordering::Release);
    assert_eq!(views.logs(2).await.unwrap().len(), 1);
    while views.search_problem().is_some() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    following.abort();
}
