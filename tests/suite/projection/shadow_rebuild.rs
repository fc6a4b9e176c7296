//! Rows and words that are made anew beside those that serve.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ai_factory::projection::{Access, ProjectionSettings, Projections};
use ai_factory_ports::{
    journal::{
        Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord, ReadError,
    },
    views::{SearchQuery, Views},
};
use ai_factory_schemas::{
    answer::RebuildStatus,
    envelope::Recorded,
    id::{CommandId, StreamId},
    memory::SearchMode,
    text::BlobHash,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Semaphore, watch},
};

use super::fixture::{Kit, answers, embedder, open_with};
use crate::support::memory_journal::MemoryJournal;

/// Events of which each is a memory: several steps of a rebuild.
const NOTES: u64 = 1_000;

/// A journal whose old records are read as often as it is let.
struct Slow {
    journal: Arc<MemoryJournal>,
    reads: Semaphore,
}

impl Slow {
    fn over(kit: &Kit) -> Arc<Self> {
        Arc::new(Self { journal: Arc::clone(&kit.journal), reads: Semaphore::new(0) })
    }
}

#[async_trait::async_trait]
impl Journal for Slow {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.journal.append(append).await
    }

    async fn load(&self, stream: StreamId, after: u64) -> Result<Vec<Recorded>, ReadError> {
        self.journal.load(stream, after).await
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RawRecord>, ReadError> {
        // One record is read to see whose files these are.
        if after < NOTES - 1 && limit > 1 {
            self.reads.acquire().await.unwrap().forget();
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

struct Serving {
    views: Arc<Projections>,
    /// Of the follower alone, so that with it everything ends that it has begun.
    runtime: Runtime,
}

impl Serving {
    fn over(kit: &Kit, journal: &Arc<impl Journal>) -> Self {
        let views = open_with(journal, &kit.settings(), &embedder(), Access::Write);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let follower = Arc::clone(&views);
        drop(runtime.spawn(async move { follower.follow().await }));
        Self { views, runtime }
    }

    /// What a kill does: nothing that waits is written.
    async fn die(self) {
        tokio::task::spawn_blocking(move || drop(self.runtime)).await.unwrap();
    }

    async fn first(&self, query: &str) -> String {
        let sought = SearchQuery { mode: SearchMode::Keyword, ..SearchQuery::new(query, 1) };
        let found = self.views.search(&sought).await.unwrap();
        found.into_iter().next().map(|found| found.text).unwrap_or_default()
    }

    async fn is_made(&self) {
        while self.views.rebuild_progress().is_some() {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until `n` of it are folded.
    async fn has_folded(&self, n: u64) {
        while !self.views.rebuild_progress().unwrap().contains(&format!(", {n} of ")) {
            tokio::task::yield_now().await;
        }
    }
}

async fn furnished() -> Kit {
    let kit = Kit::new();
    for number in 0..NOTES {
        kit.note(&format!("the kettle of room {number} is blue"), &[]).await;
    }
    let views = kit.open(Access::Write);
    views.rebuild().await.unwrap();
    drop(views);
    kit
}

fn meta(kit: &Kit) -> PathBuf {
    kit.dir.path().join("index/words/meta.json")
}

/// How words were cut, as the files say.
fn cut(kit: &Kit) -> String {
    let meta = fs::read_to_string(meta(kit)).unwrap();
    let payload = meta.split("\"payload\"").nth(1).unwrap().split('"').nth(1).unwrap();
    payload.split(' ').nth(1).unwrap().to_owned()
}

/// How large the file of vectors is, in bytes.
fn vectors(kit: &Kit) -> u64 {
    fs::metadata(kit.dir.path().join("index/vectors")).unwrap().len()
}

/// As if another version of the program had cut the words.
fn make_outdated(kit: &Kit) {
    let of_this = format!("\"5 {} ", cut(kit));
    let text = fs::read_to_string(meta(kit)).unwrap();
    assert!(text.contains(&of_this), "{text}");
    fs::write(meta(kit), text.replace(&of_this, "\"5 999 ")).unwrap();
}

fn left_beside(directory: &Path) -> Vec<String> {
    let places = [directory.to_owned(), directory.join("index")];
    let entries = places.iter().flat_map(|place| fs::read_dir(place).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let left =
        paths.filter(|path| path.extension().is_some_and(|end| end == "next" || end == "old"));
    left.map(|path| path.display().to_string()).collect()
}

#[tokio::test]
async fn words_of_another_version_serve_until_new_ones_are_made_and_are_killed_on_the_way() {
    let kit = furnished().await;
    let (this, before) = (cut(&kit), vectors(&kit));
    make_outdated(&kit);

    let journal = Slow::over(&kit);
    let serving = Serving::over(&kit, &journal);
    assert_eq!(serving.first("the kettle of room 7").await, "the kettle of room 7 is blue");
    // Nothing old can be read: what is found is found in what there was, and what is new too.
    kit.note("a pear", &[]).await;
    assert_eq!(serving.first("pear").await, "a pear");
    assert_eq!(serving.views.search_problem(), None, "nothing is amiss");
    let told = serving.views.rebuild_progress().unwrap();
    assert!(told.contains("0 of 1001") && told.contains("existing files serve"), "{told}");
    journal.reads.add_permits(3);
    serving.has_folded(384).await;
    // What is folded is written next.
    let next = kit.dir.path().join("index/words.next/meta.json");
    while !fs::read_to_string(&next).unwrap_or_default().contains(&format!("\"5 {this} 384 ")) {
        tokio::task::yield_now().await;
    }
    serving.die().await;
    assert_eq!(cut(&kit), "999", "what was flushed meanwhile is still of the other version");

    // It goes on from what was flushed.
    let journal = Slow::over(&kit);
    let serving = Serving::over(&kit, &journal);
    journal.reads.add_permits(1);
    serving.has_folded(512).await;
    assert_eq!(serving.first("pear").await, "a pear");
    journal.reads.add_permits(100);
    serving.is_made().await;
    assert_eq!(cut(&kit), this);
    assert_eq!(left_beside(kit.dir.path()), Vec::<String>::new());
    assert_eq!(serving.first("the kettle of room 7").await, "the kettle of room 7 is blue");
    assert_eq!(serving.first("pear").await, "a pear");
    let digest = serving.views.digest().await.unwrap();
    serving.die().await;
    assert!(vectors(&kit) > before, "on disk, vectors are behind the words");
    let views = kit.open(Access::Write);
    assert_eq!(views.rebuild_progress(), None);
    assert_eq!(views.digest().await.unwrap(), digest);
    views.rebuild().await.unwrap();
    assert_eq!(views.digest().await.unwrap(), digest);
}

#[tokio::test]
async fn who_asks_gets_rows_and_words_anew_and_checkpoints_stay() {
    let kit = furnished().await;
    kit.live(7, 400).await;
    let journal = Slow::over(&kit);
    let serving = Serving::over(&kit, &journal);
    serving.views.catch_up().await.unwrap();
    serving.views.note_checkpoint("relay", 17);
    let expected = answers(&serving.views).await;
    let before = serving.views.revision();
    let begun = serving.views.start_rebuild().await.unwrap();
    assert_eq!((begun.status, begun.events), (RebuildStatus::Begun, kit.journal_position()));
    assert_eq!(serving.views.start_rebuild().await.unwrap().status, RebuildStatus::UnderWay);
    journal.reads.add_permits(2);
    serving.has_folded(256).await;
    assert_eq!(answers(&serving.views).await, expected, "what there was serves on");
    let told = serving.views.rebuild_progress().unwrap();
    assert!(told.starts_with("lists and keyword index"), "{told}");
    kit.live(8, 50).await;
    journal.reads.add_permits(100);
    serving.is_made().await;
    assert_ne!(serving.views.revision(), before, "an answer of before is not given again");
    assert_eq!(serving.views.checkpoint("relay").unwrap(), 17);
    let (expected, digest) = (answers(&serving.views).await, serving.views.digest().await.unwrap());
    serving.die().await;

    assert_eq!(left_beside(kit.dir.path()), Vec::<String>::new());
    let views = kit.open(Access::Write);
    assert_eq!(views.checkpoint("relay").unwrap(), 17);
    assert_eq!(answers(&views).await, expected);
    views.rebuild().await.unwrap();
    assert_eq!(views.digest().await.unwrap(), digest);
}

#[tokio::test]
async fn who_asked_in_vain_is_told_why_until_somebody_asks_again() {
    let kit = furnished().await;
    let serving = Serving::over(&kit, &kit.journal);
    serving.views.catch_up().await.unwrap();
    let (data, away) = (kit.dir.path(), kit.dir.path().with_extension("away"));
    fs::rename(data, &away).unwrap();
    serving.views.start_rebuild().await.unwrap();
    serving.is_made().await;
    let told = serving.views.search_problem().unwrap();
    assert!(told.starts_with("lists and keyword index are not rebuilt ("), "{told}");
    assert_eq!(serving.first("the kettle of room 7").await, "the kettle of room 7 is blue");
    fs::rename(&away, data).unwrap();
    assert_eq!(serving.views.start_rebuild().await.unwrap().status, RebuildStatus::Begun);
    assert_eq!(serving.views.search_problem(), None);
    serving.is_made().await;
    assert_eq!(serving.views.search_problem(), None);
    serving.die().await;
}

#[tokio::test]
async fn what_was_forgotten_stays_so_in_what_is_made_anew() {
    let kit = furnished().await;
    let forgotten = kit.note("a secret of the pantry", &[]).await;
    kit.forget(forgotten).await;
    kit.expire(5).await;
    make_outdated(&kit);
    let serving = Serving::over(&kit, &kit.journal);
    serving.is_made().await;
    assert_ne!(cut(&kit), "999");
    assert_eq!(serving.first("pantry").await, "");
    assert_ne!(serving.first("the kettle of room 3 is blue").await, "the kettle of room 3 is blue");
    assert_eq!(serving.first("the kettle of room 5 is blue").await, "the kettle of room 5 is blue");
    serving.die().await;
}

#[tokio::test]
async fn what_a_crash_has_left_of_another_journal_is_not_gone_on_with() {
    let mut kit = furnished().await;
    make_outdated(&kit);
    let journal = Slow::over(&kit);
    let serving = Serving::over(&kit, &journal);
    journal.reads.add_permits(3);
    serving.has_folded(384).await;
    serving.die().await;

    kit.journal = Arc::default();
    for number in 0..NOTES {
        kit.note(&format!("the lamp of room {number} is green"), &[]).await;
    }
    let serving = Serving::over(&kit, &kit.journal);
    serving.views.catch_up().await.unwrap();
    serving.is_made().await;
    assert_eq!(serving.first("lamp of room 7").await, "the lamp of room 7 is green");
    assert_eq!(serving.first("kettle").await, "");
    let digest = serving.views.digest().await.unwrap();
    assert_eq!(digest.counts.documents, NOTES);
    serving.die().await;
}

#[tokio::test]
async fn an_end_waits_for_what_is_being_written() {
    let kit = furnished().await;
    for _ in 0..4 {
        fs::remove_dir_all(kit.dir.path().join("index")).unwrap();
        let settings = ProjectionSettings {
            served_behind_events_min: 10,
            flush_documents_max: 10_000,
            flush_bytes_max: 1 << 30,
            ..ProjectionSettings::new(kit.dir.path())
        };
        let views = open_with(&kit.journal, &settings, &embedder(), Access::Write);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let follower = Arc::clone(&views);
        let following = runtime.spawn(async move { follower.follow().await });
        // Fewer documents than a flush is due for: what is made anew is written once it is
        // complete.
        while !kit.dir.path().join("index/words/.tantivy-writer.lock").exists() {
            tokio::task::yield_now().await;
        }
        following.abort();
        views.close().await.unwrap();
        assert!(fs::read_to_string(meta(&kit)).unwrap().contains(" 1000 "));
        tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
    }
}
