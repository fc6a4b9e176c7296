//! Journals that are not as they were written, and places where no journal can be.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use ai_factory::journal::{
    FaultKind, JournalReader, JournalSettings, OpenJournalError, RedbJournal, VerifyError, verify,
};
use ai_factory_ports::journal::{Append, Head, Journal, ReadError};
use ai_factory_schemas::{
    envelope::EventDraft,
    id::{RunId, SessionId},
    run::{EndedBy, RunStatus},
    session::StepFinished,
    text::{Blob, BlobHash, Text},
};
use redb::{Builder, ConcurrencyMode, Database, ReadableTable, TableDefinition};
use uuid::Uuid;

use super::{open, small};
use crate::contract::journal::{append, command, note, notes};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
pub(super) const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Twenty records: two sealed segments of eight, four in the active one.
async fn twenty(dir: &Path) -> Head {
    let journal = open(small(dir));
    for n in 0..20u64 {
        let blob = format!("blob {n}").into_bytes();
        let blobs = vec![Blob::new(blob)];
        let key = format!("key {n}");
        let one = append(notes(u128::from(n % 2)), n / 2, &["some text"]);
        journal.append(Append { command: Some(command(&key, &key)), blobs, ..one }).await.unwrap();
    }
    journal.close();
    journal.head()
}

pub(super) fn edit(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db: Database =
        Builder::new().set_concurrency_mode(ConcurrencyMode::SingleWriter).open(path).unwrap();
    let txn = db.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
    db.close().unwrap();
}

/// The file that holds `position`.
fn file(dir: &Path, position: u64) -> std::path::PathBuf {
    match position {
        17.. => dir.join("journal.redb"),
        _ => dir.join(format!("segments/journal-{:020}.redb", (position - 1) / 8 * 8 + 1)),
    }
}

/// The chunk at `position`: one record, since these were appended one after the other.
fn record(txn: &redb::WriteTransaction, position: u64) -> Vec<u8> {
    txn.open_table(RECORDS).unwrap().get(position).unwrap().unwrap().value().to_vec()
}

fn put(txn: &redb::WriteTransaction, position: u64, bytes: &[u8]) {
    txn.open_table(RECORDS).unwrap().insert(position, bytes).unwrap();
}

