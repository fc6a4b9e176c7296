//! The contract of the journal port. An implementation takes one line: `journal_contract!(name,
//! make);`.

use std::{any::Any, collections::HashMap, sync::Arc};

use ai_factory_ports::journal::{
    Append, AppendError, Appended, Command, Head, Journal, JournalHealth, RawRecord,
};
use ai_factory_schemas::{
    envelope::{ChainHash, EventDraft, Recorded, Trail, unseal},
    event::Event,
    id::{Category, EventId, MemoryId, RunId, StreamId},
    limit::{APPEND_EVENTS_MAX, BLOB_BYTES_MAX, RECORD_BYTES_MAX},
    memory::MemoryRemembered,
    text::{Blob, BlobHash},
    time::Timestamp,
};
use ai_factory_tail::{Tail, TailLimits};
use futures_util::future::join_all;
use proptest::{prelude::*, test_runner::TestRunner};
use uuid::Uuid;

/// A journal, and what must live as long as it.
pub struct Made {
    pub journal: Arc<dyn Journal>,
    /// Takes away what the journal writes to.
    pub breaks: Box<dyn Fn() + Send + Sync>,
    pub _keep: Box<dyn Any + Send>,
}

macro_rules! journal_contract {
    ($name:ident, $make:expr) => {
        mod $name {
            $crate::contract::journal::journal_contract!(@tests $make,
                what_is_acknowledged_is_in_the_very_next_read,
                positions_and_versions_count_from_one_without_gaps,
                a_wrong_version_changes_nothing_and_says_what_is_so,
                a_command_takes_effect_at_most_once,
                a_command_sent_many_times_at_once_takes_effect_once,
                a_used_key_with_another_request_is_refused,
                what_breaks_a_rule_is_refused_and_changes_nothing,
                a_blob_comes_back_by_its_hash,
                many_blobs_and_their_sizes_are_read_at_once_and_what_is_not_there_is_none,
                a_read_begins_and_ends_where_it_is_told_to,
                of_many_writers_to_one_version_one_wins,
                many_writers_to_many_streams_all_get_their_place,
                the_watch_tells_of_the_new_head,
                many_followers_get_what_many_writers_append,
                it_accepts_appends_whatever_single_ones_it_refuses,
                arbitrary_appends_do_what_the_model_does,
            );
            $crate::contract::journal::journal_contract!(@breaking $make,
                what_breaks_it_is_in_its_health_and_the_first_reason_stays,
            );
        }
    };
    (@breaking $make:expr, $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let made: $crate::contract::journal::Made = $make;
                $crate::contract::journal::$case(&made).await;
            }
        )*
    };
    (@tests $make:expr, $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let made: $crate::contract::journal::Made = $make;
                $crate::contract::journal::$case(&made.journal).await;
            }
        )*
    };
}
pub(crate) use journal_contract;

pub fn notes(n: u128) -> StreamId {
    MemoryId(Uuid::from_u128(n)).into()
}

pub fn note(text: &str) -> EventDraft {
    let event: Event = MemoryRemembered {
        request_id: Uuid::from_u128(9).into(),
        text: text.to_owned(),
        tags: vec!["tag".to_owned()],
    }
    .into();
    EventDraft {
        id: EventId(Uuid::now_v7()),
        time: Timestamp::from_micros(1_780_000_000_000_000),
        event,
        trail: Trail::default(),
    }
}

pub fn append(stream: StreamId, expected: u64, texts: &[&str]) -> Append {
    let events = texts.iter().map(|text| note(text)).collect();
    Append { stream, expected, events, command: None, blobs: Vec::new() }
}

pub fn command(key: &str, asked: &str) -> Command {
    Command { id: key.parse().unwrap(), fingerprint: BlobHash::of(asked.as_bytes()) }
}

