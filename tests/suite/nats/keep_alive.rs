//! The agent on a bus within the process, with a supervisor that does nothing: a stream that has
//! nothing to say.

use std::{sync::Arc, time::Duration};

use ai_factory::{
    agent_protocol::{Agent, AgentIdentity, AgentLimits, ClaimsSettings},
    bus::{LocalBus, LocalBusSettings},
    clock::{SystemClock, SystemIds},
};
use ai_factory_ports::{
    bus::{Bus, Message, Subscription},
    clock::{Clock as _, IdSource as _},
    journal::{Append, Journal},
};
use ai_factory_schemas::{
    answer::Submitted,
    envelope::{EventDraft, Trail},
    id::{EventId, SessionId},
    plan::TaskType,
    session::SessionOpened,
    subject::Subjects,
};
use ai_factory_tail::Tail;
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::memory_journal::MemoryJournal;

/// Records that a session was opened, and answers with it; the rest of it never comes.
async fn submit(mut goals: Subscription, bus: Arc<dyn Bus>, journal: Arc<dyn Journal>) {
    let reply = goals.next().await.unwrap().reply.unwrap();
    let (clock, ids) = (SystemClock::default(), SystemIds);
    let session_id = SessionId(ids.new_id());
    let request_id: ai_factory_schemas::id::RequestId = ids.new_id().into();
    let opened = SessionOpened {
        request_id: request_id.clone(),
        goal: "Wait".to_owned(),
        task_type: TaskType::General,
        submitted_by: None,
        check: None,
        protect: Vec::new(),
        workspace: None,
        model: None,
    };
    let draft = EventDraft {
        id: EventId(ids.new_id()),
        time: clock.now(),
        event: opened.into(),
        trail: Trail { causation: None, correlation: None, traceparent: None },
    };
    let stream = session_id.into();
    let append =
        Append { stream, expected: 0, events: vec![draft], command: None, blobs: Vec::new() };
    journal.append(append).await.unwrap();
    let submitted = serde_json::to_vec(&Submitted { request_id, session_id }).unwrap();
    bus.publish(Message::new(reply, submitted)).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_has_nothing_to_say_says_that_it_lives_until_the_factory_ends() {
    let bus: Arc<dyn Bus> = LocalBus::new(LocalBusSettings::default());
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let (_connected, connections) = watch::channel(1);
    let (closing, ended) = (CancellationToken::new(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let filter = "factory.supervisor.submit".parse().unwrap();
    let goals = bus.subscribe(filter, None, 1).await.unwrap();
    tasks.spawn(submit(goals, Arc::clone(&bus), Arc::clone(&journal)));
    let agent = Agent {
        outside: Arc::clone(&bus),
        message_bytes_max: Arc::new(|| 1024),
        connections,
        inside: Arc::clone(&bus),
        subjects: Subjects::default(),
        tail: Tail::new(Arc::clone(&journal)),
        journal,
        clock: Arc::new(SystemClock::default()),
        ids: Arc::new(SystemIds),
        identity: AgentIdentity { owner: "alice".to_owned(), name: "bench".to_owned() },
        claims: ClaimsSettings { bucket: "KEYS".to_owned(), replicas: 1 },
        limits: AgentLimits {
            prompts_max: 1,
            submit_max: Duration::from_mins(1),
            silence_max: Duration::from_millis(10),
            question_max: Duration::from_mins(1),
            may_ask: false,
            heartbeat_s: 30,
        },
    };
    agent.start(&mut tasks, &closing, &ended).await.unwrap();
    let mut answer = bus.subscribe("answer".parse().unwrap(), None, 64).await.unwrap();
    let mut prompt = Message::new("agents.prompt.ai-factory.alice.bench".parse().unwrap(), "Wait");
    prompt.reply = Some("answer".parse().unwrap());
    bus.publish(prompt).await.unwrap();
    for expected in ["ack", "session.opened", "working", "working"] {
        let chunk: Value = serde_json::from_slice(&answer.next().await.unwrap().payload).unwrap();
        assert_eq!(chunk["data"], expected);
    }
    ended.cancel();
    let error = loop {
        let message = answer.next().await.unwrap();
        if !message.headers.is_empty() {
            break message;
        }
    };
    assert_eq!(error.headers.get("Nats-Service-Error-Code"), Some("429"));
    let last = answer.next().await.unwrap();
    assert!(last.payload.is_empty() && last.headers.is_empty());
}