fn fault(dir: &Path, expected: Option<Head>) -> (u64, FaultKind) {
    match verify(dir, expected) {
        Err(VerifyError::Fault(fault)) => (fault.position, fault.kind),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn verify_names_the_first_bad_position_and_what_is_wrong_there() {
    type Change = fn(&redb::WriteTransaction, u64);
    let changes: [(&str, Change, u64, FaultKind); 8] = [
        (
            "a changed word",
            |txn, at| {
                let mut chunk = record(txn, at);
                let text = chunk.windows(9).position(|window| window == b"some text").unwrap();
                chunk[text + 1] = b'a';
                put(txn, at, &chunk);
            },
            0,
            FaultKind::Altered,
        ),
        ("rubbish", |txn, at| put(txn, at, b"rubbish"), 0, FaultKind::Undecodable),
        (
            "a record taken out",
            |txn, at| drop(txn.open_table(RECORDS).unwrap().remove(at).unwrap()),
            0,
            FaultKind::Missing,
        ),
        (
            "a record taken out and the next one in its place",
            |txn, at| put(txn, at, &record(txn, at + 1)),
            0,
            FaultKind::Missing,
        ),
        (
            "a record put in before another",
            |txn, at| put(txn, at + 1, &record(txn, at)),
            1,
            FaultKind::Inserted,
        ),
        (
            "a version that its chunk has as another one",
            |txn, at| {
                let mut chunk = record(txn, at);
                // Behind two counts, an end and a stream.
                chunk[8 + 4 + 17 + 7] += 1;
                put(txn, at, &chunk);
            },
            0,
            FaultKind::Index,
        ),
        (
            "a command for what is not there",
            |txn, at| {
                let mut chunk = record(txn, at);
                // The last byte of the version that the command's effect names.
                let effect = 8 + 29 + 2 + format!("key {}", at - 1).len() + 73;
                chunk[effect - 1] += 1;
                put(txn, at, &chunk);
            },
            0,
            FaultKind::Index,
        ),
        (
            "an altered blob",
            |txn, at| {
                let hash = BlobHash::of(format!("blob {}", at - 1).as_bytes());
                txn.open_table(BLOBS).unwrap().insert(&hash.0, b"other".as_slice()).unwrap();
            },
            0,
            FaultKind::Blob,
        ),
    ];
    for at in [3, 11, 18] {
        for (what, change, later, kind) in changes {
            let dir = tempfile::tempdir().unwrap();
            let head = twenty(dir.path()).await;
            assert_eq!(verify(dir.path(), Some(head)).unwrap().events, 20);
            edit(&file(dir.path(), at), |txn| change(txn, at));
            let (position, found) = fault(dir.path(), None);
            assert_eq!(found, kind, "{what} at {at}: {position}");
            // A blob has no position of its own: that of its segment is named.
            let expected = if kind == FaultKind::Blob { (at - 1) / 8 * 8 + 1 } else { at + later };
            assert_eq!(position, expected, "{what} at {at}");
        }
    }
}

#[tokio::test]
async fn verify_misses_a_segment_a_tail_and_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let head = twenty(dir.path()).await;
    let segment = file(dir.path(), 9);
    let aside = dir.path().join("aside");
    fs::rename(&segment, &aside).unwrap();
    assert_eq!(fault(dir.path(), None), (9, FaultKind::Missing));
    fs::rename(&aside, &segment).unwrap();
    verify(dir.path(), Some(head)).unwrap();

    // Somebody who cuts the tail off cleanly is only found out by a head kept elsewhere.
    edit(&file(dir.path(), 20), |txn| {
        txn.open_table(RECORDS).unwrap().remove(20).unwrap();
    });
    assert_eq!(verify(dir.path(), None).unwrap().events, 19);
    assert_eq!(fault(dir.path(), Some(head)), (20, FaultKind::Missing));
    let other = Head { position: 5, ..head };
    assert_eq!(fault(dir.path(), Some(other)), (5, FaultKind::Altered));
}

#[tokio::test]
async fn verify_misses_a_blob_that_a_record_refers_to() {
    let dir = tempfile::tempdir().unwrap();
    let journal =
        open(JournalSettings { segment_events_max: 1, ..JournalSettings::new(dir.path()) });
    let (text, blob) = Text::new("long ".repeat(20_000));
    let session = |n| SessionId(Uuid::from_u128(n)).into();
    let finished = || {
        let event = StepFinished {
            step: 0,
            run_id: RunId(Uuid::from_u128(1)),
            status: RunStatus::Success,
            exit_code: 0,
            ended_by: EndedBy::Exit,
            stdout: text.clone(),
            stderr: Text::default(),
            duration_ms: 1,
            workspace: None,
        };
        EventDraft { event: event.into(), ..note("") }
    };
    let one = |n, blobs| Append {
        stream: session(n),
        expected: 0,
        events: vec![finished()],
        command: None,
        blobs,
    };
    journal.append(one(1, Vec::from_iter(blob))).await.unwrap();
    // The same text once more: its blob is in an earlier segment.
    journal.append(one(2, Vec::new())).await.unwrap();
    journal.close();
    assert_eq!(verify(dir.path(), None).unwrap().blobs, 1);
    let first = dir.path().join("segments/journal-00000000000000000001.redb");
    edit(&first, |txn| txn.open_table(BLOBS).unwrap().retain(|_, _| false).unwrap());
    assert_eq!(fault(dir.path(), None), (1, FaultKind::Blob));
}

/// Whatever byte of whatever file is changed: verify comes to an end, and what it passes reads as
/// before.
#[tokio::test]
async fn verify_survives_any_changed_byte() {
    let dir = tempfile::tempdir().unwrap();
    let head = twenty(dir.path()).await;
    let before = records(dir.path()).unwrap();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..60 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let path = file(dir.path(), [1, 9, 17][round % 3]);
        let original = fs::read(&path).unwrap();
        let mut bytes = original.clone();
        let at = usize::try_from(random >> 33).unwrap() % bytes.len();
        bytes[at] ^= 1 << (round % 8);
        fs::write(&path, &bytes).unwrap();
        let verified = verify(dir.path(), Some(head)).is_ok();
        // Reading may fail as well, but never by a panic.
        let read = JournalReader::open(dir.path()).map(|reader| reader.read_sync(0, 100));
        if verified {
            let read = read.unwrap().unwrap();
            let read: Vec<_> = read.into_iter().map(|raw| raw.bytes.to_vec()).collect();
            assert_eq!(read, before, "byte {at} of {}", path.display());
        }
        fs::write(&path, &original).unwrap();
    }
    verify(dir.path(), Some(head)).unwrap();
}

