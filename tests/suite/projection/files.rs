//! The files: restarts, crashes, damage, rebuilding, snapshots.

use std::{path::Path, sync::Arc};

use ai_factory::projection::{Access, ProjectionError, Projections};
use ai_factory_ports::views::Views;
use ai_factory_schemas::answer::SnapshotLine;
use ai_factory_tail::Tail;
use proptest::prelude::*;

use super::fixture::{Kit, StillClock, answers, embedder, follow, open_over};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn dropped_and_rebuilt_or_restarted_anywhere_the_projections_are_equal(
        seed in any::<u64>(),
        lives in prop::collection::vec((1_usize..60, any::<bool>()), 1..5),
    ) {
        block_on(async {
            let kit = Kit::new();
            for (life, (steps, is_closed)) in lives.into_iter().enumerate() {
                let views = kit.open(Access::Write);
                kit.live(seed.wrapping_add(life as u64), steps / 2).await;
                views.catch_up().await.unwrap();
                kit.live(seed.wrapping_mul(31).wrapping_add(life as u64), steps / 2).await;
                if is_closed {
                    views.catch_up().await.unwrap();
                    views.close().await.unwrap();
                }
                // Dropped: what was not flushed is lost, as in a crash.
            }
            let views = kit.open(Access::Write);
            let reader = kit.open(Access::Read);
            // A second opinion: everything folded in memory, without any file.
            let elsewhere = tempfile::tempdir().unwrap();
            let settings = ai_factory::projection::ProjectionSettings {
                data_dir: elsewhere.path().join("none"),
                ..kit.settings()
            };
            let folded = open_over(&kit.journal, &settings, Access::Read);
            let (expected, digest) = (answers(&folded).await, folded.digest().await.unwrap());
            for views in [&views, &reader] {
                assert_eq!(answers(views).await, expected);
                assert_eq!(views.digest().await.unwrap(), digest);
            }
            let rebuilt = views.rebuild().await.unwrap();
            assert_eq!(rebuilt, digest.counts);
            assert_eq!(views.digest().await.unwrap(), digest);
            assert_eq!(answers(&views).await, expected);
            assert_eq!(answers(&reader).await, expected, "also beneath a reader");
        });
    }
}

async fn story(kit: &Kit) -> String {
    let views = kit.open(Access::Write);
    kit.live(42, 300).await;
    let answers = answers(&views).await;
    views.rebuild().await.unwrap();
    answers
}

fn damage(path: &Path, how: &str) {
    match how {
        "deleted" if path.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        "deleted" => std::fs::remove_file(path).unwrap(),
        "empty" => std::fs::write(path, b"").unwrap(),
        "cut" => {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }
        "hollow" => {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[4096..].fill(0xA5);
            std::fs::write(path, bytes).unwrap();
        }
        "a directory" => {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }
        _ => std::fs::write(path, b"garbage ".repeat(2048)).unwrap(),
    }
}

#[tokio::test]
async fn damaged_files_are_made_anew_and_a_reader_does_without_them() {
    let kit = Kit::new();
    let expected = story(&kit).await;
    let index = kit.dir.path().join("index/words");
    let segment = std::fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path());
    let segments: Vec<_> =
        segment.filter(|path| path.extension().is_some_and(|kind| kind == "store")).collect();
    assert!(!segments.is_empty());
    let mut damages = vec![(kit.dir.path().join("index"), "deleted")];
    damages.push((kit.dir.path().join("projections.redb"), "hollow"));
    damages.push((kit.dir.path().join("projections.redb"), "a directory"));
    damages.push((kit.dir.path().join("index/vectors"), "a directory"));
    for how in ["deleted", "empty", "cut", "garbage"] {
        damages.push((kit.dir.path().join("index/vectors"), how));
        damages.push((kit.dir.path().join("projections.redb"), how));
        damages.push((index.join("meta.json"), how));
        damages.push((index.join("*.store"), how));
        damages.push((index.join("*.idx"), how));
    }
    for (path, how) in damages {
        let path = if path.file_name().unwrap().to_str().unwrap().starts_with('*') {
            let mut files = std::fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path());
            files.find(|file| file.extension() == path.extension()).unwrap()
        } else {
            path
        };
        damage(&path, how);
        let reader = kit.open(Access::Read);
        assert!(answers(&reader).await == expected, "reader, {path:?} {how}");
        drop(reader);
        let views = kit.open(Access::Write);
        assert!(answers(&views).await == expected, "{path:?} {how}");
        views.rebuild().await.unwrap();
    }
}