pub fn text(event: &Recorded) -> &str {
    match &event.event {
        Event::Memory(ai_factory_schemas::memory::MemoryEvent::Remembered(note)) => &note.text,
        other => panic!("not a note: {other:?}"),
    }
}

pub async fn texts(journal: &Arc<dyn Journal>, stream: StreamId) -> Vec<String> {
    let events = journal.load(stream, 0).await.unwrap();
    for (at, event) in events.iter().enumerate() {
        assert_eq!((event.stream, event.version), (stream, at as u64 + 1), "I-6");
    }
    events.iter().map(|event| text(event).to_owned()).collect()
}

/// Everything, checked for gaps and for the chain; returns the head.
pub async fn whole(journal: &Arc<dyn Journal>) -> (Vec<Recorded>, Head) {
    let raw = journal.read(0, usize::MAX).await.unwrap();
    let (events, head) = chained(&raw);
    assert_eq!(head, journal.head());
    (events, head)
}

pub fn chained(raw: &[RawRecord]) -> (Vec<Recorded>, Head) {
    let (mut events, mut hash) = (Vec::new(), ChainHash::GENESIS);
    let mut versions = HashMap::new();
    for (at, raw) in raw.iter().enumerate() {
        let (content, written) = unseal(&raw.bytes).unwrap();
        assert_eq!(hash.next(content), written, "the chain at {}", raw.position);
        let event = Recorded::decode(&raw.bytes).unwrap();
        let version: &mut u64 = versions.entry(event.stream).or_default();
        *version += 1;
        assert_eq!((event.position, raw.position), (at as u64 + 1, at as u64 + 1), "I-6");
        assert_eq!(event.version, *version, "I-6");
        hash = written;
        events.push(event);
    }
    (events, Head { position: raw.len() as u64, hash })
}

pub async fn what_is_acknowledged_is_in_the_very_next_read(journal: &Arc<dyn Journal>) {
    assert_eq!(journal.head(), Head::default());
    assert!(journal.read(0, 10).await.unwrap().is_empty());
    assert!(journal.load(notes(1), 0).await.unwrap().is_empty());
    let appended = journal.append(append(notes(1), 0, &["a", "b"])).await.unwrap();
    let first = Appended { stream: notes(1), first: 1, last: 2, version: 2, repeated: false };
    assert_eq!(appended, first);
    assert_eq!(journal.head().position, 2);
    assert_eq!(texts(journal, notes(1)).await, ["a", "b"]);
    assert_eq!(journal.read(1, 10).await.unwrap().len(), 1);
}

pub async fn positions_and_versions_count_from_one_without_gaps(journal: &Arc<dyn Journal>) {
    for round in 0..5 {
        for stream in 1..=3 {
            let appended = journal.append(append(notes(stream), round * 2, &["x", "y"])).await;
            assert_eq!(appended.unwrap().version, round * 2 + 2);
        }
    }
    let (events, head) = whole(journal).await;
    assert_eq!((events.len(), head.position), (30, 30));
}

pub async fn a_wrong_version_changes_nothing_and_says_what_is_so(journal: &Arc<dyn Journal>) {
    journal.append(append(notes(1), 0, &["a"])).await.unwrap();
    let before = journal.head();
    for expected in [0, 2, u64::MAX] {
        let error = journal.append(append(notes(1), expected, &["b"])).await.unwrap_err();
        let AppendError::WrongVersion { stream, expected: named, actual } = error else {
            panic!("{error:?}");
        };
        assert_eq!((stream, named, actual), (notes(1), expected, 1));
    }
    let error = journal.append(append(notes(2), 1, &["b"])).await.unwrap_err();
    assert!(matches!(error, AppendError::WrongVersion { actual: 0, .. }), "{error:?}");
    assert_eq!(journal.head(), before);
    assert_eq!(texts(journal, notes(1)).await, ["a"]);
}

