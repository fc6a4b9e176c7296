//! The files of an open journal are deleted, moved, replaced or hidden: nothing is acknowledged
//! from then on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ai_factory::journal::RedbJournal;
use ai_factory_ports::journal::{AppendError, Journal, JournalHealth, RefusalCause};

use super::{open, small};
use crate::contract::journal::{append, command, notes};

/// How long it may take until somebody notices who only waits: a second, and the rest for a busy
/// machine.
const NOTICED_MAX: Duration = Duration::from_secs(5);

/// A data directory at `parent/data`, reached through a link.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("parent")).unwrap();
        std::os::unix::fs::symlink("parent", dir.path().join("link")).unwrap();
        Self { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("parent/data")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    fn aside(&self) -> PathBuf {
        self.dir.path().join("aside")
    }

    /// The first sealed segment.
    fn sealed(&self) -> PathBuf {
        self.at("segments/journal-00000000000000000001.redb")
    }

    /// Puts a copy in the place of a file, as `cp` and `mv` do.
    fn replace(&self, path: &Path) {
        fs::copy(path, self.aside()).unwrap();
        fs::rename(self.aside(), path).unwrap();
    }

    /// A journal with a sealed segment and records in the active one.
    async fn journal(&self) -> Arc<RedbJournal> {
        let journal = open(small(&self.dir.path().join("link/data")));
        for version in 0..10 {
            journal.append(append(notes(1), version, &["a"])).await.unwrap();
        }
        assert!(self.sealed().exists());
        journal
    }
}

/// What happens to it, and what it is called then.
type Change = (&'static str, fn(&Place));

const TAKEN: [Change; 13] = [
    ("deleted", |place| fs::remove_dir_all(place.data()).unwrap()),
    ("moved", |place| fs::rename(place.data(), place.aside()).unwrap()),
    ("deleted and made again empty", |place| {
        fs::remove_dir_all(place.data()).unwrap();
        fs::create_dir(place.data()).unwrap();
    }),
    ("the directory above moved", |place| {
        fs::rename(place.dir.path().join("parent"), place.aside()).unwrap();
    }),
    ("the link re-pointed", |place| {
        let link = place.dir.path().join("link");
        fs::create_dir_all(place.aside().join("data")).unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("aside", link).unwrap();
    }),
    ("the active segment deleted", |place| fs::remove_file(place.at("journal.redb")).unwrap()),
    ("the active segment replaced", |place| place.replace(&place.at("journal.redb"))),
    ("the active segment renamed", |place| {
        fs::rename(place.at("journal.redb"), place.at("journal.redb.bak")).unwrap();
    }),
    ("the active segment linked elsewhere and deleted", |place| {
        fs::hard_link(place.at("journal.redb"), place.aside()).unwrap();
        fs::remove_file(place.at("journal.redb")).unwrap();
    }),
    ("the sealed segments moved", |place| {
        fs::rename(place.at("segments"), place.aside()).unwrap();
    }),
    ("the sealed segments moved and made again empty", |place| {
        fs::rename(place.at("segments"), place.aside()).unwrap();
        fs::create_dir(place.at("segments")).unwrap();
    }),
    ("a sealed segment deleted", |place| fs::remove_file(place.sealed()).unwrap()),
    ("a sealed segment replaced", |place| place.replace(&place.sealed())),
];
/// It takes no records with it, so it is looked for at leisure.
const LOCK: Change =
    ("the lock deleted", |place| fs::remove_file(place.at("journal.lock")).unwrap());

fn assert_says_so(reason: &str, what: &str) {
    let is_said = reason.contains("was removed or changed while in use");
    assert!(is_said && reason.contains("put it back"), "{what}: {reason}");
}

fn assert_is_told(health: &JournalHealth, what: &str) {
    match health {
        JournalHealth::Refusing { cause: RefusalCause::FilesTaken, reason } => {
            assert_says_so(reason, what);
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_taken_away_acknowledges_nothing_more() {
    for (what, take) in TAKEN {
        let place = Place::new();
        let journal = place.journal().await;
        take(&place);
        for version in [10, 10, 11] {
            match journal.append(append(notes(1), version, &["b"])).await {
                Err(AppendError::Storage(reason)) => assert_says_so(&reason, what),
                other => panic!("{what}: {other:?}"),
            }
        }
        assert_is_told(&journal.health(), what);
        assert_eq!(journal.head().position, 10, "{what}");
        // Other than the sealed ones, what was acknowledged can still be read here.
        let first = journal.read(8, 100).await.unwrap();
        assert!(first.len() >= 2, "{what}");
        journal.close();
    }
}

#[tokio::test]
async fn what_is_taken_away_is_noticed_within_a_second_while_nothing_happens() {
    for (what, take) in TAKEN.into_iter().chain([LOCK]) {
        let place = Place::new();
        let journal = place.journal().await;
        let mut health = journal.watch_health();
        take(&place);
        let refuses = health.wait_for(|health| !health.is_accepting());
        let noticed = tokio::time::timeout(NOTICED_MAX, refuses).await;
        let health = noticed.unwrap_or_else(|_| panic!("{what}: nobody noticed")).unwrap().clone();
        assert_is_told(&health, what);
    }
}

#[tokio::test]
async fn not_even_what_was_acknowledged_before_is_acknowledged_again() {
    let place = Place::new();
    let journal = place.journal().await;
    let keyed = || {
        let command = Some(command("key", "key"));
        ai_factory_ports::journal::Append { command, ..append(notes(2), 0, &["a"]) }
    };
    journal.append(keyed()).await.unwrap();
    assert!(journal.append(keyed()).await.unwrap().repeated);
    fs::rename(place.data(), place.aside()).unwrap();
    assert!(matches!(journal.append(keyed()).await, Err(AppendError::Storage(_))));
    journal.close();
    // Put back, all of it is there, and perhaps what was refused: it was written.
    fs::rename(place.aside(), place.data()).unwrap();
    let journal = open(small(&place.data()));
    assert_eq!(journal.head().position, 11);
    assert!(journal.append(keyed()).await.unwrap().repeated);
}

#[tokio::test]
async fn what_is_no_part_of_the_journal_may_come_and_go() {
    let changes: [Change; 5] = [
        ("the catalog deleted", |place| {
            let _ = fs::remove_file(place.at("segments/catalog.redb"));
        }),
        ("a file among the segments", |place| {
            fs::write(place.at("segments/note"), "mine").unwrap();
        }),
        ("a file beside the journal", |place| fs::write(place.at("note"), "mine").unwrap()),
        ("a copy of the journal", |place| {
            fs::copy(place.at("journal.redb"), place.at("copy.redb")).unwrap();
        }),
        ("another name for the active segment", |place| {
            fs::hard_link(place.at("journal.redb"), place.aside()).unwrap();
        }),
    ];
    for (what, change) in changes {
        let place = Place::new();
        let journal = place.journal().await;
        change(&place);
        // Over the end of a segment.
        for version in 10..30 {
            let appended = journal.append(append(notes(1), version, &["b"])).await;
            assert_eq!(appended.unwrap().last, version + 1, "{what}");
        }
        assert_eq!(journal.health(), JournalHealth::Accepting, "{what}");
    }
}