#[tokio::test]
async fn projections_of_another_journal_or_of_a_longer_one_are_dropped() {
    let kit = Kit::new();
    story(&kit).await;
    for journal in [Arc::new(kit.journal.fork(100)), Kit::new().journal] {
        let empty = tempfile::tempdir().unwrap();
        let fresh = ai_factory::projection::ProjectionSettings::new(empty.path());
        let expected = answers(&open_over(&journal, &fresh, Access::Write)).await;
        let views = open_over(&journal, &kit.settings(), Access::Write);
        assert_eq!(answers(&views).await, expected);
    }
}

#[tokio::test]
async fn a_second_writer_is_refused() {
    let kit = Kit::new();
    let _first = kit.open(Access::Write);
    let second = Projections::open(
        kit.settings(),
        Tail::new(kit.journal.clone()),
        Arc::new(StillClock),
        embedder(),
        Access::Write,
    );
    assert!(matches!(second, Err(ProjectionError::InUse { .. })));
}

#[tokio::test]
async fn checkpoints_of_others_survive_a_close_and_a_rebuild() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    assert_eq!(views.checkpoint("relay").unwrap(), 0);
    views.note_checkpoint("relay", 7);
    assert_eq!(views.checkpoint("relay").unwrap(), 7);
    views.close().await.unwrap();
    drop(views);
    let views = kit.open(Access::Write);
    assert_eq!(views.checkpoint("relay").unwrap(), 7);
    views.note_checkpoint("relay", 9);
    views.rebuild().await.unwrap();
    drop(views);
    assert_eq!(kit.open(Access::Write).checkpoint("relay").unwrap(), 9);
}

#[tokio::test]
async fn the_follower_keeps_up_without_a_question() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let following = follow(&views);
    let file = kit.dir.path().join("index/words/meta.json");
    let before = std::fs::read(&file).unwrap();
    // Ends when a flush that nobody asked for has reached the disk.
    while std::fs::read(&file).unwrap() == before {
        kit.note("again and again", &[]).await;
        tokio::task::yield_now().await;
    }
    following.abort();
}

#[tokio::test]
async fn a_snapshot_holds_the_newest_things_and_never_replaces_another() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.live(7, 400).await;
    kit.run("print(1)", "1", "").await;
    let note = kit.note("last", &["tag"]).await;

    let mut paths = vec![];
    for limit in [1, 50, 2000] {
        let answer = views.snapshot(limit).await.unwrap();
        assert_eq!(answer.status, "ok");
        let text = std::fs::read_to_string(&answer.snapshot).unwrap();
        let lines: Vec<SnapshotLine> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(if limit < 2000 { lines.len() == limit } else { lines.len() > 50 });
        assert!(lines.is_sorted_by(|a, b| a.id < b.id));
        let last = lines.last().unwrap();
        assert_eq!((last.id, &*last.task_type, &*last.prompt), (note, "memory", "last"));
        if limit > 1 {
            let run = &lines[lines.len() - 2];
            assert_eq!((&*run.task_type, &*run.prompt), ("run", "print(1)"));
            assert_eq!(run.response["stdout"], "1");
        }
        assert!(!paths.contains(&answer.snapshot));
        paths.push(answer.snapshot);
    }
    let names: Vec<_> =
        paths.iter().map(|path| Path::new(path).file_name().unwrap().to_str().unwrap()).collect();
    let stamp = "snapshot-20260528T202640Z";
    assert_eq!(
        names,
        [format!("{stamp}.jsonl"), format!("{stamp}-2.jsonl"), format!("{stamp}-3.jsonl")]
    );
    let left = std::fs::read_dir(kit.dir.path().join("snapshots")).unwrap().count();
    assert_eq!(left, 3, "no temporary file is left");
}
