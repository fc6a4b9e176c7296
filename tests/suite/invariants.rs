//! Invariants that are a matter of who may do what: I-3, I-9, I-10, I-11, read off the code; and
//! I-7, of the relay.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ai_factory::{
    bus::{LocalBus, LocalBusSettings},
    relay::{Checkpoint, Relay},
};
use ai_factory_ports::{
    bus::{
        Bus, Message, PublishError, QueueGroup, RequestError, SubscribeError, Subscription, header,
    },
    journal::{Append, Journal},
};
use ai_factory_schemas::{
    envelope::{EventDraft, Recorded, Trail},
    id::{EventId, MemoryId},
    memory::MemoryRemembered,
    subject::{SubjectFilter, Subjects},
    time::Timestamp,
};
use ai_factory_tail::Tail;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    support::memory_journal::MemoryJournal,
    tidy::{Source, complaints, rust},
};

/// Where each category's events are appended, and nowhere else.
const WRITERS: [&str; 5] = [
    "actors/src/effect/loaded.rs",
    "actors/src/goal.rs",
    "actors/src/memory/record.rs",
    "actors/src/planner/service.rs",
    "actors/src/session/actor.rs",
];
/// Whose streams are appended to as recorded effects.
const STREAMED: [&str; 2] = ["actors/src/debugger/execute.rs", "actors/src/model/execute.rs"];
/// What only the world's own port may ask: put together here, so that this file does not break the
/// rule.
const NOT_PURE: [&str; 4] = [".aw", "async fn", "now(", "new_id("];
const UNBOUNDED: [&str; 2] = [concat!("unbounded", "_channel"), concat!("mpsc::", "channel()")];
const PROCESS: &str = concat!("Command", "::new(");

fn where_code_has(
    words: &'static [&'static str],
    what: &'static str,
    applies: impl Fn(&str) -> bool,
) -> impl Fn(&Source) -> Vec<String> {
    move |source| {
        if !applies(&source.path) {
            return Vec::new();
        }
        source
            .code()
            .filter(|line| !line.is_test && words.iter().any(|word| line.text.contains(word)))
            .map(|line| source.complain(&line, what))
            .collect()
    }
}

#[test]
fn i_3_each_category_is_written_in_one_place() {
    let elsewhere = |path: &str| {
        (path.starts_with("actors/") || path.starts_with("src/"))
            && !WRITERS.contains(&path)
            && !path.starts_with("src/journal/")
            && !path.starts_with("actors/ports/")
    };
    complaints(
        &rust(),
        where_code_has(&[".append(Append", "Append {"], "only its writer appends", elsewhere),
    );
    complaints(
        &rust(),
        where_code_has(&["impl Streamed for"], "only its writer appends", |path| {
            !STREAMED.contains(&path) && !path.starts_with("tests/")
        }),
    );
}

#[test]
fn i_9_deciders_know_no_clock_no_chance_and_no_waiting() {
    complaints(
        &rust(),
        where_code_has(&NOT_PURE, "deciders are pure: let the actor pass it in", |path| {
            path.ends_with("/decider.rs") || path.ends_with("/aggregate.rs")
        }),
    );
}

/// Programs of goals, that is: a NATS server that the operator asked for is none.
#[test]
fn i_10_programs_are_started_by_the_sandbox_alone() {
    complaints(
        &rust(),
        where_code_has(&[PROCESS], "only the sandbox starts programs", |path| {
            (path.starts_with("actors/") || path.starts_with("src/"))
                && !path.starts_with("src/sandbox/")
                && !path.starts_with("src/nats/")
        }),
    );
}

#[test]
fn i_11_no_queue_is_without_a_limit() {
    complaints(
        &rust(),
        where_code_has(&UNBOUNDED, "give the queue a limit with a name", |path| {
            path.starts_with("actors/") || path.starts_with("src/")
        }),
    );
}

/// Notes where the relay is, and lets the test wait for it.
struct Noted {
    from: u64,
    at: watch::Sender<u64>,
}

