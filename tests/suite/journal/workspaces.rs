//! What `verify` finds in the files of sessions.

use std::path::Path;

use ai_factory::journal::{FaultKind, JournalSettings, VerifyError, verify};
use ai_factory_ports::journal::{Append, Journal as _};
use ai_factory_schemas::{
    envelope::EventDraft,
    id::{RunId, SessionId},
    plan::TaskType,
    run::{EndedBy, RunStatus},
    session::{SessionOpened, StepFinished},
    text::{Blob, BlobHash, Text},
    workspace::{
        ChangeList, FileChange, WorkspaceEnd, WorkspaceFile, WorkspaceManifest, WorkspaceRef,
    },
};
use uuid::Uuid;

use super::{
    faults::{BLOBS, edit},
    open,
};
use crate::contract::journal::note;

fn file(content: &str) -> WorkspaceFile {
    WorkspaceFile {
        blob: BlobHash::of(content.as_bytes()),
        bytes: content.len() as u64,
        executable: false,
    }
}

fn blob(content: &str) -> Blob {
    Blob::new(content.as_bytes().to_vec())
}

/// The opening of a session on these files.
fn opened(manifest: &Blob, files: u32) -> EventDraft {
    let opened = SessionOpened {
        request_id: Uuid::nil().into(),
        goal: "g".to_owned(),
        task_type: TaskType::General,
        submitted_by: None,
        workspace: Some(WorkspaceRef { blob: manifest.hash(), files, bytes: 7 }),
        check: None,
        protect: Vec::new(),
        model: None,
    };
    EventDraft { event: opened.into(), ..note("") }
}

/// A session with a manifest of one file, and a step with so many changes that their list is a
/// blob. Returns that list's hash.
async fn session(dir: &Path) -> BlobHash {
    let journal = open(JournalSettings { segment_events_max: 1, ..JournalSettings::new(dir) });
    let manifest = WorkspaceManifest { files: [("in.txt".to_owned(), file("came in"))].into() };
    let listed = manifest.to_blob().unwrap();
    let change = |n: u32| {
        let content = if n == 7 { "seventh" } else { "other" };
        FileChange { path: format!("out/{n}"), file: Some(file(content)) }
    };
    let (changes, list) = ChangeList::new((0..500).map(change).collect()).unwrap();
    let finished = StepFinished {
        step: 0,
        run_id: RunId(Uuid::nil()),
        status: RunStatus::Success,
        exit_code: 0,
        ended_by: EndedBy::Exit,
        stdout: Text::default(),
        stderr: Text::default(),
        duration_ms: 1,
        workspace: Some(WorkspaceEnd { changes: Some(changes), ..WorkspaceEnd::default() }),
    };
    let list = list.unwrap();
    let hash = list.hash();
    let appends = [
        (0, opened(&listed, 1), vec![blob("came in"), listed]),
        (
            1,
            EventDraft { event: finished.into(), ..note("") },
            vec![list, blob("seventh"), blob("other")],
        ),
    ];
    for (expected, event, blobs) in appends {
        let stream = SessionId(Uuid::from_u128(1)).into();
        let append = Append { stream, expected, events: vec![event], command: None, blobs };
        journal.append(append).await.unwrap();
    }
    journal.close();
    hash
}

fn fault(dir: &Path) -> (u64, FaultKind, String) {
    match verify(dir, None) {
        Err(VerifyError::Fault(fault)) => (fault.position, fault.kind, fault.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn verify_names_the_file_and_the_record_that_needs_it() {
    for (content, position, words) in [
        ("came in", 1, "the file \"in.txt\""),
        ("seventh", 2, "the file \"out/7\""),
        ("", 2, "the list of changed files"),
    ] {
        for (is_altered, word) in [(true, "is altered"), (false, "is missing")] {
            let dir = tempfile::tempdir().unwrap();
            let list = session(dir.path()).await;
            assert_eq!(verify(dir.path(), None).unwrap().blobs, 5);
            let hash = if content.is_empty() { list } else { BlobHash::of(content.as_bytes()) };
            let segment = dir.path().join(format!("segments/journal-{position:020}.redb"));
            edit(&segment, |txn| {
                let mut blobs = txn.open_table(BLOBS).unwrap();
                let mut bytes = blobs.remove(&hash.0).unwrap().unwrap().value().to_vec();
                bytes[0] ^= 1;
                if is_altered {
                    blobs.insert(&hash.0, bytes.as_slice()).unwrap();
                }
            });
            let (found, kind, told) = fault(dir.path());
            assert_eq!((found, kind), (position, FaultKind::Blob), "{told}");
            assert!(
                told.contains(words) && told.contains(word.trim_start_matches("is ")),
                "{told}"
            );
            assert!(told.contains(&hash.to_string()), "{told}");
            assert!(told.starts_with(&format!("position {position} refers to ")), "{told}");
        }
    }
}

#[tokio::test]
async fn a_file_with_the_bytes_of_a_list_does_not_stand_for_that_list() {
    let dir = tempfile::tempdir().unwrap();
    let settings = JournalSettings { segment_events_max: 1, ..JournalSettings::new(dir.path()) };
    let journal = open(settings);
    let inner = WorkspaceManifest { files: [("in.txt".to_owned(), file("came in"))].into() };
    let inner = inner.to_blob().unwrap();
    let text = std::str::from_utf8(inner.bytes()).unwrap();
    let outer = WorkspaceManifest { files: [("list.json".to_owned(), file(text))].into() };
    let outer = outer.to_blob().unwrap();
    // The first session has the list as a file, the second has it as its list.
    for (session, event, blobs) in [
        (1, opened(&outer, 1), vec![inner.clone(), outer]),
        (2, opened(&inner, 1), vec![blob("came in")]),
    ] {
        let stream = SessionId(Uuid::from_u128(session)).into();
        let append = Append { stream, expected: 0, events: vec![event], command: None, blobs };
        journal.append(append).await.unwrap();
    }
    journal.close();
    assert_eq!(verify(dir.path(), None).unwrap().events, 2);
    edit(&dir.path().join("segments/journal-00000000000000000002.redb"), |txn| {
        let mut blobs = txn.open_table(BLOBS).unwrap();
        blobs.remove(&BlobHash::of(b"came in").0).unwrap().unwrap();
    });
    let (position, kind, told) = fault(dir.path());
    assert_eq!((position, kind), (2, FaultKind::Blob), "{told}");
    assert!(told.contains("\"in.txt\"") && told.contains("missing"), "{told}");
}
