//! The files of a spool: names, modes, what is not the spool's, damage.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
};

use ai_factory_ports::metrics::MetricsRegistry;
use ai_factory_schemas::time::Timestamp;

use super::*;

/// A clock that stands where the test puts it.
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

const NOON: i64 = 1_770_000_000_000_000;

fn clock() -> Arc<HandClock> {
    Arc::new(HandClock(AtomicI64::new(NOON)))
}

fn open(dir: &Path, clock: &Arc<HandClock>) -> Arc<Spool> {
    Spool::open(dir.join("spool"), Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// The samples of the spool's metrics.
fn samples(spool: &Spool) -> Vec<String> {
    let text = MetricsRegistry::of(&[spool]).encode().unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("spool")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn only_its_owner_can_read_what_it_holds() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    fs::create_dir(dir.path().join("spool")).unwrap();
    let spool = open(dir.path(), &clock);
    let hash = BlobHash::of(b"secret");
    spool.put(hash, 6, 0, b"sec".to_vec()).await.unwrap();
    let part = dir.path().join(format!("spool/{hash}.6.part"));
    assert_eq!((mode(&part), fs::metadata(&part).unwrap().len()), (0o600, 3));
    spool.put(hash, 6, 3, b"ret".to_vec()).await.unwrap();
    assert_eq!(names(dir.path()), [hash.to_string()]);
    assert_eq!(mode(&dir.path().join("spool").join(hash.to_string())), 0o600);
    assert_eq!(mode(&dir.path().join("spool")), 0o700);
}

#[tokio::test]
async fn what_it_did_not_name_is_neither_used_nor_removed() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let place = dir.path().join("spool");
    fs::create_dir(&place).unwrap();
    let (hash, linked) = (BlobHash::of(b"a"), BlobHash::of(b"outside"));
    let upper = hash.to_string().to_uppercase();
    let strangers = [
        ".hidden".to_owned(),
        format!("{hash}.old"),
        format!("{hash}.05.part"),
        format!("{hash}.6.part.part"),
        "notes.part".to_owned(),
        upper,
    ];
    for name in &strangers {
        fs::write(place.join(name), "a").unwrap();
    }
    fs::create_dir(place.join(format!("{hash}.9.part"))).unwrap();
    fs::write(dir.path().join("outside"), "outside").unwrap();
    symlink(dir.path().join("outside"), place.join(linked.to_string())).unwrap();
    let before = names(dir.path());
    let spool = open(dir.path(), &clock);
    assert_eq!(spool.has(vec![hash, linked]).await.unwrap(), [false, false]);
    clock.0.fetch_add(i64::MAX / 2, Ordering::SeqCst);
    assert_eq!(spool.content(hash).await.unwrap(), None);
    assert_eq!(names(dir.path()), before);
    assert!(samples(&spool).contains(&"ai_factory_spool_bytes 0".to_owned()));
}

#[tokio::test]
async fn a_link_in_the_place_of_its_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), dir.path().join("spool")).unwrap();
    let error = Spool::open(dir.path().join("spool"), clock()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
}

#[tokio::test]
async fn a_damaged_content_is_missing_and_can_be_sent_again() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let spool = open(dir.path(), &clock);
    let hash = BlobHash::of(b"whole");
    spool.put(hash, 5, 0, b"whole".to_vec()).await.unwrap();
    fs::write(dir.path().join("spool").join(hash.to_string()), "whale").unwrap();
    assert_eq!(spool.content(hash).await.unwrap(), None);
    assert_eq!(names(dir.path()), [""; 0]);
    assert!(spool.put(hash, 5, 0, b"whole".to_vec()).await.unwrap().complete);
    fs::remove_file(dir.path().join("spool").join(hash.to_string())).unwrap();
    assert_eq!(spool.content(hash).await.unwrap(), None);
    let dropped = "ai_factory_spool_dropped_total{reason=\"damaged\"} 2".to_owned();
    assert!(samples(&spool).contains(&dropped), "{:?}", samples(&spool));
}