fn records(dir: &Path) -> Result<Vec<Vec<u8>>, ReadError> {
    let reader = JournalReader::open(dir).unwrap();
    Ok(reader.read_sync(0, 100)?.into_iter().map(|raw| raw.bytes.to_vec()).collect())
}

#[tokio::test]
async fn verify_finds_a_catalog_that_says_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let head = twenty(dir.path()).await;
    // Opened once more, so that both sealed segments are entered however fast the first close was.
    let journal = open(small(dir.path()));
    let path = dir.path().join("segments/catalog.redb");
    journal.close();
    let original = fs::read(&path).unwrap();
    let changes: [fn(&redb::WriteTransaction); 4] = [
        |txn| drop(txn.open_table(commands_table()).unwrap().remove("key 0").unwrap()),
        |txn| drop(txn.open_table(streams_table()).unwrap().pop_first().unwrap()),
        |txn| drop(txn.open_table(commands_table()).unwrap().insert("forged", &[0; 73]).unwrap()),
        |txn| {
            let mut table = txn.open_table(streams_table()).unwrap();
            let (key, mut part) = {
                let (key, part) = table.first().unwrap().unwrap();
                (*key.value(), part.value().to_vec())
            };
            part[7] += 1;
            table.insert(&key, part.as_slice()).unwrap();
        },
    ];
    for change in changes {
        edit(&path, change);
        assert_eq!(fault(dir.path(), Some(head)).1, FaultKind::Index);
        fs::write(&path, &original).unwrap();
        verify(dir.path(), Some(head)).unwrap();
    }
    // It is disposable.
    fs::remove_file(&path).unwrap();
    verify(dir.path(), Some(head)).unwrap();
}

fn streams_table() -> TableDefinition<'static, &'static [u8; 25], &'static [u8]> {
    TableDefinition::new("streams")
}

fn commands_table() -> TableDefinition<'static, &'static str, &'static [u8; 73]> {
    TableDefinition::new("commands")
}

#[tokio::test]
async fn an_unreadable_record_is_named_by_the_one_who_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    twenty(dir.path()).await;
    edit(&file(dir.path(), 11), |txn| {
        let mut chunk = record(txn, 11);
        let text = chunk.windows(9).position(|window| window == b"some text").unwrap();
        chunk[text] = b'"';
        put(txn, 11, &chunk);
    });
    let journal = open(small(dir.path()));
    let error = journal.load(notes(0), 0).await.unwrap_err();
    assert!(matches!(error, ReadError::Undecodable { position: 11, .. }), "{error:?}");
    // Others are not touched by it.
    assert_eq!(journal.load(notes(1), 0).await.unwrap().len(), 10);
}