/// I-5.
pub async fn a_command_takes_effect_at_most_once(journal: &Arc<dyn Journal>) {
    let once = |stream, texts: &[&str]| Append {
        command: Some(command("key", "asked")),
        ..append(stream, 0, texts)
    };
    let first = journal.append(once(notes(1), &["a", "b"])).await.unwrap();
    journal.append(append(notes(1), 2, &["c"])).await.unwrap();
    // The second time the version is long past, and the caller has even made up another stream.
    let second = journal.append(once(notes(2), &["z"])).await.unwrap();
    assert_eq!(second, Appended { repeated: true, ..first });
    assert_eq!(journal.head().position, 3);
    let (kept, where_to) = journal.command(&"key".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((kept, where_to), (command("key", "asked"), first));
    assert_eq!(journal.command(&"other".parse().unwrap()).await.unwrap(), None);
}

/// I-5.
pub async fn a_command_sent_many_times_at_once_takes_effect_once(journal: &Arc<dyn Journal>) {
    let sent = (0..32).map(|n| {
        let once = Append { command: Some(command("key", "asked")), ..append(notes(n), 0, &["a"]) };
        let journal = journal.clone();
        async move { journal.append(once).await.unwrap() }
    });
    let answers = join_all(sent).await;
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert!(answers.iter().all(|answer| answer.stream == answers[0].stream && answer.first == 1));
    assert_eq!(journal.head().position, 1);
}

pub async fn a_used_key_with_another_request_is_refused(journal: &Arc<dyn Journal>) {
    let with =
        |asked| Append { command: Some(command("key", asked)), ..append(notes(1), 0, &["a"]) };
    journal.append(with("this")).await.unwrap();
    let error = journal.append(with("that")).await.unwrap_err();
    assert!(
        matches!(&error, AppendError::CommandConflict { id } if id.as_str() == "key"),
        "{error:?}"
    );
    assert_eq!(journal.head().position, 1);
    // A refused append does not use its key up.
    let wrong = Append { command: Some(command("new", "x")), ..append(notes(1), 7, &["a"]) };
    assert!(journal.append(wrong).await.is_err());
    let right = Append { command: Some(command("new", "y")), ..append(notes(1), 1, &["a"]) };
    assert!(!journal.append(right).await.unwrap().repeated);
}

pub async fn what_breaks_a_rule_is_refused_and_changes_nothing(journal: &Arc<dyn Journal>) {
    let large = "x".repeat(RECORD_BYTES_MAX);
    let blob = vec![1; BLOB_BYTES_MAX + 1];
    let plain = append(notes(1), 0, &["a"]);
    let run = StreamId { category: Category::Run, ..RunId(Uuid::from_u128(1)).into() };
    let many = vec!["a"; APPEND_EVENTS_MAX + 1];
    let refused = [
        ("no events", append(notes(1), 0, &[])),
        ("too many events", append(notes(1), 0, &many)),
        ("a large record", append(notes(1), 0, &["a", &large])),
        ("another category", Append { stream: run, ..plain.clone() }),
        ("a large blob", Append { blobs: vec![Blob::new(blob)], ..plain }),
    ];
    for (what, append) in refused {
        let error = journal.append(append).await.unwrap_err();
        assert!(matches!(error, AppendError::Refused(_)), "{what}: {error:?}");
        assert!(!error.is_transient(), "{what}");
    }
    assert_eq!(journal.head(), Head::default());
    let most = vec!["a"; APPEND_EVENTS_MAX];
    journal.append(append(notes(1), 0, &most)).await.unwrap();
}

pub async fn a_blob_comes_back_by_its_hash(journal: &Arc<dyn Journal>) {
    let (small, large) = (b"small".to_vec(), vec![7; BLOB_BYTES_MAX]);
    let hashes = [BlobHash::of(&small), BlobHash::of(&large)];
    let blobs = vec![Blob::new(small.clone()), Blob::new(large.clone())];
    journal.append(Append { blobs, ..append(notes(1), 0, &["a"]) }).await.unwrap();
    assert_eq!(journal.blob(hashes[0]).await.unwrap(), Some(small.clone()));
    assert_eq!(journal.blob(hashes[1]).await.unwrap(), Some(large));
    assert_eq!(journal.blob(BlobHash::of(b"none")).await.unwrap(), None);
    // The same blob again is no trouble; that of a refused append is not kept.
    let again = Append { blobs: vec![Blob::new(small)], ..append(notes(1), 1, &["b"]) };
    journal.append(again).await.unwrap();
    let lost = BlobHash::of(b"lost");
    let wrong = Append { blobs: vec![Blob::new(b"lost".to_vec())], ..append(notes(1), 9, &["c"]) };
    journal.append(wrong).await.unwrap_err();
    assert_eq!(journal.blob(lost).await.unwrap(), None);
}

pub async fn many_blobs_and_their_sizes_are_read_at_once_and_what_is_not_there_is_none(
    journal: &Arc<dyn Journal>,
) {
    let large = vec![7; 100_000];
    let contents = [&b""[..], b"small", &large];
    let blobs = contents.map(|content| Blob::new(content.to_vec())).to_vec();
    journal.append(Append { blobs, ..append(notes(1), 0, &["a"]) }).await.unwrap();
    let [empty, small, large] = contents.map(BlobHash::of);
    let none = BlobHash::of(b"none");
    let asked = vec![large, none, empty, small, none, large];
    let sizes = journal.blob_sizes(asked.clone()).await.unwrap();
    assert_eq!(sizes, [Some(100_000), None, Some(0), Some(5), None, Some(100_000)]);
    let read = journal.blobs(asked.clone()).await.unwrap();
    for (hash, bytes) in asked.into_iter().zip(read) {
        assert_eq!(bytes, journal.blob(hash).await.unwrap());
    }
    assert!(journal.blob_sizes(Vec::new()).await.unwrap().is_empty());
}

pub async fn a_read_begins_and_ends_where_it_is_told_to(journal: &Arc<dyn Journal>) {
    for n in 0..10 {
        journal.append(append(notes(n % 2), u64::try_from(n / 2).unwrap(), &["a"])).await.unwrap();
    }
    for (after, limit, expected) in
        [(0, 3, 1..=3), (3, 3, 4..=6), (8, 9, 9..=10), (0, usize::MAX, 1..=10)]
    {
        let read = journal.read(after, limit).await.unwrap();
        let positions: Vec<_> = read.iter().map(|raw| raw.position).collect();
        assert_eq!(positions, expected.collect::<Vec<u64>>());
    }
    assert!(journal.read(10, 5).await.unwrap().is_empty());
    assert!(journal.read(0, 0).await.unwrap().is_empty());
    assert!(journal.read(u64::MAX, 5).await.unwrap().is_empty());
    let rest = journal.load(notes(1), 3).await.unwrap();
    assert_eq!(rest.iter().map(|event| event.version).collect::<Vec<_>>(), [4, 5]);
    assert!(journal.load(notes(1), 5).await.unwrap().is_empty());
    assert!(journal.load(notes(1), u64::MAX).await.unwrap().is_empty());
}

pub async fn of_many_writers_to_one_version_one_wins(journal: &Arc<dyn Journal>) {
    for round in 0..8 {
        let tries = (0..16).map(|n| {
            let (journal, text) = (journal.clone(), format!("{round}-{n}"));
            tokio::spawn(async move { journal.append(append(notes(1), round, &[&text])).await })
        });
        let answers = join_all(tries).await;
        let won = answers.iter().filter(|answer| answer.as_ref().unwrap().is_ok()).count();
        assert_eq!(won, 1, "round {round}");
        for answer in answers {
            if let Err(error) = answer.unwrap() {
                let next = round + 1;
                let right =
                    matches!(error, AppendError::WrongVersion { actual, .. } if actual == next);
                assert!(right, "{error:?}");
            }
        }
    }
    assert_eq!(whole(journal).await.1.position, 8);
}

pub async fn many_writers_to_many_streams_all_get_their_place(journal: &Arc<dyn Journal>) {
    let writers = (0..64).map(|writer| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for round in 0..8 {
                let text = format!("{writer}-{round}");
                let appended =
                    journal.append(append(notes(writer), round, &[&text])).await.unwrap();
                // I-13: the very next read has it.
                assert!(journal.head().position >= appended.last);
                let raw = journal.read(appended.first - 1, 1).await.unwrap();
                assert!(std::str::from_utf8(&raw[0].bytes).unwrap().contains(&text));
            }
        })
    });
    for done in join_all(writers).await {
        done.unwrap();
    }
    assert_eq!(whole(journal).await.1.position, 512);
    for writer in 0..64 {
        let expected: Vec<_> = (0..8).map(|round| format!("{writer}-{round}")).collect();
        assert_eq!(texts(journal, notes(writer)).await, expected);
    }
}

