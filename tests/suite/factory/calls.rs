//! The actor of the model over real journal, projections and bus, with a model and a clock that do
//! what the test says.

use ai_factory_ports::model::ModelError;
use ai_factory_schemas::{
    answer::{CallCancelAnswer, CallEnd, Completed, StreamEnd, StreamPart},
    call::{CallEvent, CallFailed, CallRequest},
    chat::{ChatMessage, MessageRef},
    envelope::{EventDraft, Trail},
    id::{CallId, EventId, SessionId},
    memory::MemoryRemembered,
    model::{Budget, ModelEndpoint, ModelErrorClass, ModelProtocol, Reservation, ToolProtocol},
    request::{CancelCall, Complete},
    subject::{MODEL_CANCEL, MODEL_COMPLETE},
};

use super::{
    harness::*,
    scripted_model::{Script, ScriptedModel, SetClock, usage},
};

const KNOWN_SECRET: &str = "correct horse battery";

/// An actor of the model, beside a factory whose journal and views it shares.
struct CallKit {
    factory: TestFactory,
    model: Arc<ScriptedModel>,
    clock: Arc<SetClock>,
    message: MessageRef,
    limits: ModelLimits,
    deps: Arc<Deps>,
    tree: Tree,
}

/// The actors with this model, on subjects of their own.
async fn actors(
    factory: &TestFactory,
    model: &Arc<ScriptedModel>,
    clock: &Arc<SetClock>,
    limits: &ModelLimits,
) -> (Arc<Deps>, Tree) {
    let mut deps = Arc::into_inner(factory.deps_under("calls")).unwrap();
    deps.model = Arc::clone(model) as Arc<dyn ai_factory_ports::model::Model>;
    deps.clock = Arc::clone(clock) as Arc<dyn Clock>;
    deps.limits.model = limits.clone();
    deps.mask = Arc::new(Mask::new(vec![KNOWN_SECRET.to_owned()]));
    let deps = Arc::new(deps);
    let tree = Tree::start(&deps).await.unwrap();
    (deps, tree)
}

/// A message in the journal, beside an event that needs it not.
async fn stored(factory: &TestFactory, text: &str) -> MessageRef {
    let blob = ChatMessage::User { text: text.into() }.to_blob().unwrap();
    let message = MessageRef::from(&blob);
    let note = MemoryRemembered {
        request_id: "test".parse().unwrap(),
        text: "n".into(),
        tags: Vec::new(),
    };
    let draft = EventDraft {
        id: EventId(Uuid::now_v7()),
        time: Timestamp::default(),
        event: note.into(),
        trail: Trail::default(),
    };
    let append = Append {
        stream: MemoryId(Uuid::now_v7()).into(),
        expected: 0,
        events: vec![draft],
        command: None,
        blobs: vec![blob],
    };
    factory.journal.append(append).await.unwrap();
    message
}

impl CallKit {
    async fn start(limits: ModelLimits) -> Self {
        let factory = TestFactory::start().await;
        let (model, clock) =
            (Arc::<ScriptedModel>::default(), SetClock::at("2026-12-01T12:00:00Z"));
        let message = stored(&factory, "what is six times seven?").await;
        let (deps, tree) = actors(&factory, &model, &clock, &limits).await;
        Self { factory, model, clock, message, limits, deps, tree }
    }

    /// Ends the actors as a crash does, and starts others.
    async fn crash(self) -> Self {
        let Self { factory, model, clock, message, limits, deps, tree } = self;
        tree.stop().await;
        drop(deps);
        let (deps, tree) = actors(&factory, &model, &clock, &limits).await;
        Self { factory, model, clock, message, limits, deps, tree }
    }

    /// The first attempt of a call that reserves 100 tokens.
    fn call(&self, session: Option<SessionId>) -> Complete {
        let endpoint = ModelEndpoint {
            model: "test/scripted".into(),
            url: "http://127.0.0.1:9/v1".into(),
            protocol: ModelProtocol::ChatCompletions,
            tools: ToolProtocol::Native,
        };
        Complete {
            call_id: CallId(Uuid::now_v7()),
            session_id: session,
            turn: 1,
            attempt: 1,
            request: CallRequest {
                model: endpoint.model.clone(),
                parameters: self.limits.parameters,
                tools: None,
                schema: None,
                messages: vec![self.message],
            },
            endpoint,
            prices: None,
            predecessor: None,
            kept: 0,
            reserved: Reservation { input_tokens: 60, output_tokens: 40, cost_micros: None },
        }
    }

    async fn ask(&self, asked: &Complete) -> Result<Completed, Problem> {
        ask(&self.deps, asked).await
    }

    async fn end(&self, asked: &Complete) -> CallEnd {
        self.ask(asked).await.unwrap().end
    }

