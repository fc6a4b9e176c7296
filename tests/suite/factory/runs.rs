//! What the debugger is asked to run, and what it refuses.

use ai_factory_schemas::{run::RunEvent, session::SessionEvent};
use serde_json::{Value, json};

use super::harness::*;

async fn logged(factory: &TestFactory) -> usize {
    let rows: Vec<Value> =
        factory.call(operation::DEBUGGER_LOGS, &Newest { limit: Some(200) }).await.unwrap();
    rows.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_a_language_that_is_not_here_says_which_languages_are() {
    let factory = TestFactory::start().await;
    for language in ["cobol", "Ruby", "", "python2"] {
        let (key, asked) =
            (format!("key-{}", language.len()), json!({ "code": "x", "language": language }));
        let answer: RunAnswer =
            factory.call_keyed(operation::DEBUGGER_RUN, &asked, Some(&key)).await.unwrap();
        assert_eq!(answer.stderr, format!("Unsupported language: {}", language.to_lowercase()));
        assert_eq!((answer.exit_code, answer.ended_by), (2, EndedBy::Unsupported));
        let reason = answer.reason.as_deref().unwrap();
        assert!(reason.ends_with("these do: python"), "{reason}");
        // From the record.
        let again: RunAnswer =
            factory.call_keyed(operation::DEBUGGER_RUN, &asked, Some(&key)).await.unwrap();
        assert_eq!(again, answer);
    }
    let answer: RunAnswer =
        factory.call(operation::DEBUGGER_RUN, &json!({ "code": "exit 3" })).await.unwrap();
    assert_eq!(answer.reason, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_code_that_end_as_on_windows_are_run_as_those_of_a_goal_and_nothing_else_changes()
{
    let factory = TestFactory::start().await;
    let file = RunFile::new("a.sh".into(), b"pwd\r\n");
    for (code, run) in [
        ("pwd\r\nls\r\n", "pwd\nls\n"),
        ("a\rb\u{2028}c\u{85}\r\nd", "a\rb\u{2028}c\u{85}\nd"),
        ("a\r", "a\r"),
        ("a\r\r\nb", "a\r\nb"),
    ] {
        let asked = json!({ "code": code, "files": [file], "stdin": "x\r\n" });
        let answer: RunAnswer = factory.call(operation::DEBUGGER_RUN, &asked).await.unwrap();
        assert_eq!(answer.stdout, run);
    }
    let asked = json!({
        "code": "cat x", "files": [file], "stdin": "x\r\n", "return_files": ["a.sh"],
    });
    let answer: RunAnswer = factory.call(operation::DEBUGGER_RUN, &asked).await.unwrap();
    assert_eq!((answer.stdout.as_str(), answer.files), ("x\r\n", vec![file]));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_all_be_there_are_refused_by_name_and_no_run_is_recorded() {
    let factory = TestFactory::start().await;
    let long = "x".repeat(256);
    for (names, told) in [
        (&["a", "a/b"][..], "\"a\" and \"a/b\""),
        (&["a/b", "c", "a"], "\"a\" and \"a/b\""),
        (&["a/b/c/d", "a/b"], "\"a/b\" and \"a/b/c/d\""),
        (&["main.py", "main.py/x"], "\"main.py\" and \"main.py/x\""),
        (&["\u{e4}", "\u{e4}"], "\"\u{e4}\" twice"),
        (&["a", "a/"], "\"a/\""),
        (&["a", "./a"], "\"./a\""),
        (&["a/../b"], "\"a/../b\""),
        (&["/etc/passwd"], "\"/etc/passwd\""),
        (&[""], "\"\""),
        (&["a\0b"], "control characters"),
        (&["a\nb"], "control characters"),
        (&[long.as_str()], "255 bytes"),
    ] {
        for language in ["python", "cobol"] {
            let files: Vec<_> =
                names.iter().map(|name| RunFile::new((*name).into(), b"x")).collect();
            let asked = json!({ "code": "exit 0", "language": language, "files": files });
            let refused =
                factory.call::<RunAnswer>(operation::DEBUGGER_RUN, &asked).await.unwrap_err();
            assert_eq!(refused.status, 400, "{names:?}: {refused}");
            assert!(refused.sentence().contains(told), "{names:?}: {refused}");
        }
    }
    assert_eq!(logged(&factory).await, 0);
    let files = ["a", "b/a", "b/b", "main.py", "a.b"].map(|name| RunFile::new(name.into(), b"x"));
    let asked = json!({ "code": "exit 0", "files": files });
    let answer: RunAnswer = factory.call(operation::DEBUGGER_RUN, &asked).await.unwrap();
    assert_eq!(answer.exit_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_reaches_its_session_as_head_and_hash() {
    const BYTES: usize = 100_000;
    let factory = TestFactory::start().await;
    let mut events = factory.events().await;
    let mut answers =
        factory.deps.bus.subscribe("_INBOX.>".parse().unwrap(), None, 100).await.unwrap();
    let submitted = factory.submit(&code(&format!("flood {BYTES}"))).await;
    let of_run = wait_for(&mut events, "run.finished").await;
    let of_step = wait_for(&mut events, "session.step_finished").await;
    wait_for(&mut events, "session.concluded").await;
    while let Some(answer) = answers.try_next() {
        assert!(answer.payload.len() < BYTES / 2, "the text itself was passed on");
    }
    let (Event::Run(RunEvent::Finished(run)), Event::Session(SessionEvent::StepFinished(step))) =
        (of_run.event, of_step.event)
    else {
        panic!("they are others")
    };
    assert_eq!(step.stdout, run.end.stdout);
    assert!(step.stdout.blob().is_some());
    // Who asks from outside gets the text, whatever else the message asks for.
    let mut headers = Headers::default();
    headers.set(header::OUTPUTS, header::RECORDED);
    headers.set(header::INGRESS, "nats");
    let (bus, subjects) = (&*factory.deps.bus, &factory.deps.subjects);
    let run = operation::DEBUGGER_RUN;
    let asked = json!({ "code": "x", "run_id": step.run_id });
    let answer: RunAnswer =
        request_reply::call(bus, subjects, run, &asked, headers, PATIENCE).await.unwrap();
    assert_eq!(answer.stdout.len(), BYTES);
    // Who reads the session too.
    let which = SessionSelector::id(submitted.session_id);
    let story: SessionStory = factory.call(operation::SUPERVISOR_SESSION, &which).await.unwrap();
    assert!(story.result.len() > BYTES, "{}", story.result.len());
}