pub async fn the_watch_tells_of_the_new_head(journal: &Arc<dyn Journal>) {
    let mut watch = journal.watch();
    assert_eq!(*watch.borrow_and_update(), Head::default());
    let appended = journal.append(append(notes(1), 0, &["a", "b"])).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(watch.borrow().position, appended.last);
    assert_eq!(*watch.borrow(), journal.head());
}

/// I-6: through shared cursors, whatever their pace.
pub async fn many_followers_get_what_many_writers_append(journal: &Arc<dyn Journal>) {
    const EVENTS: u64 = 16 * 24;
    let limits = TailLimits { records_max: 40, bytes_max: 8_000 };
    let tail = Tail::with_limits(Arc::clone(journal), limits);
    let followers: Vec<_> = [1, 7, 16, 500]
        .into_iter()
        .map(|limit| {
            let mut cursor = tail.cursor(0);
            tokio::spawn(async move {
                let mut raw = Vec::new();
                while cursor.position() < EVENTS {
                    assert!(cursor.changed().await);
                    let records = cursor.read(limit).await.unwrap();
                    raw.extend(records.iter().map(|record| RawRecord {
                        position: record.position(),
                        bytes: record.bytes().clone(),
                    }));
                }
                chained(&raw).1
            })
        })
        .collect();
    let writers = (0..16).map(|writer| {
        let journal = Arc::clone(journal);
        tokio::spawn(async move {
            for round in 0..24 {
                journal.append(append(notes(writer), round, &["a"])).await.unwrap();
            }
        })
    });
    for written in join_all(writers).await {
        written.unwrap();
    }
    for follower in followers {
        assert_eq!(follower.await.unwrap(), journal.head());
    }
}

