//! What each kind of event leaves in logs, runs and sessions.

use ai_factory::projection::Access;
use ai_factory_actors::ports::views::{OpenRun, Sought, Views};
use ai_factory_schemas::{
    id::{RunId, SessionId},
    plan::TaskType,
    run::RunStatus,
    session::SessionEnd,
};
use uuid::Uuid;

use super::kit::{Kit, request};

#[tokio::test]
async fn an_empty_journal_has_empty_answers() {
    let kit = Kit::new();
    for access in [Access::Write, Access::Read] {
        let views = kit.open(access);
        assert!(views.logs(10).await.unwrap().is_empty());
        assert!(views.search(&Sought::new("anything", 3)).await.unwrap().is_empty());
        assert!(views.runs(10).await.unwrap().is_empty());
        assert!(views.search_runs("x", 5).await.unwrap().is_empty());
        assert!(views.sessions(10).await.unwrap().is_empty());
        assert!(views.history(10).await.unwrap().is_empty());
        assert!(views.open_runs().await.unwrap().is_empty());
        assert!(views.open_sessions().await.unwrap().is_empty());
        assert_eq!(views.session(SessionId(Uuid::nil())).await.unwrap(), None);
        assert_eq!(views.session_of_request(&request("none")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn logs_show_plans_asked_for_directly_and_by_sessions_newest_first() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let first = kit.dispatch("a", "first").await;
    let session = kit.open_session("b", "the goal").await;
    assert_eq!(views.logs(10).await.unwrap().len(), 1, "a session without a plan is no dispatch");
    let second = kit.plan_session(session).await;
    let third = kit.dispatch("c", "third").await;

    let logs = views.logs(10).await.unwrap();
    let shown: Vec<_> =
        logs.iter().map(|row| (row.id, row.request_id.as_str(), &*row.prompt)).collect();
    assert_eq!(shown, [(third, "c", "third"), (second, "b", "the goal"), (first, "a", "first")]);
    assert_eq!(logs[1].task_type, TaskType::Coding);
    assert_eq!(views.logs(2).await.unwrap(), logs[..2]);
    assert!(views.logs(0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_is_running_until_it_ends() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let (ended, given_up, session) = (RunId(kit.id()), RunId(kit.id()), SessionId(kit.id()));
    let id = kit.hand_in(ended, None, "print(1)").await;
    kit.hand_in(given_up, Some(session), "print(2)").await;

    let rows = views.runs(10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.run_id).collect::<Vec<_>>(), [given_up, ended]);
    assert_eq!((rows[1].id, &*rows[1].status, &*rows[1].language), (id, "running", "python"));
    let open = [
        OpenRun { run_id: ended, session_id: None },
        OpenRun { run_id: given_up, session_id: Some(session) },
    ];
    assert_eq!(views.open_runs().await.unwrap(), open);

    kit.end_run(ended, RunStatus::Timeout, "", "TimeoutExpired").await;
    kit.abandon(given_up).await;
    let rows = views.runs(10).await.unwrap();
    assert_eq!((&*rows[0].status, &*rows[1].status), ("abandoned", "timeout"));
    assert!(views.open_runs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_session_runs_waits_and_concludes() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let session = kit.open_session("req", "the goal").await;
    let (run, other) = (RunId(kit.id()), RunId(kit.id()));
    let status = async || views.session(session).await.unwrap().unwrap().status;
    assert_eq!(status().await, "running");
    assert_eq!(views.history(1).await.unwrap()[0].summary, "");
    kit.dispatch_step(session, 0, run).await;
    kit.dispatch_step(session, 1, other).await;
    assert_eq!(views.runs_of_session(session).await.unwrap(), [run, other]);
    kit.lose_step(session, 0, run).await;
    assert_eq!(status().await, "waiting");
    kit.finish_step(session, 1, other, "42").await;
    assert_eq!(status().await, "waiting");
    kit.resolve_step(session, 0).await;
    assert_eq!(status().await, "running");
    assert_eq!(views.open_sessions().await.unwrap(), [session]);

    kit.conclude(session, "42").await;
    let row = views.session(session).await.unwrap().unwrap();
    assert_eq!(
        (&*row.status, row.end, &*row.goal),
        ("partial", Some(SessionEnd::Completed), "the goal")
    );
    assert_eq!(views.sessions(10).await.unwrap(), [row]);
    assert_eq!(views.history(10).await.unwrap()[0].summary, "42");
    assert!(views.open_sessions().await.unwrap().is_empty());
    assert_eq!(views.session_of_request(&request("req")).await.unwrap(), Some(session));
}

#[tokio::test]
async fn a_request_id_that_is_used_again_leads_to_the_newer_session() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.open_session("again", "one").await;
    let newer = kit.open_session("again", "two").await;
    assert_eq!(views.session_of_request(&request("again")).await.unwrap(), Some(newer));
}

#[tokio::test]
async fn every_write_is_in_the_very_next_answer_here_and_in_a_process_that_only_reads() {
    let kit = Kit::new();
    let serving = kit.open(Access::Write);
    let reading = kit.open(Access::Read);
    // I-13, across several flushes beneath the reader.
    for number in 0..100_u32 {
        kit.note(&format!("note{number}"), &[]).await;
        let position = kit.dispatch(&format!("r{number}"), &format!("prompt{number}")).await;
        for views in [&serving, &reading] {
            assert_eq!(views.logs(1).await.unwrap()[0].id, position);
            assert_eq!(views.logs(500).await.unwrap().len(), number as usize + 1);
            let found = views.search(&Sought::new(format!("note{number}"), 1)).await.unwrap();
            assert!(found[0].distance <= 0.0, "{found:?}");
        }
    }
}

#[tokio::test]
async fn runs_are_searched_by_substring_newest_first() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let mut ids = vec![];
    for number in 0..200_u32 {
        let (stdout, stderr) = if number % 2 == 0 { ("100%_DONE", "") } else { ("", "Half*way") };
        ids.push(kit.run(&format!("code{number}"), stdout, stderr).await);
    }
    let found = async |text: &str, n| {
        let runs = views.search_runs(text, n).await.unwrap();
        runs.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert_eq!(found("code7", 50).await.len(), 11);
    assert_eq!(found("code150", 5).await, [ids[150]]);
    assert_eq!(found("0%_d", 3).await, [ids[198], ids[196], ids[194]]);
    assert_eq!(found("f*WAY", 1).await, [ids[199]]);
    for pattern in ["1%0", "0_", "c*e", "code1 ", "%%"] {
        assert!(found(pattern, 5).await.is_empty(), "{pattern} is no pattern");
    }
    let run = views.search_runs("half", 1).await.unwrap().remove(0);
    assert_eq!((&*run.snippet, &*run.status, &*run.language), ("Half*way", "success", "python"));
}

#[tokio::test]
async fn a_run_is_found_by_the_end_of_a_long_output_and_its_snippet_is_cut() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.run("noise", &format!("{} needle", "ü".repeat(100_000)), "").await;
    kit.run("only code", "", "").await;
    let found = views.search_runs("NEEDLE", 5).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].snippet, "ü".repeat(240));
    assert_eq!(views.search_runs("only", 5).await.unwrap()[0].snippet, "only code");
}
