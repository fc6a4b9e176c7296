//! Sessions with files and a check.

use std::collections::BTreeMap;

use ai_factory_schemas::{
    answer::{CheckOutcome, MissingFilesAnswer, SessionFilePart, Uploaded},
    check::CheckMoment,
    limit::UPLOAD_PART_BYTES_MAX,
    request::{GoalFile, MissingFiles, ReadSessionFile, UploadPart},
    run::RunEvent,
    session::SessionEvent,
    session_files::{ListSessionFiles, SessionFiles},
};
use serde_json::{Value, json};

use super::harness::*;

pub(super) fn text(name: &str, text: &str) -> GoalFile {
    GoalFile { name: name.to_owned(), text: Some(text.to_owned()), ..GoalFile::default() }
}

fn hash(name: &str, content: &str) -> GoalFile {
    let hash = Some(BlobHash::of(content.as_bytes()));
    GoalFile { name: name.to_owned(), hash, ..GoalFile::default() }
}

/// A goal with a step for each program.
pub(super) fn steps(programs: &[&str], files: Vec<GoalFile>, check: Option<&str>) -> Goal {
    let programs: Vec<_> = programs.iter().map(|program| code(program)).collect();
    let check = check.map(|check| json!({ "language": "Python", "code": check }));
    let check = check.map(|check| serde_json::from_value(check).unwrap());
    Goal { files, check, ..goal(&programs.join("\nthen ")) }
}

async fn run(factory: &TestFactory, goal: &Goal) -> SessionAnswer {
    factory.call(operation::SUPERVISOR_RUN, goal).await.unwrap()
}

pub(super) fn records(factory: &TestFactory) -> Vec<Recorded> {
    let raw = factory.journal.read_sync(0, 10_000).unwrap();
    raw.iter().map(|raw| Recorded::decode(&raw.bytes).unwrap()).collect()
}

/// The paths and contents of a session's files now.
pub(super) async fn contents(
    factory: &TestFactory,
    session: &SessionFiles,
) -> BTreeMap<String, String> {
    let mut contents = BTreeMap::new();
    for (path, file) in &session.files.files {
        let content = factory.journal.blob(file.blob).await.unwrap().unwrap();
        let mark = if file.executable { "*" } else { "" };
        contents.insert(path.clone(), String::from_utf8(content).unwrap() + mark);
    }
    contents
}

async fn files(factory: &TestFactory, id: ai_factory_schemas::id::SessionId) -> SessionFiles {
    factory.call(operation::SUPERVISOR_FILES, &SessionSelector::id(id)).await.unwrap()
}