impl Checkpoint for Noted {
    fn load(&self) -> u64 {
        self.from
    }

    fn note(&self, position: u64) {
        self.at.send_replace(position);
    }
}

/// A bus that fails every other time after half of what it was given, as a connection that comes
/// and goes.
struct Shaky {
    bus: Arc<LocalBus>,
    tried: AtomicU64,
}

#[async_trait::async_trait]
impl Bus for Shaky {
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.bus.publish(message).await
    }

    async fn publish_all(&self, mut messages: Vec<Message>) -> Result<(), PublishError> {
        let fails = self.tried.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if fails {
            messages.truncate(messages.len() / 2);
        }
        self.bus.publish_all(messages).await?;
        if fails { Err(PublishError::Broken("the test asked for it".to_owned())) } else { Ok(()) }
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, RequestError> {
        self.bus.request(message, timeout).await
    }

    async fn subscribe(
        &self,
        filter: SubjectFilter,
        queue: Option<QueueGroup>,
        capacity: usize,
    ) -> Result<Subscription, SubscribeError> {
        self.bus.subscribe(filter, queue, capacity).await
    }
}

async fn note(journal: &MemoryJournal, text: &str) {
    let event = MemoryRemembered {
        request_id: Uuid::nil().into(),
        text: text.to_owned(),
        tags: Vec::new(),
    };
    let append = Append {
        stream: MemoryId(Uuid::now_v7()).into(),
        expected: 0,
        events: vec![EventDraft {
            id: EventId(Uuid::now_v7()),
            time: Timestamp::from_micros(1),
            event: event.into(),
            trail: Trail::default(),
        }],
        command: None,
        blobs: Vec::new(),
    };
    journal.append(append).await.unwrap();
}

/// I-7: in order, after commit, at least once; from the checkpoint; and a failing bus skips
/// nothing.
#[tokio::test]
async fn i_7_the_relay_publishes_every_event_in_order_from_its_checkpoint() {
    let journal = Arc::new(MemoryJournal::default());
    for n in 0..140 {
        note(&journal, &format!("note {n}")).await;
    }
    for from in [0, 120, 140] {
        let local = LocalBus::new(LocalBusSettings::default());
        let all = Subjects::default().events();
        let mut events = local.subscribe(all, None, 1_000).await.unwrap();
        let bus = Arc::new(Shaky { bus: local, tried: AtomicU64::new(0) });
        let checkpoint = Arc::new(Noted { from, at: watch::Sender::new(from) });
        let relay = Relay::to_bus(
            Tail::new(Arc::clone(&journal) as Arc<dyn Journal>),
            Arc::clone(&bus) as Arc<dyn Bus>,
            Subjects::default(),
            Arc::clone(&checkpoint) as Arc<dyn Checkpoint>,
        );
        let relaying = tokio::spawn(relay.run());
        let mut at = checkpoint.at.subscribe();
        at.wait_for(|position| *position >= 140).await.unwrap();
        note(&journal, "one that comes while it runs").await;
        let head = journal.head().position;
        at.wait_for(|position| *position >= head).await.unwrap();
        relaying.abort();

        let stored = journal.read(from, 1_000).await.unwrap();
        let mut seen = 0;
        while let Some(message) = events.try_next() {
            let recorded = Recorded::decode(&message.payload).unwrap();
            // What was in doubt is published again; nothing is skipped.
            let at = usize::try_from(recorded.position - from - 1).unwrap();
            assert!(at <= seen, "{at} came before {seen}");
            seen = seen.max(at + 1);
            assert_eq!(
                message.payload, stored[at].bytes,
                "the stored bytes are the bytes on the bus"
            );
            assert_eq!(message.headers.get(header::MESSAGE_ID), Some(&*recorded.id.to_string()));
            assert!(message.subject.as_str().ends_with(".remembered"));
        }
        assert_eq!(seen, stored.len(), "nothing is missing");
    }
}