#[tokio::test]
async fn a_journal_from_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    twenty(dir.path()).await;
    let format = |number: u64| {
        edit(&dir.path().join("journal.redb"), |txn| {
            let mut meta = txn.open_table(META).unwrap();
            meta.insert("format", number.to_be_bytes().as_slice()).unwrap();
        });
    };
    format(2);
    let error = RedbJournal::open(small(dir.path())).map(drop).unwrap_err();
    assert!(matches!(error, OpenJournalError::NewerFormat { found: 2, known: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("newer ai-factory"), "{error}");
    let error = JournalReader::open(dir.path()).map(drop).unwrap_err();
    assert!(matches!(error, OpenJournalError::NewerFormat { .. }), "{error:?}");
    format(1);
    assert_eq!(verify(dir.path(), None).unwrap().events, 20);
}

#[tokio::test]
async fn a_second_writer_is_told_who_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(small(dir.path()));
    let error = RedbJournal::open(small(dir.path())).map(drop).unwrap_err();
    let own = std::process::id();
    assert!(matches!(error, OpenJournalError::InUse { pid, .. } if pid == own), "{error:?}");
    assert!(error.to_string().contains(&own.to_string()), "{error}");
    first.append(append(notes(1), 0, &["a"])).await.unwrap();
    drop(first);
    assert_eq!(open(small(dir.path())).head().position, 1);
}

#[test]
fn what_is_not_a_journal_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let error = JournalReader::open(dir.path()).map(drop).unwrap_err();
    assert!(matches!(error, OpenJournalError::Missing(_)), "{error:?}");
    let path = dir.path().join("journal.redb");
    for bytes in [b"".as_slice(), b"my diary", &[7; 8192]] {
        fs::write(&path, bytes).unwrap();
        let error = RedbJournal::open(small(dir.path())).map(drop).unwrap_err();
        assert!(matches!(error, OpenJournalError::NotAJournal(_)), "{error:?}");
        let error = JournalReader::open(dir.path()).map(drop).unwrap_err();
        assert!(matches!(error, OpenJournalError::NotAJournal(_)), "{error:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::remove_file(&path).unwrap();
    // A redb file of somebody else.
    let theirs: TableDefinition<'_, &str, &str> = TableDefinition::new("theirs");
    let db = Database::create(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(theirs).unwrap().insert("a", "b").unwrap();
    txn.commit().unwrap();
    db.close().unwrap();
    let error = RedbJournal::open(small(dir.path())).map(drop).unwrap_err();
    assert!(matches!(error, OpenJournalError::NotAJournal(_)), "{error:?}");

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = RedbJournal::open(JournalSettings::new(&file)).map(drop).unwrap_err();
    assert!(matches!(error, OpenJournalError::Storage { .. }), "{error:?}");
}

const FORBIDDEN: &str = "AI_FACTORY_TEST_JOURNAL_FORBIDDEN";

/// Not a test of its own: does nothing unless it runs as the child.
#[test]
fn as_a_child_without_rights_it_opens_nothing() {
    let Ok(dir) = std::env::var(FORBIDDEN) else { return };
    let error = RedbJournal::open(JournalSettings::new(&dir)).map(drop).unwrap_err();
    assert!(matches!(error, OpenJournalError::Permission(_)), "{error:?}");
    assert!(error.to_string().contains(&dir), "{error}");
    let error = JournalReader::open(&dir).map(drop).unwrap_err();
    assert!(matches!(error, OpenJournalError::Permission(_)), "{error:?}");
}

#[test]
fn a_directory_without_permission_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let forbidden = dir.path().join("forbidden");
    fs::create_dir(&forbidden).unwrap();
    drop(open(JournalSettings::new(&forbidden)));
    fs::set_permissions(&forbidden, fs::Permissions::from_mode(0o000)).unwrap();
    let child = |program: &Path| {
        let mut child = Command::new(program);
        child
            .args(["--exact", "journal::faults::as_a_child_without_rights_it_opens_nothing"])
            .env(FORBIDDEN, &forbidden);
        // Root may do anything: then the child is nobody.
        if rustix::process::geteuid().is_root() {
            child.uid(65_534).gid(65_534).current_dir("/");
        }
        child.output()
    };
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = std::env::current_exe().unwrap();
    let output = match child(&program) {
        // The program lies where nobody may go: a copy lies beside.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let copy = dir.path().join("program");
            fs::copy(&program, &copy).unwrap();
            child(&copy).unwrap()
        }
        started => started.unwrap(),
    };
    fs::set_permissions(&forbidden, fs::Permissions::from_mode(0o755)).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