#[tokio::test]
async fn what_is_in_use_and_what_expired_is_counted() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let content = vec![7; 10_000];
    let spool = open(dir.path(), &clock);
    spool.put(BlobHash::of(&content), 10_000, 0, content).await.unwrap();
    spool.put(BlobHash::of(b"x"), 1, 0, b"x".to_vec()).await.unwrap();
    let in_use = format!("ai_factory_spool_bytes {}", 10_000 + SPOOL_CONTENT_BYTES_MIN);
    assert!(samples(&spool).contains(&in_use), "{:?}", samples(&spool));
    // The age goes on while no process has it open.
    drop(spool);
    clock.0.fetch_add(i64::try_from(SPOOL_AGE_MAX.as_micros()).unwrap(), Ordering::SeqCst);
    let spool = open(dir.path(), &clock);
    assert_eq!(names(dir.path()), [""; 0]);
    let expired = "ai_factory_spool_dropped_total{reason=\"expired\"} 2".to_owned();
    assert!(samples(&spool).contains(&expired), "{:?}", samples(&spool));
    assert!(samples(&spool).contains(&"ai_factory_spool_bytes 0".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_expires_goes_without_anybody_asking() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let spool = open(dir.path(), &clock);
    spool.put(BlobHash::of(b"x"), 1, 0, b"x".to_vec()).await.unwrap();
    clock.0.fetch_add(i64::try_from(SPOOL_AGE_MAX.as_micros()).unwrap(), Ordering::SeqCst);
    let sweeping = spool.expire_regularly();
    let watching = async {
        while !names(dir.path()).is_empty() {
            tokio::time::advance(SWEEP_INTERVAL).await;
        }
    };
    tokio::select! {
        () = sweeping => {}
        () = watching => {}
    }
    assert_eq!(names(dir.path()), [""; 0]);
}

#[tokio::test]
async fn another_process_knows_the_declared_size_and_keeps_one_file_of_each_content() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let content = vec![7; 10_000];
    let hash = BlobHash::of(&content);
    let spool = open(dir.path(), &clock);
    spool.put(hash, 10_000, 0, content[..9].to_vec()).await.unwrap();
    let whole = "ai_factory_spool_bytes 10000".to_owned();
    assert!(samples(&spool).contains(&whole), "{:?}", samples(&spool));
    drop(spool);
    // More than was declared, and a second part of another size.
    let place = dir.path().join("spool");
    fs::write(place.join(format!("{}.2.part", BlobHash::of(b"x"))), "long").unwrap();
    fs::write(place.join(format!("{hash}.{}.part", 1)), "").unwrap();
    let spool = open(dir.path(), &clock);
    assert_eq!(names(dir.path()).len(), 1);
    spool.release(vec![hash]).await.unwrap();
    spool.put(hash, 10_000, 0, content).await.unwrap();
    drop(spool);
    fs::write(place.join(format!("{hash}.10000.part")), "part").unwrap();
    let spool = open(dir.path(), &clock);
    assert_eq!(names(dir.path()), [hash.to_string()], "the complete one counts");
    assert!(samples(&spool).contains(&whole), "{:?}", samples(&spool));
}

#[tokio::test]
async fn a_part_whose_file_is_gone_can_be_sent_again() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
    let spool = open(dir.path(), &clock);
    let hash = BlobHash::of(b"whole");
    spool.put(hash, 5, 0, b"wh".to_vec()).await.unwrap();
    fs::remove_file(dir.path().join(format!("spool/{hash}.5.part"))).unwrap();
    let refused = spool.put(hash, 5, 2, b"ole".to_vec()).await.unwrap_err();
    assert!(refused.to_string().contains("again from offset 0"), "{refused}");
    assert!(spool.put(hash, 5, 0, b"whole".to_vec()).await.unwrap().complete);
}
