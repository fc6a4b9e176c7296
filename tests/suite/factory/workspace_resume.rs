//! Sessions with files and a check that were interrupted, and files that are lost.

use std::collections::BTreeSet;

use ai_factory_schemas::{
    envelope::EventDraft, session::SessionEvent, session_files::SessionFiles, text::Blob,
};

use super::{
    harness::*,
    workspace::{contents, records, steps, text},
};

/// The blobs that texts refer to, and those that such blobs refer to.
pub(super) fn blobs(factory: &TestFactory, records: &[Recorded]) -> Vec<Blob> {
    let mut open: Vec<String> =
        records.iter().map(|record| record.event.data().unwrap().clone()).collect();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some(text) = open.pop() {
        for word in text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == 64) {
            let hash: BlobHash = word.parse().unwrap();
            if seen.insert(hash)
                && let Some(bytes) = factory.journal.blob_sync(hash).unwrap()
            {
                open.push(String::from_utf8_lossy(&bytes).into_owned());
                found.push(Blob::new(bytes));
            }
        }
    }
    found
}

/// A journal that has these records and blobs.
pub(super) async fn journal_of(records: &[Recorded], mut blobs: Vec<Blob>) -> TempDir {
    let dir = TempDir::new().unwrap();
    let journal = RedbJournal::open(JournalSettings::new(dir.path())).unwrap();
    for record in records {
        let Recorded { stream, version, id, time, event, trail, .. } = record.clone();
        let append = Append {
            stream,
            expected: version - 1,
            events: vec![EventDraft { id, time, event, trail }],
            command: None,
            blobs: std::mem::take(&mut blobs),
        };
        journal.append(append).await.unwrap();
    }
    journal.close();
    dir
}

/// A factory over it.
async fn over(records: &[Recorded], blobs: Vec<Blob>, repeatable: bool) -> TestFactory {
    TestFactory::start_with(limits(), repeatable, journal_of(records, blobs).await).await
}

fn asked() -> Goal {
    let programs =
        ["add log  one\nwrite tests/t.py cheat\ndelete old", "add log  two\nwrite out x"];
    let given = vec![text("log", "zero"), text("tests/t.py", "honest"), text("old", "")];
    let check = "has log zero one two\nhas tests/t.py honest\nwrite litter y";
    Goal { protect: vec!["tests/**".to_owned()], ..steps(&programs, given, Some(check)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_recorded_last_the_files_after_a_resumption_are_those_of_a_whole_run() {
    let factory = TestFactory::start().await;
    let answer: SessionAnswer = factory.call(operation::SUPERVISOR_RUN, &asked()).await.unwrap();
    assert_eq!(answer.status, SessionStatus::Success, "{answer:?}");
    let which = SessionSelector::id(answer.session_id);
    let whole: SessionFiles = factory.call(operation::SUPERVISOR_FILES, &which).await.unwrap();
    assert_eq!(contents(&factory, &whole).await["log"], "zero one two");
    let records = records(&factory);
    let blobs = blobs(&factory, &records);
    assert!(records.len() > 20, "{}", records.len());
    for upto in 1..records.len() {
        let factory = over(&records[..upto], blobs.clone(), true).await;
        let mut events = factory.events().await;
        wait_for(&mut events, "session.concluded").await;
        let story: SessionStory =
            factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
        assert_eq!(story.row.status.as_str(), "success", "{upto}: {:?}", story.reason);
        let resumed: SessionFiles =
            factory.call(operation::SUPERVISOR_FILES, &which).await.unwrap();
        assert_eq!(resumed, whole, "after {upto}: {}", records[upto - 1].event.name());
        assert_eq!(story.changed_files.as_deref(), Some(&whole.changes[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_check_is_repeated_without_a_decision_where_a_step_waits_for_one() {
    let factory = TestFactory::start().await;
    let answer: SessionAnswer = factory.call(operation::SUPERVISOR_RUN, &asked()).await.unwrap();
    let which = SessionSelector::id(answer.session_id);
    let records = records(&factory);
    let blobs = blobs(&factory, &records);
    for (name, next) in [
        ("session.check_dispatched", "session.step_unknown"),
        ("session.step_dispatched", "session.step_unknown"),
    ] {
        let upto = records.iter().position(|record| record.event.name() == name).unwrap() + 1;
        let factory = over(&records[..upto], blobs.clone(), false).await;
        let mut events = factory.events().await;
        if name == "session.check_dispatched" {
            let again = wait_for(&mut events, "session.check_dispatched").await;
            let Event::Session(SessionEvent::CheckDispatched(again)) = again.event else {
                panic!("{again:?}")
            };
            assert_eq!(again.attempt, 2);
            wait_for(&mut events, "session.concluded").await;
        } else {
            wait_for(&mut events, next).await;
            let story: SessionStory =
                factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
            assert!(story.row.status.is_waiting());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_needs_a_file_which_is_lost_fails_with_a_sentence() {
    let factory = TestFactory::start().await;
    let asked =
        steps(&["read a/b.txt", "read c"], vec![text("a/b.txt", "lost"), text("c", "kept")], None);
    let answer: SessionAnswer = factory.call(operation::SUPERVISOR_RUN, &asked).await.unwrap();
    let lost = BlobHash::of(b"lost");
    let records = records(&factory);
    let kept = blobs(&factory, &records).into_iter().filter(|blob| blob.hash() != lost);
    let upto = records.iter().position(|record| record.event.name() == "run.requested").unwrap();
    let factory = over(&records[..upto], kept.collect(), true).await;
    wait_for(&mut factory.events().await, "session.concluded").await;
    let which = SessionSelector::id(answer.session_id);
    let story: SessionStory = factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
    assert_eq!(story.row.status.as_str(), "error");
    let told = format!("the file \"a/b.txt\" ({lost}) is missing in the journal");
    assert!(story.result.contains(&told), "{}", story.result);
}