fn tree<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, String> {
    files.map(|(path, content)| (path.to_owned(), content.to_owned())).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_of_a_session_share_its_files() {
    let factory = TestFactory::start().await;
    let programs = [
        "write made/by.txt one\nadd in.txt  more\ndelete gone.txt\nexec run.sh\nlink way.out",
        "read made/by.txt\nread in.txt\nlacks gone.txt\nexit 3",
    ];
    let given = vec![text("in.txt", "in"), text("gone.txt", "g"), text("run.sh", "true")];
    let answer = run(&factory, &steps(&programs, given, None)).await;
    assert_eq!(answer.status, SessionStatus::Partial, "{answer:?}");
    let changed = answer.changed_files.unwrap();
    let paths: Vec<_> = changed.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["gone.txt", "in.txt", "made/by.txt", "run.sh"]);
    assert_eq!(answer.check, None);

    let now = files(&factory, answer.session_id).await;
    assert_eq!(
        contents(&factory, &now).await,
        tree([("in.txt", "in more"), ("made/by.txt", "one"), ("run.sh", "true*")])
    );
    assert_eq!(now.changes, changed);
    let events: Vec<_> = records(&factory).into_iter().map(|record| record.event).collect();
    let trees: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Run(RunEvent::Requested(run)) => run.input.workspace,
            _ => None,
        })
        .collect();
    assert_eq!(trees.iter().map(|tree| tree.files).collect::<Vec<_>>(), [3, 3]);
    assert_ne!(trees[0].manifest, trees[1].manifest);
    let left_out = events.iter().find_map(|event| match event {
        Event::Session(SessionEvent::StepFinished(step)) => step.workspace.clone(),
        _ => None,
    });
    assert_eq!(left_out.unwrap().left_out[0].name, "way.out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_files_and_check_records_what_it_always_did() {
    let factory = TestFactory::start().await;
    let answer = run(&factory, &steps(&["one", "exit 1"], Vec::new(), None)).await;
    assert_eq!((answer.changed_files, answer.check), (None, None));
    let records = records(&factory);
    let names: Vec<_> = records.iter().map(|record| record.event.name()).collect();
    let run = ["session.step_dispatched", "run.requested", "run.dispatched", "run.finished"];
    let mut begin = names[..3].to_vec();
    begin.sort_unstable();
    assert_eq!(begin, ["session.opened", "session.planned", "session.recalled"]);
    let rest = [&run[..], &["session.step_finished"], &run, &["session.step_finished"]].concat();
    assert_eq!(names[3..], [&rest[..], &["session.concluded"]].concat());
    for record in &records {
        let data: Value = serde_json::from_str(&record.event.data().unwrap()).unwrap();
        for field in ["workspace", "check", "protect"] {
            assert_eq!(data.get(field), None, "{}", record.event.name());
        }
    }
    assert_eq!(factory.counted.blobs.load(Ordering::SeqCst), 0);
    let none = files(&factory, answer.session_id).await;
    assert!(none.files.files.is_empty() && none.changes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goal_can_have_a_workspace_into_which_nothing_comes() {
    let factory = TestFactory::start().await;
    let plain = steps(&["write made one", "read made"], Vec::new(), None);
    let answer = run(&factory, &Goal { workspace: true, ..plain.clone() }).await;
    assert_eq!(answer.status, SessionStatus::Success, "{answer:?}");
    let changed = answer.changed_files.unwrap();
    assert_eq!(changed.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["made"]);
    let opened = records(&factory).into_iter().find_map(|record| match record.event {
        Event::Session(SessionEvent::Opened(opened)) => opened.workspace,
        _ => None,
    });
    let opened = opened.unwrap();
    assert_eq!((opened.files, opened.bytes, opened.blob), (0, 0, BlobHash::of(b"{}")));

    // A goal without one is the request that it was before there were any.
    let submit = operation::SUPERVISOR_SUBMIT;
    let old = json!({ "goal": plain.goal, "task_type": plain.task_type });
    let first: Submitted = factory.call_keyed(submit, &old, Some("key")).await.unwrap();
    let again: Submitted = factory.call_keyed(submit, &plain, Some("key")).await.unwrap();
    assert_eq!(first.session_id, again.session_id);
    // Asked for again with a workspace it is the same session, which has none.
    let with = Goal { workspace: true, ..plain.clone() };
    let joined: Submitted = factory.call_keyed(submit, &with, Some("key")).await.unwrap();
    assert_eq!(first.session_id, joined.session_id);
    let other = Goal { files: vec![text("a", "")], ..plain };
    let other = factory.call_keyed::<Submitted>(submit, &other, Some("key")).await;
    assert_eq!(other.unwrap_err().status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_after_the_steps_decides() {
    let factory = TestFactory::start().await;
    for (program, status) in [
        ("write done yes\nexit 7", SessionStatus::Success),
        ("write other yes", SessionStatus::Error),
    ] {
        let check = "write litter x\nhas done yes";
        let answer = run(&factory, &steps(&[program], Vec::new(), Some(check))).await;
        assert_eq!((answer.end, answer.status), (SessionEnd::Completed, status), "{answer:?}");
        let CheckOutcome { moment, exit_code, output, .. } = answer.check.unwrap();
        let is_done = status == SessionStatus::Success;
        assert_eq!((moment, exit_code), (CheckMoment::After, i32::from(!is_done)));
        assert_eq!(output.contains("not so: has done yes"), !is_done);
        assert_eq!(answer.reason.is_some_and(|reason| reason.contains("check")), !is_done);
        // What the check itself writes is nobody's.
        let changed: Vec<_> =
            answer.changed_files.unwrap().into_iter().map(|change| change.path).collect();
        assert_eq!(changed, [if is_done { "done" } else { "other" }]);
        let which = SessionSelector::id(answer.session_id);
        let story: SessionStory =
            factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
        assert_eq!(story.check.unwrap().exit_code, exit_code);
        assert_eq!(story.changed_files.unwrap().len(), 1);
        let checks = story.timeline.iter().filter(|entry| entry.event == "session.check_finished");
        let moments: Vec<_> = checks.map(|entry| entry.data["moment"].clone()).collect();
        assert_eq!(moments, ["before", "after"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_check_says_is_found_with_its_session() {
    let factory = TestFactory::start().await;
    let answer = run(&factory, &steps(&["x"], Vec::new(), Some("has quixotic yes"))).await;
    let asked = json!({ "q": "quixotic", "kind": "session" });
    let found: SearchAnswer = factory.call(operation::MEMORY_SEARCH, &asked).await.unwrap();
    let ids: Vec<_> = found.results.iter().map(|found| found.id.as_str()).collect();
    assert_eq!(ids, [answer.session_id.to_string()]);
    let text = &found.results[0].text;
    assert!(text.contains("[check before] stdout:") && text.contains("[check after]"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_cannot_be_run_ends_the_session_with_no_step_run() {
    let factory = TestFactory::start().await;
    let answer = run(&factory, &steps(&["write a b"], Vec::new(), Some("exit 127"))).await;
    assert_eq!((answer.end, answer.status), (SessionEnd::Failed, SessionStatus::Error));
    let reason = answer.reason.unwrap();
    assert!(reason.contains("the check cannot be run: exit code 127"), "{reason}");
    assert_eq!(factory.sandbox.runs.load(Ordering::SeqCst), 1);
    assert_eq!(answer.check.unwrap().moment, CheckMoment::Before);
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_files_are_restored_and_other_changed_tests_are_named() {
    let factory = TestFactory::start().await;
    let cheat = "write tests/a.py cheat\nwrite tests/conftest.py cheat\nwrite test_b.py new\nwrite src.py x";
    let given = vec![text("tests/a.py", "honest"), text("test_b.py", "old"), text("src.py", "")];
    let check = "has tests/a.py honest\nlacks tests/conftest.py\nhas src.py x";
    let asked =
        Goal { protect: vec!["tests/**".to_owned()], ..steps(&[cheat], given, Some(check)) };
    let answer = run(&factory, &asked).await;
    assert_eq!(answer.status, SessionStatus::Success, "{answer:?}");
    assert_eq!(answer.check.unwrap().changed_tests, ["test_b.py"]);
    let now = files(&factory, answer.session_id).await;
    let expected = [("src.py", "x"), ("test_b.py", "new"), ("tests/a.py", "honest")];
    assert_eq!(contents(&factory, &now).await, tree(expected));
    let restored = records(&factory).into_iter().find_map(|record| match record.event {
        Event::Session(SessionEvent::CheckFinished(check)) => check.restored,
        _ => None,
    });
    assert_eq!(restored.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_files_are_restored_also_where_they_exceed_a_limit_together_with_new_ones() {
    let small = WorkspaceLimits { bytes_max: 10, files_max: 2, ..WorkspaceLimits::default() };
    let small = Limits { workspace: small, ..limits() };
    let factory = TestFactory::start_with(small, true, TempDir::new().unwrap()).await;
    let steal = "delete tests/a\ndelete tests/b\nwrite src 012345678\nwrite more 9";
    let given = vec![text("tests/a", "honest"), text("tests/b", "too")];
    let check = "has tests/a honest\nhas tests/b too\nhas src 012345678\nhas more 9";
    let asked =
        Goal { protect: vec!["tests/**".to_owned()], ..steps(&[steal], given, Some(check)) };
    let answer = run(&factory, &asked).await;
    assert_eq!(answer.status, SessionStatus::Success, "{answer:?}");
    assert_eq!(files(&factory, answer.session_id).await.files.bytes(), 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn if_one_change_does_not_fit_none_is_taken_and_the_record_says_so() {
    let small = WorkspaceLimits { bytes_max: 10, ..WorkspaceLimits::default() };
    let small = Limits { workspace: small, ..limits() };
    let factory = TestFactory::start_with(small, true, TempDir::new().unwrap()).await;
    let programs = ["delete a\nbig b", "write c 0123456789012", "has a 1"];
    let answer = run(&factory, &steps(&programs, vec![text("a", "1")], None)).await;
    assert_eq!(answer.status, SessionStatus::Success, "{answer:?}");
    assert_eq!(answer.changed_files.unwrap(), []);
    let refused: Vec<_> = records(&factory)
        .into_iter()
        .filter_map(|record| match record.event {
            Event::Session(SessionEvent::StepFinished(step)) => step.workspace?.refused,
            _ => None,
        })
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("\"b\" is too large"), "{refused:?}");
    assert!(refused[1].contains("bytes in all: at most 10"), "{refused:?}");
    for (step, why) in refused.iter().enumerate() {
        let block = format!("[step {step}] workspace:\nno change was taken: {why}");
        assert!(answer.result.contains(&block), "{}", answer.result);
        assert!(answer.summary.contains(&block), "{}", answer.summary);
    }
    assert_eq!(answer.result.matches("no change").count(), 2, "{}", answer.result);

    let large = steps(&["x"], vec![text("a", "0123456789x")], None);
    let path = steps(&["x"], vec![text(".git/config", "x")], None);
    let absent = steps(&["x"], vec![hash("a", "nowhere")], None);
    for (goal, status, words) in [
        (large, 413, "bytes in all: at most 10"),
        (path, 400, "\".git/config\" does not belong"),
        (absent, 400, "does not have the content"),
    ] {
        let problem = factory.call::<Submitted>(operation::SUPERVISOR_SUBMIT, &goal).await;
        let problem = problem.unwrap_err();
        assert_eq!(problem.status, status, "{problem}");
        assert!(problem.sentence().contains(words), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_takes_effect_once_however_its_files_were_sent() {
    let factory = TestFactory::start().await;
    let asked = |files| steps(&["read a"], files, None);
    let submit = async |goal: Goal| {
        let submit = operation::SUPERVISOR_SUBMIT;
        factory.call_keyed::<Submitted>(submit, &goal, Some("key")).await
    };
    let first = submit(asked(vec![text("a", "1"), text("b", "2")])).await.unwrap();
    let second = submit(asked(vec![hash("b", "2"), hash("a", "1")])).await.unwrap();
    assert_eq!(first.session_id, second.session_id);
    let other = submit(asked(vec![text("a", "2"), text("b", "2")])).await.unwrap_err();
    assert_eq!(other.status, 409);
    let opened = records(&factory);
    let opened = opened.iter().filter(|record| record.event.name() == "session.opened");
    assert_eq!(opened.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_come_by_hash_from_uploads_and_from_the_journal() {
    let factory = TestFactory::start().await;
    let known = "from an earlier goal";
    run(&factory, &steps(&["x"], vec![text("k", known)], None)).await;
    let content = "sent before";
    let [sent, never] = [content, "never sent"].map(|content| BlobHash::of(content.as_bytes()));
    let hashes = vec![never, BlobHash::of(known.as_bytes()), sent];
    let missing: MissingFilesAnswer = factory
        .call(operation::SUPERVISOR_MISSING, &MissingFiles { hashes: hashes.clone() })
        .await
        .unwrap();
    assert_eq!(missing.missing, [never, sent]);

    let asked = steps(&["read s\nread k"], vec![hash("s", content), hash("k", known)], None);
    let refused = factory.call::<Submitted>(operation::SUPERVISOR_SUBMIT, &asked).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.status, 400);
    let told = refused.sentence();
    assert!(told.contains("\"s\"") && told.contains(&sent.to_string()), "{told}");

    let part = |offset: u64, part: &str, hash| UploadPart {
        hash,
        bytes: content.len() as u64,
        offset,
        content_base64: RunFile::new(String::new(), part.as_bytes()).content_base64,
    };
    let put = async |part: UploadPart| {
        factory.call::<Uploaded>(operation::SUPERVISOR_UPLOAD, &part).await
    };
    assert!(!put(part(0, &content[..4], sent)).await.unwrap().complete);
    assert!(put(part(4, &content[4..], sent)).await.unwrap().complete);
    let answer = run(&factory, &asked).await;
    assert!(answer.result.contains("sent beforefrom an earlier goal"), "{answer:?}");
    // What the journal has need not come again.
    assert!(put(part(0, &content[..4], sent)).await.unwrap().complete);
    let large = "x".repeat(UPLOAD_PART_BYTES_MAX + 1);
    for (status, part) in [
        (400, part(3, content, never)),
        (400, part(0, "", never)),
        (400, UploadPart { content_base64: "%".to_owned(), ..part(0, "", never) }),
        (413, UploadPart { bytes: u64::MAX, ..part(0, "x", never) }),
        (413, UploadPart { bytes: 3_000_000, ..part(0, &large, never) }),
        (400, UploadPart { bytes: 1, ..part(0, "x", sent) }),
    ] {
        assert_eq!(put(part).await.unwrap_err().status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_sessions_on_the_same_files_store_them_once() {
    let factory = TestFactory::start().await;
    let given: Vec<_> = (0..20).map(|n| text(&n.to_string(), &format!("content {n}"))).collect();
    let asked = steps(&["has 3 content 3"], given, None);
    for _ in 0..10 {
        assert_eq!(run(&factory, &asked).await.status, SessionStatus::Success);
        // The files, and the list of them.
        assert_eq!(factory.counted.blobs.load(Ordering::SeqCst), 21);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_an_open_session_is_read_in_parts_and_an_unknown_one_is_told() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let long = "0123456789".repeat(60_000);
    let asked = steps(&["wait"], vec![text("a/long", &long)], None);
    let open: Submitted = factory.call(operation::SUPERVISOR_SUBMIT, &asked).await.unwrap();
    wait_for(&mut events, "run.dispatched").await;
    let read = async |path: &str, offset| {
        let asked = ReadSessionFile { id: open.session_id.into(), path: path.to_owned(), offset };
        factory.call::<SessionFilePart>(operation::SUPERVISOR_FILE, &asked).await
    };
    let (mut whole, mut parts) = (Vec::new(), 0);
    while whole.len() < long.len() {
        let part = read("a/long", whole.len() as u64).await.unwrap();
        assert_eq!(part.file.bytes, long.len() as u64);
        let part = RunFile { name: String::new(), content_base64: part.content_base64 };
        whole.extend(part.bytes().unwrap());
        parts += 1;
    }
    assert_eq!((whole == long.as_bytes(), parts), (true, 2));
    assert_eq!(read("a", 0).await.unwrap_err().status, 404);
    assert_eq!(read("a/long", u64::MAX).await.unwrap_err().status, 400);
    factory.sandbox.gate.add_permits(1);
    wait_for(&mut events, "session.concluded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_set_by_sessions_only() {
    let factory = TestFactory::start().await;
    for field in [json!({ "workspace": { "files": {} } }), json!({ "wall_ms_max": 1 })] {
        let mut asked = json!({ "code": "x" });
        asked.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        let refused = factory.call::<RunAnswer>(operation::DEBUGGER_RUN, &asked).await;
        assert_eq!(refused.unwrap_err().status, 400);
    }
    assert_eq!(factory.journal.head().position, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_steps_does_not_cut_a_check() {
    let short = Limits { step_max: Duration::from_millis(50), ..limits() };
    let factory = TestFactory::start_with(short, true, TempDir::new().unwrap()).await;
    let mut events = factory.events().await;
    let asked = steps(&[], Vec::new(), Some("wait"));
    let asked = Goal { goal: "Nothing to run".to_owned(), ..asked };
    let open: Submitted = factory.call(operation::SUPERVISOR_SUBMIT, &asked).await.unwrap();
    wait_for(&mut events, "run.dispatched").await;
    // A step that begins later is cut first.
    let cut = run(&factory, &steps(&["hang"], Vec::new(), None)).await;
    assert!(cut.result.contains("deadline"), "{cut:?}");
    factory.sandbox.gate.add_permits(2);
    loop {
        let concluded = wait_for(&mut events, "session.concluded").await;
        if concluded.stream.id == open.session_id.0 {
            break;
        }
    }
    let which = SessionSelector::id(open.session_id);
    let story: SessionStory = factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
    assert_eq!(story.row.status.as_str(), "success", "{:?}", story.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_session_ends_the_run_of_its_check() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let asked = steps(&["x"], Vec::new(), Some("hang"));
    let open: Submitted = factory.call(operation::SUPERVISOR_SUBMIT, &asked).await.unwrap();
    wait_for(&mut events, "run.dispatched").await;
    let which = SessionSelector::id(open.session_id);
    let _: SessionStatusAnswer = factory.call(operation::SUPERVISOR_CANCEL, &which).await.unwrap();
    let ended = wait_for(&mut events, "run.finished").await;
    let Event::Run(RunEvent::Finished(finished)) = ended.event else { panic!("{ended:?}") };
    assert_eq!(finished.end.ended_by, EndedBy::Cancel);
}

/// Sends a content as one part.
async fn upload(factory: &TestFactory, content: &str) {
    let part = UploadPart {
        hash: BlobHash::of(content.as_bytes()),
        bytes: content.len() as u64,
        offset: 0,
        content_base64: RunFile::new(String::new(), content.as_bytes()).content_base64,
    };
    let answer: Uploaded = factory.call(operation::SUPERVISOR_UPLOAD, &part).await.unwrap();
    assert!(answer.complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_dropped_once_the_journal_has_their_contents() {
    let factory = TestFactory::start().await;
    let contents = ["one", "two", "another's"];
    for content in contents {
        upload(&factory, content).await;
    }
    let kept = async || {
        let hashes = contents.map(|content| BlobHash::of(content.as_bytes())).to_vec();
        factory.deps.uploads.has(hashes).await.unwrap()
    };
    // One is named by its hash, the other comes a second time with the goal.
    let asked = steps(&["read a\nread b"], vec![hash("a", "one"), text("b", "two")], None);
    factory.counted.busy_left.store(1, Ordering::SeqCst);
    factory.call::<Submitted>(operation::SUPERVISOR_SUBMIT, &asked).await.unwrap_err();
    assert_eq!(kept().await, [true; 3], "nothing was appended");
    factory.call::<Submitted>(operation::SUPERVISOR_SUBMIT, &asked).await.unwrap();
    assert_eq!(kept().await, [false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn goals_at_the_same_time_share_an_upload() {
    let factory = TestFactory::start().await;
    upload(&factory, "shared").await;
    let asked = steps(&["read s"], vec![hash("s", "shared")], None);
    let answers = futures_util::future::join_all((0..16).map(|_| run(&factory, &asked))).await;
    for answer in answers {
        assert_eq!(answer.status, SessionStatus::Success, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_file_after_file_loads_only_what_is_new_and_misses_nothing() {
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let mut given: Vec<_> =
        (0..20).map(|n| text(&n.to_string(), &format!("content {n}"))).collect();
    given.push(text("in.txt", "in"));
    let programs = ["add in.txt  more", "add in.txt  and more\nwait"];
    let asked = steps(&programs, given, None);
    let open: Submitted = factory.call(operation::SUPERVISOR_SUBMIT, &asked).await.unwrap();
    for _ in 0..2 {
        wait_for(&mut events, "run.dispatched").await;
    }
    let read = async |path: &str| {
        let asked =
            ReadSessionFile { id: open.session_id.into(), path: path.to_owned(), offset: 0 };
        let part: SessionFilePart = factory.call(operation::SUPERVISOR_FILE, &asked).await.unwrap();
        let part = RunFile { name: String::new(), content_base64: part.content_base64 };
        String::from_utf8(part.bytes().unwrap()).unwrap()
    };
    assert_eq!(read("in.txt").await, "in more");
    let loaded = || factory.counted.loaded.load(Ordering::SeqCst);
    let before = loaded();
    for n in 0..20 {
        assert_eq!(read(&n.to_string()).await, format!("content {n}"));
    }
    assert_eq!(loaded(), before, "no event again");
    factory.sandbox.gate.add_permits(1);
    wait_for(&mut events, "session.concluded").await;
    assert_eq!(read("in.txt").await, "in more and more");
    let now = files(&factory, open.session_id).await;
    assert_eq!(now.changes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changed_files_fit_every_answer_and_are_listed_in_pages() {
    let factory = TestFactory::start().await;
    let names: Vec<_> = (0..150).map(|n| format!("{n:03}{}", "x".repeat(200))).collect();
    let writes: Vec<_> = names.iter().map(|name| format!("write {name} new")).collect();
    let answer = run(&factory, &steps(&[&writes.join("\n")], vec![text("old", "")], None)).await;
    let paths: Vec<_> = answer.changed_files.unwrap().into_iter().map(|file| file.path).collect();
    assert_eq!((&paths[..], answer.changed_files_count), (&names[..100], Some(150)));
    let which = SessionSelector::id(answer.session_id);
    let story: SessionStory = factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
    assert_eq!((story.changed_files.unwrap().len(), story.changed_files_count), (100, Some(150)));

    let whole = files(&factory, answer.session_id).await;
    assert_eq!((whole.changes.len(), whole.files.files.len(), &whole.next), (150, 151, &None));
    let mut asked = ListSessionFiles { which, limit: Some(100), after: None };
    let mut paged: SessionFiles = factory.call(operation::SUPERVISOR_FILES, &asked).await.unwrap();
    assert_eq!((paged.files.files.len(), paged.next.as_ref()), (100, Some(&names[99])));
    asked.after = paged.next.clone();
    paged.append(factory.call(operation::SUPERVISOR_FILES, &asked).await.unwrap());
    assert_eq!(paged, whole);
    asked.limit = Some(0);
    let refused = factory.call::<SessionFiles>(operation::SUPERVISOR_FILES, &asked).await;
    assert_eq!(refused.unwrap_err().status, 422);
}