pub async fn it_accepts_appends_whatever_single_ones_it_refuses(journal: &Arc<dyn Journal>) {
    let health = journal.watch_health();
    assert_eq!(journal.health(), JournalHealth::Accepting);
    assert_eq!(*health.borrow(), journal.health());
    journal.append(append(notes(1), 0, &["a"])).await.unwrap();
    journal.append(append(notes(1), 9, &["a"])).await.unwrap_err();
    journal.append(append(notes(1), 1, &[])).await.unwrap_err();
    assert!(journal.health().is_accepting() && journal.health().failure().is_none());
    assert!(!health.has_changed().unwrap());
}

pub async fn what_breaks_it_is_in_its_health_and_the_first_reason_stays(made: &Made) {
    let journal = &made.journal;
    journal.append(append(notes(1), 0, &["a"])).await.unwrap();
    let (head, mut health) = (journal.head(), journal.watch_health());
    (made.breaks)();
    let mut reasons = Vec::new();
    for _ in 0..3 {
        match journal.append(append(notes(1), 1, &["b"])).await {
            Err(AppendError::Storage(reason)) => reasons.push(reason),
            other => panic!("{other:?}"),
        }
        let told = health.wait_for(|health| !health.is_accepting()).await.unwrap();
        reasons.extend(told.failure().cloned());
        reasons.extend(journal.health().failure().cloned());
    }
    assert_eq!(reasons.len(), 9);
    assert!(reasons.iter().all(|reason| *reason == reasons[0]), "{reasons:?}");
    // What was acknowledged stays, and nothing else is acknowledged.
    assert_eq!(journal.head(), head);
    assert_eq!(texts(journal, notes(1)).await[0], "a");
}