    async fn failure(&self, asked: &Complete) -> CallFailed {
        match self.end(asked).await {
            CallEnd::Failed(failed) => failed,
            answered @ CallEnd::Answered(_) => panic!("{answered:?}"),
        }
    }

    /// Asks in a task of its own, and waits until the model is asked for the `n`th time.
    async fn begin(&self, asked: &Complete, n: usize) -> JoinHandle<Result<Completed, Problem>> {
        let (deps, asked) = (Arc::clone(&self.deps), asked.clone());
        let asking = tokio::spawn(async move { ask(&deps, &asked).await });
        self.until(|| self.model.times_asked() >= n).await;
        asking
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it never was so");
    }

    async fn cancel(&self, call_id: CallId) -> bool {
        let answer: CallCancelAnswer =
            internal(&self.deps, MODEL_CANCEL, &CancelCall { call_id }).await.unwrap();
        answer.was_running
    }

    /// The events of a call.
    async fn events(&self, call: CallId) -> Vec<CallEvent> {
        let recorded = self.factory.journal.load(call.into(), 0).await.unwrap();
        let events = recorded.into_iter().map(|recorded| match recorded.event {
            Event::Call(event) => event,
            other => panic!("{other:?}"),
        });
        events.collect()
    }

    async fn day(&self) -> (String, u64) {
        let day = self.deps.views.newest_call_day().await.unwrap().unwrap();
        (day.day, day.tokens)
    }
}

async fn internal<T: DeserializeOwned>(
    deps: &Deps,
    operation: Operation,
    body: &impl Serialize,
) -> Result<T, Problem> {
    let mut headers = Headers::default();
    headers.set(header::OUTPUTS, header::RECORDED);
    request_reply::call(&*deps.bus, &deps.subjects, operation, body, headers, PATIENCE).await
}

async fn ask(deps: &Deps, asked: &Complete) -> Result<Completed, Problem> {
    internal(deps, MODEL_COMPLETE, asked).await
}

