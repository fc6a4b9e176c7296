//! Every operation: its answer, its refusals, its keys, its limits.

use ai_factory_actors::admission::REQUESTS_BYTES_MAX;

use super::harness::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_the_contract_says() {
    let factory = TestFactory::start().await;
    let plan: Dispatched = factory
        .call(
            operation::PLANNER_DISPATCH,
            &Dispatch { prompt: "build a shop".into(), task_type: "coding".parse().unwrap() },
        )
        .await
        .unwrap();
    assert!(plan.plan.steps[0].action.contains("Scaffold repo"));
    assert!(plan.plan.estimated_tokens >= 32);
    // I-13: reads see every write, in every view, at once.
    let logs: Vec<LogRow> = factory.call(operation::MEMORY_LOGS, &Newest::default()).await.unwrap();
    assert_eq!(logs[0].request_id, plan.request_id);

    let ran: RunAnswer = factory
        .call(operation::DEBUGGER_RUN, &serde_json::json!({ "code": "exit 3" }))
        .await
        .unwrap();
    assert_eq!((ran.status, ran.exit_code, ran.attempts), (RunStatus::Error, 3, 1));
    let odd: RunAnswer = factory
        .call(operation::DEBUGGER_RUN, &serde_json::json!({ "code": "x", "language": "COBOL" }))
        .await
        .unwrap();
    assert_eq!((odd.exit_code, odd.stderr.as_str()), (2, "Unsupported language: cobol"));

    let answer = factory.run(&code("hello")).await.unwrap();
    assert_eq!(answer.status, SessionStatus::Success);
    assert_eq!(answer.result, "[step 0] stdout:\nhello");
    let story: SessionStory = factory
        .call(operation::SUPERVISOR_SESSION, &SessionSelector::id(answer.session_id))
        .await
        .unwrap();
    assert_eq!(story.result, answer.result);
    assert!(story.timeline.iter().any(|entry| entry.event == "run.finished"));

    let _: Remembered = factory
        .call(
            operation::MEMORY_REMEMBER,
            &Remember { text: "the kettle is blue".into(), tags: vec![] },
        )
        .await
        .unwrap();
    let found: SearchAnswer = factory
        .call(operation::MEMORY_SEARCH, &SearchRuns { q: "blue kettle".into(), n: None })
        .await
        .unwrap();
    assert_eq!(found.results[0].text.lines().next(), Some("the kettle is blue"));
    let recalled = factory.run("where is the kettle").await.unwrap();
    assert!(recalled.context.iter().any(|text| text.contains("kettle is blue")), "{recalled:?}");
    assert_eq!(recalled.result, "no-op");
    // A goal is no query: what it quotes need not stand in a memory, and what has a minus may.
    let recalled = factory.run("say \"where is\" the kettle, not -blue").await.unwrap();
    assert!(recalled.context.iter().any(|text| text.contains("kettle is blue")), "{recalled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why_and_leaves_no_record() {
    let factory = TestFactory::start().await;
    let too_long = "x".repeat(200_000);
    let many = (0..80).map(|n| format!("{n}. do thing {n}")).collect::<Vec<_>>().join("\n");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    for (operation, body, status) in [
        (operation::PLANNER_DISPATCH, json(r#"{"prompt": "  "}"#), 422),
        (operation::PLANNER_DISPATCH, json(r#"{"prompt": "x", "task_type": "magic"}"#), 422),
        (operation::PLANNER_DISPATCH, json("{}"), 422),
        (operation::PLANNER_DISPATCH, json("[]"), 422),
        (operation::DEBUGGER_RUN, json("{}"), 400),
        (operation::DEBUGGER_RUN, json(r#"{"code": ""}"#), 400),
        (operation::SUPERVISOR_RUN, json("{}"), 400),
        (operation::SUPERVISOR_RUN, json(r#"{"goal": " \n"}"#), 400),
        (operation::SUPERVISOR_RUN, json(r#"{"goal": "a\u0000b"}"#), 400),
        (operation::SUPERVISOR_RUN, serde_json::json!({ "goal": too_long }), 413),
        (operation::SUPERVISOR_RUN, serde_json::json!({ "goal": many }), 422),
        (operation::MEMORY_SEARCH, json(r#"{"q": ""}"#), 422),
        (operation::MEMORY_SEARCH, json(r#"{"q": "x", "n": 21}"#), 422),
        (operation::MEMORY_LOGS, json(r#"{"limit": 0}"#), 422),
        (operation::MEMORY_LOGS, json(r#"{"limit": 501}"#), 422),
        (operation::MEMORY_REMEMBER, json(r#"{"text": " "}"#), 422),
        (operation::SUPERVISOR_STATUS, json(r#"{"limit": -1}"#), 422),
        (operation::SUPERVISOR_SESSION, json("{}"), 400),
        (operation::SUPERVISOR_SESSION, json(r#"{"key": "never used"}"#), 404),
    ] {
        let refused = factory.call::<serde_json::Value>(operation, &body).await.unwrap_err();
        assert_eq!(refused.status, status, "{operation} {body:.60}: {refused}");
        assert!(!refused.sentence().is_empty());
    }
    assert_eq!(factory.journal.head().position, 0, "a refused request leaves no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_goal_that_cannot_be_planned_is_recorded_as_rejected() {
    let factory = TestFactory::start().await;
    let many = (0..65).map(|n| format!("{n}. do {n}")).collect::<Vec<_>>().join("\n");
    let refused = factory
        .call::<Submitted>(operation::SUPERVISOR_ACCEPT, &serde_json::json!({ "goal": many }))
        .await
        .unwrap_err();
    assert_eq!(refused.status, 422, "{refused}");
    let recorded = factory.journal.read_sync(0, 10).unwrap();
    assert_eq!(recorded.len(), 1);
    let event = Recorded::decode(&recorded[0].bytes).unwrap().event;
    assert_eq!(event.name(), "goal.rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_none_is_refused_in_plain_characters_and_a_published_goal_is_recorded_so() {
    let factory = TestFactory::start().await;
    let key = "a\u{1b}[2Jb\u{7}";
    for operation in [operation::SUPERVISOR_RUN, operation::SUPERVISOR_SUBMIT] {
        let asked = factory.call_keyed::<Submitted>(operation, &goal("x"), Some(key)).await;
        let refused = asked.unwrap_err();
        assert_eq!(refused.status, 400, "{refused}");
        let said = refused.sentence();
        assert!(said.contains(r"a\u{1b}[2Jb\u{7}") && !said.contains(char::is_control), "{said:?}");
    }
    assert_eq!(factory.journal.head().position, 0);
    let accept = operation::SUPERVISOR_ACCEPT;
    let asked = factory.call_keyed::<Submitted>(accept, &goal("x"), Some(key)).await;
    assert_eq!(asked.unwrap_err().status, 400);
    let recorded = factory.journal.read_sync(0, 10).unwrap();
    assert_eq!(recorded.len(), 1);
    let event = Recorded::decode(&recorded[0].bytes).unwrap().event;
    assert_eq!(event.name(), "goal.rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn i_5_a_key_takes_effect_once_through_every_operation() {
    let factory = TestFactory::start().await;
    let hello = goal(&code("hello"));
    let first: SessionAnswer =
        factory.call_keyed(operation::SUPERVISOR_RUN, &hello, Some("k1")).await.unwrap();
    let again: SessionAnswer =
        factory.call_keyed(operation::SUPERVISOR_RUN, &hello, Some("k1")).await.unwrap();
    assert_eq!(first, again);
    let submitted: Submitted =
        factory.call_keyed(operation::SUPERVISOR_SUBMIT, &hello, Some("k1")).await.unwrap();
    assert_eq!(submitted.session_id, first.session_id);
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 1);

    let other = goal("something else");
    let refused = factory
        .call_keyed::<SessionAnswer>(operation::SUPERVISOR_RUN, &other, Some("k1"))
        .await
        .unwrap_err();
    assert_eq!(refused.status, 409);
    let refused = factory
        .call_keyed::<Remembered>(
            operation::MEMORY_REMEMBER,
            &Remember { text: "x".into(), tags: vec![] },
            Some("k1"),
        )
        .await
        .unwrap_err();
    assert_eq!(refused.status, 409, "keys are one namespace for all operations");

    // At once, from many: one session, one answer.
    let wait = goal(&code("together"));
    let asked = (0..16)
        .map(|_| factory.call_keyed::<SessionAnswer>(operation::SUPERVISOR_RUN, &wait, Some("k2")));
    let answers = futures_util::future::join_all(asked).await;
    let ids: std::collections::HashSet<_> =
        answers.into_iter().map(|answer| answer.unwrap().session_id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 2);

    let run = serde_json::json!({ "code": "once" });
    let asked =
        (0..8).map(|_| factory.call_keyed::<RunAnswer>(operation::DEBUGGER_RUN, &run, Some("k3")));
    let answers = futures_util::future::join_all(asked).await;
    let ids: std::collections::HashSet<_> =
        answers.into_iter().map(|answer| answer.unwrap().run_id).collect();
    assert_eq!((ids.len(), factory.sandbox.runs.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_code_is_one_append_and_one_with_code_four() {
    let factory = TestFactory::start().await;
    let appends = || factory.counted.appends.load(Ordering::SeqCst);
    factory.run("just think").await.unwrap();
    assert_eq!((appends(), factory.journal.head().position), (1, 5));
    factory.run(&code("hello")).await.unwrap();
    // Before the run is asked for, before the program starts, after it ended, before the answer.
    assert_eq!(appends(), 1 + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_are_refused_with_the_time_to_try_again() {
    let narrow = Limits { sessions_max: 2, runs_max: 1, runs_waiting_max: 1, ..limits() };
    let factory = TestFactory::start_with(narrow, true, TempDir::new().unwrap()).await;
    let mut events = factory.events().await;
    for _ in 0..2 {
        factory.submit(&code("wait")).await;
    }
    wait_for(&mut events, "run.dispatched").await;
    let refused = factory.run("one more").await.unwrap_err();
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after.is_some_and(|after| !after.is_zero()));
    // One session runs, the other waits for its turn: the queue of runs is full as well.
    let direct = serde_json::json!({ "code": "wait" });
    // Of the second session and these two, only one finds a place to wait.
    let ask = || Box::pin(factory.call::<RunAnswer>(operation::DEBUGGER_RUN, &direct));
    let (first, _) = futures_util::future::select(ask(), ask()).await.factor_first();
    let busy = first.unwrap_err();
    assert_eq!(busy.status, 503);
    factory.sandbox.gate.add_permits(10);
    for _ in 0..2 {
        wait_for(&mut events, "session.concluded").await;
    }
    assert_eq!(factory.run("one more").await.unwrap().status, SessionStatus::Success);
}

#[tokio::test]
async fn of_many_who_ask_in_one_moment_each_gets_an_answer() {
    let narrow = Limits { requests_waiting_max: 4, ..limits() };
    let factory = TestFactory::start_with(narrow, true, TempDir::new().unwrap()).await;
    // All of them ask before an actor has its turn.
    let factory = &factory;
    let asked = (0..300).map(async |number| {
        let dispatch = serde_json::json!({ "prompt": format!("One of many {number}") });
        factory.call::<Dispatched>(operation::PLANNER_DISPATCH, &dispatch).await
    });
    let (done, refused): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(asked).await.into_iter().partition(Result::is_ok);
    assert!(!done.is_empty() && !refused.is_empty(), "{} done", done.len());
    for problem in refused.into_iter().filter_map(Result::err) {
        assert!(problem.status == 503 && problem.retry_after.is_some(), "{problem}");
    }
}

#[tokio::test]
async fn bodies_that_are_too_much_together_are_refused_with_the_time_to_try_again() {
    const BYTES: usize = 1_000_000;
    const FIT: usize = REQUESTS_BYTES_MAX / BYTES;
    let factory = TestFactory::start().await;
    let factory = &factory;
    // All of them ask before the actor has its turn; each alone would be refused for its text.
    let long = serde_json::json!({ "text": "x".repeat(BYTES) });
    let asked = (0..FIT + 9).map(|_| factory.call::<Remembered>(operation::MEMORY_REMEMBER, &long));
    let refused = futures_util::future::join_all(asked).await;
    let statuses = |status| {
        let problems = refused.iter().filter_map(|refused| refused.as_ref().err());
        problems.filter(move |problem| problem.status == status)
    };
    assert!(statuses(503).all(|problem| problem.retry_after.is_some()));
    assert_eq!((statuses(503).count(), statuses(422).count()), (9, FIT));
    // The room is given back.
    let note = Remember { text: "the kettle is blue".into(), tags: vec![] };
    factory.call::<Remembered>(operation::MEMORY_REMEMBER, &note).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_gets_and_what_it_leaves_stand_in_its_record_and_in_every_answer() {
    let factory = TestFactory::start().await;
    let long = "ä".repeat(40_000);
    let raw = RunFile::new("data/raw.bin".into(), &[0xff, 0, 1]);
    let notes = RunFile::new("notes.txt".into(), long.as_bytes());
    let asked = serde_json::json!({
        "code": "cat x",
        "stdin": long,
        "files": [raw, notes],
        "return_files": ["data/raw.bin", "notes.txt", "missing.txt"],
    });
    let first: RunAnswer =
        factory.call_keyed(operation::DEBUGGER_RUN, &asked, Some("files")).await.unwrap();
    assert_eq!(first.stdout, long);
    assert_eq!(first.files, [raw, notes]);
    assert_eq!(first.files_left_out[0].name, "missing.txt");

    // From the record: nothing runs again.
    let factory = factory.restart(limits(), true).await;
    let again: RunAnswer =
        factory.call_keyed(operation::DEBUGGER_RUN, &asked, Some("files")).await.unwrap();
    assert_eq!((again, factory.sandbox.runs.load(Ordering::SeqCst)), (first, 0));

    // What a program gets is part of what the key stands for.
    let other = serde_json::json!({ "code": "cat x", "stdin": "other" });
    let refused = factory
        .call_keyed::<RunAnswer>(operation::DEBUGGER_RUN, &other, Some("files"))
        .await
        .unwrap_err();
    assert_eq!(refused.status, 409);
    let outside =
        serde_json::json!({ "code": "cat x", "files": [{ "name": "../x", "content_base64": "" }] });
    let refused = factory.call::<RunAnswer>(operation::DEBUGGER_RUN, &outside).await.unwrap_err();
    assert_eq!(refused.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_of_any_kind_is_forgotten_once_and_a_key_gets_the_first_answer_again() {
    let factory = TestFactory::start().await;
    let note = Remember { text: "the kettle is blue".into(), tags: vec![] };
    let kept: Remembered = factory.call(operation::MEMORY_REMEMBER, &note).await.unwrap();
    let session = factory.run("paint the kettle green").await.unwrap().session_id;
    let search = SearchRuns { q: "kettle".into(), n: Some(20) };
    let found = async || -> Vec<String> {
        let found: SearchAnswer = factory.call(operation::MEMORY_SEARCH, &search).await.unwrap();
        found.results.into_iter().map(|found| found.id).collect()
    };
    assert_eq!(found().await.len(), 2);
    for (id, key) in [(kept.id.0, None), (session.0, Some("forget it"))] {
        let forget = Forget { id: MemoryId(id) };
        let ask = async |key| {
            factory.call_keyed::<Forgotten>(operation::MEMORY_FORGET, &forget, key).await
        };
        let first = ask(key).await.unwrap();
        assert_eq!(first.id.0, id);
        assert!(!found().await.contains(&id.to_string()));
        assert_eq!(ask(None).await.unwrap_err().status, 404);
        match key {
            Some(_) => assert_eq!(ask(key).await.unwrap(), first),
            None => assert_eq!(ask(Some("another")).await.unwrap_err().status, 404),
        }
    }
    let nobody = Forget { id: MemoryId(Uuid::now_v7()) };
    let refused = factory
        .call_keyed::<Forgotten>(operation::MEMORY_FORGET, &nobody, Some("forget it"))
        .await
        .unwrap_err();
    assert_eq!(refused.status, 409, "{refused}");
    let before = factory.journal.head().position;
    let refused = factory.call::<Forgotten>(operation::MEMORY_FORGET, &nobody).await.unwrap_err();
    assert_eq!((refused.status, factory.journal.head().position), (404, before));
    // A session recalls it no more.
    let recalled = factory.run("which colour has the kettle").await.unwrap();
    assert!(recalled.context.is_empty(), "{recalled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memories_than_are_kept_are_forgotten_with_one_record() {
    let mut factory = TestFactory::start().await;
    for number in 0..10 {
        let note = Remember { text: format!("kettle {number}"), tags: vec![] };
        let _: Remembered = factory.call(operation::MEMORY_REMEMBER, &note).await.unwrap();
    }
    factory = factory.restart(Limits { memories_max: Some(4), ..limits() }, true).await;
    let mut heads = factory.journal.watch();
    heads.wait_for(|head| head.position == 11).await.unwrap();
    let search = SearchRuns { q: "kettle".into(), n: Some(20) };
    let found: SearchAnswer = factory.call(operation::MEMORY_SEARCH, &search).await.unwrap();
    let mut texts: Vec<String> = found.results.into_iter().map(|found| found.text).collect();
    texts.sort();
    assert_eq!(texts, ["kettle 6", "kettle 7", "kettle 8", "kettle 9"]);
    let recorded = factory.journal.read_sync(10, 10).unwrap();
    let Event::Memory(MemoryEvent::Expired(expired)) =
        Recorded::decode(&recorded[0].bytes).unwrap().event
    else {
        panic!("not the record of it")
    };
    assert_eq!((expired.upto, expired.memories, expired.memories_max), (6, 6, Some(4)));
    factory =
        factory.restart(Limits { memory_age_max: Some(Duration::ZERO), ..limits() }, true).await;
    let mut heads = factory.journal.watch();
    heads.wait_for(|head| head.position == 12).await.unwrap();
    let found: SearchAnswer = factory.call(operation::MEMORY_SEARCH, &search).await.unwrap();
    assert!(found.results.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_notes_each_is_judged_on_its_own_and_kept_once() {
    let factory = TestFactory::start().await;
    let mut notes: Vec<_> =
        (0..600).map(|n| serde_json::json!({ "text": format!("kettle {n}") })).collect();
    notes[7] = serde_json::json!({ "text": " " });
    notes[8]["key"] = "kettle 8".into();
    let body = serde_json::json!({ "notes": notes });
    let ask = async |body: &serde_json::Value, key| {
        factory.call_keyed::<Imported>(operation::MEMORY_IMPORT, body, key).await
    };
    let first = ask(&body, Some("all of them")).await.unwrap();
    assert_eq!((first.notes.len(), factory.journal.head().position), (600, 599));
    for (index, note) in first.notes.iter().enumerate() {
        match note {
            NoteOutcome::Kept { .. } => assert_ne!(index, 7),
            NoteOutcome::Refused { status, detail } => {
                let said = serde_json::to_string(detail).unwrap();
                assert!(said.contains(r#"["body","notes",7,"text"]"#), "{said}");
                assert_eq!((index, *status), (7, 422));
            }
        }
    }
    assert_eq!(ask(&body, Some("all of them")).await.unwrap().notes, first.notes);
    // The key of a note holds in whatever request it comes, alone too.
    let again = serde_json::json!({ "notes": [{ "text": "kettle 8", "key": "kettle 8" }] });
    assert_eq!(ask(&again, None).await.unwrap().notes[0], first.notes[8]);
    let alone = Remember { text: "kettle 8".into(), tags: vec![] };
    let alone =
        factory.call_keyed::<Remembered>(operation::MEMORY_REMEMBER, &alone, Some("kettle 8"));
    assert_eq!(NoteOutcome::Kept { id: alone.await.unwrap().id }, first.notes[8]);
    assert_eq!(factory.journal.head().position, 599);
    for refused in [
        serde_json::json!({ "notes": [] }),
        serde_json::json!({ "notes": vec![serde_json::json!({ "text": "x" }); 1_001] }),
        serde_json::json!({ "notes": [{ "text": 1 }] }),
        serde_json::json!({}),
    ] {
        assert_eq!(ask(&refused, None).await.unwrap_err().status, 422);
    }
}