#[derive(Clone, Debug)]
struct Step {
    stream: u8,
    /// Added to the right version.
    off: u8,
    events: u8,
    key: Option<(u8, u8)>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::option::of((0..4u8, 0..2u8));
    let step = (0..4u8, prop_oneof![4 => Just(0u8), 1 => 1..3u8], 1..4u8, key)
        .prop_map(|(stream, off, events, key)| Step { stream, off, events, key });
    prop::collection::vec(step, 1..12)
}

/// The journal as it should be, in a few lines.
#[derive(Default)]
struct Model {
    position: u64,
    streams: HashMap<StreamId, Vec<String>>,
    commands: HashMap<String, (u8, Appended)>,
}

/// I-4, I-5, I-6: a journal carries on from case to case, so streams and keys are new for each.
pub async fn arbitrary_appends_do_what_the_model_does(journal: &Arc<dyn Journal>) {
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let (journal, runtime) = (journal.clone(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let case = std::cell::Cell::new(0u128);
        runner
            .run(&steps(), |steps| {
                case.set(case.get() + 1);
                runtime.block_on(follow(&journal, case.get(), &steps));
                Ok(())
            })
            .unwrap();
    })
    .await
    .unwrap();
}

async fn follow(journal: &Arc<dyn Journal>, case: u128, steps: &[Step]) {
    let mut model = Model { position: journal.head().position, ..Model::default() };
    for (at, step) in steps.iter().enumerate() {
        let stream = notes(case * 1000 + u128::from(step.stream));
        let held = model.streams.entry(stream).or_default();
        let actual = held.len() as u64;
        let expected = actual + u64::from(step.off);
        let texts: Vec<_> = (0..step.events).map(|n| format!("{case}.{at}.{n}")).collect();
        let drafts = texts.iter().map(|text| note(text)).collect();
        let key = step.key.map(|(key, asked)| (format!("{case}.{key}"), asked));
        let id = key.as_ref().map(|(key, asked)| command(key, &asked.to_string()));
        let append = Append { stream, expected, events: drafts, command: id, blobs: Vec::new() };
        let answer = journal.append(append).await;
        let used = key.as_ref().and_then(|(key, _)| model.commands.get(key));
        match (used, key.as_ref()) {
            (Some((asked, first)), Some((_, now))) if asked == now => {
                assert_eq!(answer.unwrap(), Appended { repeated: true, ..*first });
            }
            (Some(_), _) => {
                assert!(matches!(answer, Err(AppendError::CommandConflict { .. })), "{answer:?}");
            }
            (None, _) if step.off > 0 => {
                let error = answer.unwrap_err();
                assert!(
                    matches!(error, AppendError::WrongVersion { actual: a, .. } if a == actual),
                    "{error:?}"
                );
            }
            (None, _) => {
                let count = u64::from(step.events);
                let expected = Appended {
                    stream,
                    first: model.position + 1,
                    last: model.position + count,
                    version: actual + count,
                    repeated: false,
                };
                assert_eq!(answer.unwrap(), expected);
                model.position += count;
                held.extend(texts);
                if let Some((key, asked)) = key {
                    model.commands.insert(key, (asked, expected));
                }
            }
        }
    }
    assert_eq!(journal.head().position, model.position);
    for (stream, expected) in model.streams {
        assert_eq!(texts(journal, stream).await, expected);
    }
}