/// A session that stays open.
async fn open_session(factory: &TestFactory) -> SessionId {
    factory.submit(&code("wait")).await.session_id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_asked_for_twice_is_sent_once_and_answered_as_recorded() {
    let kit = CallKit::start(ModelLimits::default()).await;
    kit.model.then(Script::Says(vec!["forty-two"]));
    let asked = kit.call(None);
    let first = kit.begin(&asked, 1).await;
    let (deps, again) = (Arc::clone(&kit.deps), asked.clone());
    let second = tokio::spawn(async move { ask(&deps, &again).await });
    kit.model.gate.0.add_permits(1);
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!(first.end, second.end);
    assert_eq!(kit.end(&asked).await, first.end);
    assert_eq!(kit.model.times_asked(), 1);
    let CallEnd::Answered(answered) = first.end else { panic!("{:?}", second.end) };
    assert_eq!(answered.charged.tokens, 15);
    let blob = kit.factory.journal.blob(answered.message.hash).await.unwrap().unwrap();
    let expected = ChatMessage::Assistant { text: "forty-two".into(), tool_calls: Vec::new() };
    assert_eq!(ChatMessage::from_bytes(&blob).unwrap(), expected);
    let sent = kit.model.asked.lock().unwrap()[0].messages[0].clone();
    assert_eq!(*sent, ChatMessage::User { text: "what is six times seven?".into() });

    // Another request under the same number is no repetition.
    let mut other = asked.clone();
    other.request.parameters.seed = Some(1);
    assert_eq!(kit.ask(&other).await.unwrap_err().status, 409);
    kit.tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_a_crash_lost_is_unknown_charged_whole_and_not_sent_again() {
    let kit = CallKit::start(ModelLimits::default()).await;
    let session = open_session(&kit.factory).await;
    kit.model.then(Script::Hangs);
    let asked = kit.call(Some(session));
    let lost = kit.begin(&asked, 1).await;
    let kit = kit.crash().await;
    assert!(lost.await.unwrap().unwrap_err().is_transient());
    let failed = kit.failure(&asked).await;
    assert_eq!((failed.class, failed.charged.tokens), (ModelErrorClass::Unknown, 100));
    assert!(failed.charged.estimated);
    assert_eq!(kit.failure(&asked).await, failed);
    assert_eq!(kit.model.times_asked(), 1);
    // The next attempt is a request of its own.
    let next = Complete { attempt: 2, ..asked.clone() };
    assert!(matches!(kit.end(&next).await, CallEnd::Answered(_)));
    assert_eq!((kit.model.times_asked(), kit.day().await.1), (2, 115));
    let names: Vec<_> =
        kit.events(asked.call_id).await.into_iter().map(|it| Event::Call(it).name()).collect();
    let expected = ["call.requested", "call.failed", "call.requested", "call.answered"];
    assert_eq!(names, expected);
    kit.tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_at_a_crash_that_no_open_session_waits_for_is_abandoned() {
    let kit = CallKit::start(ModelLimits::default()).await;
    kit.model.then(Script::Hangs);
    let asked = kit.call(Some(SessionId(Uuid::now_v7())));
    let lost = kit.begin(&asked, 1).await;
    let kit = kit.crash().await;
    lost.await.unwrap().unwrap_err();
    kit.deps.starting.close();
    kit.deps.starting.wait().await;
    let events = kit.events(asked.call_id).await;
    let Some(CallEvent::Abandoned(abandoned)) = events.last() else { panic!("{events:?}") };
    assert_eq!((events.len(), abandoned.charged.tokens), (2, 100));
    assert_eq!(kit.deps.views.open_calls().await.unwrap(), []);
    kit.tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_budget_refuses_without_a_record_until_midnight_and_not_twice_in_one_day() {
    let day = Budget { tokens_max: 130, cost_micros_max: None };
    let kit = CallKit::start(ModelLimits { day, ..ModelLimits::default() }).await;
    // Whatever it takes, the sum is what is told, or what was set aside.
    kit.model.then(Script::Used(Some(usage(20, 10))));
    kit.end(&kit.call(None)).await;
    assert_eq!(kit.day().await, ("2026-12-01".to_owned(), 30));
    kit.model.then(Script::Used(Some(usage(0, 0))));
    kit.end(&kit.call(None)).await;
    assert_eq!(kit.day().await.1, 130);

    let refused = kit.call(None);
    let failed = kit.failure(&refused).await;
    assert_eq!(failed.class, ModelErrorClass::DayBudget);
    assert_eq!((failed.charged.tokens, failed.retry_after_ms), (0, Some(12 * 3_600_000)));
    assert!(failed.reason.contains("`model_day_tokens_max`"), "{}", failed.reason);
    assert!(failed.reason.contains("2026-12-02T00:00:00"), "{}", failed.reason);
    assert!(kit.events(refused.call_id).await.is_empty());

    // After a restart the day is read from what is recorded.
    let kit = kit.crash().await;
    assert_eq!(kit.failure(&refused).await.class, ModelErrorClass::DayBudget);
    kit.clock.set("2026-12-02T00:00:00Z");
    assert!(matches!(kit.end(&refused).await, CallEnd::Answered(_)));
    // A clock that is set back does not open the day before again, nor a new one.
    kit.clock.set("2026-11-30T00:00:00Z");
    let kit = kit.crash().await;
    kit.model.then(Script::Used(None));
    kit.end(&kit.call(None)).await;
    assert_eq!(kit.day().await, ("2026-12-02".to_owned(), 115));
    assert_eq!(kit.failure(&kit.call(None)).await.class, ModelErrorClass::DayBudget);
    kit.tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_ends_its_request_and_is_charged_whole() {
    let kit = CallKit::start(ModelLimits { calls_max: 1, ..ModelLimits::default() }).await;
    kit.model.then(Script::Hangs);
    let asked = kit.call(None);
    let asking = kit.begin(&asked, 1).await;
    // Another one waits for the only place, and is cancelled before anything of it is recorded.
    let waiting = kit.call(None);
    let (deps, call) = (Arc::clone(&kit.deps), waiting.clone());
    let waits = tokio::spawn(async move { ask(&deps, &call).await });
    let cancelled = async {
        while !kit.cancel(waiting.call_id).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, cancelled).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap_err().status, 409);
    assert!(kit.events(waiting.call_id).await.is_empty());

    assert!(kit.cancel(asked.call_id).await);
    let CallEnd::Failed(failed) = asking.await.unwrap().unwrap().end else { panic!("an answer") };
    assert_eq!((failed.class, failed.charged.tokens), (ModelErrorClass::Cancelled, 100));
    assert_eq!(kit.model.dropped.load(Ordering::SeqCst), 1);
    assert!(!kit.cancel(asked.call_id).await);
    // The place is free again.
    assert!(matches!(kit.end(&kit.call(None)).await, CallEnd::Answered(_)));
    kit.tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failure_is_charged_depends_on_its_class() {
    let kit = CallKit::start(ModelLimits::default()).await;
    for (class, tokens) in [
        (ModelErrorClass::Credentials, 0),
        (ModelErrorClass::RateLimited, 0),
        (ModelErrorClass::TimedOut, 100),
        (ModelErrorClass::Cut, 100),
    ] {
        let mut error = ModelError::new(class, format!("no: {KNOWN_SECRET}"));
        error.retry_after = Some(Duration::from_secs(2));
        kit.model.then(Script::Fails(Vec::new(), error));
        let failed = kit.failure(&kit.call(None)).await;
        assert_eq!((failed.class, failed.charged.tokens), (class, tokens));
        assert_eq!((&*failed.reason, failed.retry_after_ms), ("no: [masked]", Some(2000)));
    }
    assert_eq!(kit.day().await.1, 200);
    kit.tree.stop().await;
}

/// The next part.
async fn next(parts: &mut Subscription) -> StreamPart {
    let message = tokio::time::timeout(PATIENCE, parts.next()).await.unwrap().unwrap();
    serde_json::from_slice(&message.payload).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_text_comes_in_order_without_secrets_and_is_closed_by_end_or_void() {
    let kit = CallKit::start(ModelLimits::default()).await;
    let session = open_session(&kit.factory).await;
    let subject = kit.deps.subjects.stream(session);
    let mut parts = kit.deps.bus.subscribe((&subject).into(), None, 100).await.unwrap();
    let asked = kit.call(Some(session));
    let said = vec!["It is ", "correct ho", "rse battery", ", as you know"];
    kit.model.then(Script::Says(said));
    let asking = kit.begin(&asked, 1).await;
    kit.model.gate.0.add_permits(1);
    // The first at once: before there is more.
    let first = next(&mut parts).await;
    assert_eq!((&*first.text, first.seq, first.end), ("It is ", 0, None));
    assert_eq!((first.call, first.attempt), (asked.call_id, 1));
    kit.model.gate.0.add_permits(3);
    let (mut text, mut seq) = (first.text, 0);
    loop {
        let part = next(&mut parts).await;
        seq += 1;
        assert_eq!(part.seq, seq);
        text += &part.text;
        if let Some(end) = part.end {
            assert_eq!(end, StreamEnd::End);
            break;
        }
    }
    assert_eq!(text, "It is [masked], as you know");
    let CallEnd::Answered(answered) = asking.await.unwrap().unwrap().end else { panic!() };
    let blob = kit.factory.journal.blob(answered.message.hash).await.unwrap().unwrap();
    let expected = ChatMessage::Assistant { text, tool_calls: Vec::new() };
    assert_eq!(ChatMessage::from_bytes(&blob).unwrap(), expected);

    let asked = kit.call(Some(session));
    let error = ModelError::new(ModelErrorClass::Cut, "cut");
    kit.model.then(Script::Fails(vec!["It was "], error));
    kit.model.gate.0.add_permits(1);
    kit.failure(&asked).await;
    let mut last = next(&mut parts).await;
    while last.end.is_none() {
        last = next(&mut parts).await;
    }
    assert_eq!((last.end, last.call), (Some(StreamEnd::Void), asked.call_id));
    kit.tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_tool_calls_are_kept_without_secrets() {
    let kit = CallKit::start(ModelLimits::default()).await;
    kit.model.then(Script::Calls("{\"code\":\"print('correct horse battery')\"}"));
    let CallEnd::Answered(answered) = kit.end(&kit.call(None)).await else { panic!() };
    let blob = kit.factory.journal.blob(answered.message.hash).await.unwrap().unwrap();
    let kept = ChatMessage::from_bytes(&blob).unwrap();
    let ChatMessage::Assistant { tool_calls, .. } = kept else { panic!("{kept:?}") };
    assert_eq!(tool_calls[0].arguments, "{\"code\":\"print('[masked]')\"}");
    assert_eq!(answered.tool_calls[0].id, tool_calls[0].id);
    // Without a usage what was set aside is charged.
    assert_eq!((answered.charged.tokens, answered.charged.estimated), (100, true));
    kit.tree.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_from_outside_asks_a_model_or_ends_a_call() {
    let kit = CallKit::start(ModelLimits::default()).await;
    let asked = kit.call(None);
    let deps = &kit.deps;
    for ingress in [None, Some("nats"), Some("http"), Some("x")] {
        for operation in [MODEL_COMPLETE, MODEL_CANCEL] {
            let mut headers = Headers::default();
            if let Some(ingress) = ingress {
                headers.set(header::INGRESS, ingress);
                headers.set(header::OUTPUTS, header::RECORDED);
            }
            let refused: Result<Completed, Problem> = request_reply::call(
                &*deps.bus,
                &deps.subjects,
                operation,
                &asked,
                headers,
                PATIENCE,
            )
            .await;
            assert_eq!(refused.unwrap_err().status, 404, "{ingress:?} {operation}");
        }
    }
    assert_eq!(kit.model.times_asked(), 0);
    assert!(!operation::ALL.contains(&MODEL_COMPLETE) && !operation::ALL.contains(&MODEL_CANCEL));
    kit.tree.stop().await;
}
