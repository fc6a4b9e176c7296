//! What each kind of event leaves in logs, runs and sessions.

use std::collections::BTreeSet;

use ai_factory::projection::{Access, Projections};
use ai_factory_ports::views::{CallDay, OpenCall, OpenRun, SearchQuery, SessionFilter, Views};
use ai_factory_schemas::{
    id::{CallId, RunId, SessionId},
    plan::TaskType,
    run::RunStatus,
    session::SessionEnd,
};
use uuid::Uuid;

use super::fixture::{Kit, request};

#[tokio::test]
async fn an_empty_journal_has_empty_answers() {
    let kit = Kit::new();
    for access in [Access::Write, Access::Read] {
        let views = kit.open(access);
        assert!(views.logs(10).await.unwrap().is_empty());
        assert!(views.search(&SearchQuery::new("anything", 3)).await.unwrap().is_empty());
        assert!(views.runs(10).await.unwrap().is_empty());
        assert!(views.search_runs("x", 5).await.unwrap().is_empty());
        assert!(views.sessions(10).await.unwrap().is_empty());
        assert!(views.history(10).await.unwrap().is_empty());
        assert!(views.open_runs().await.unwrap().is_empty());
        assert!(views.open_sessions().await.unwrap().is_empty());
        assert!(views.open_calls().await.unwrap().is_empty());
        assert_eq!(views.newest_call_day().await.unwrap(), None);
        assert_eq!(views.session(SessionId(Uuid::nil())).await.unwrap(), None);
        assert!(of_request(&views, "none", 10).await.is_empty());
        assert!(views.sessions_beginning("0", 10).await.unwrap().is_empty());
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
async fn a_day_has_what_its_calls_were_charged_and_what_is_set_aside_for_those_under_way() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let (one, two, session) = (CallId(kit.id()), CallId(kit.id()), SessionId(kit.id()));
    kit.request_call(one, (1, Some(session)), ("2026-12-01", 100)).await;
    kit.request_call(two, (1, None), ("2026-12-01", 10)).await;
    let day = |day: &str, tokens| CallDay { day: day.into(), tokens, cost_micros: 2 * tokens };
    assert_eq!(views.newest_call_day().await.unwrap(), Some(day("2026-12-01", 110)));
    let open = [
        OpenCall { call_id: one, session_id: Some(session) },
        OpenCall { call_id: two, session_id: None },
    ];
    assert_eq!(views.open_calls().await.unwrap(), open);

    kit.abandon_call(one, 1, 30).await;
    assert_eq!(views.newest_call_day().await.unwrap(), Some(day("2026-12-01", 40)));
    kit.request_call(one, (2, Some(session)), ("2026-12-02", 7)).await;
    // What ends after midnight counts against the day on which it began.
    kit.abandon_call(two, 1, 1_000).await;
    let expected = (Some(day("2026-12-02", 7)), vec![open[0]]);
    let newest = views.newest_call_day().await.unwrap();
    assert_eq!((newest, views.open_calls().await.unwrap()), expected);

    views.close().await.unwrap();
    let reader = kit.open(Access::Read);
    for views in [&views, &reader] {
        let newest = views.newest_call_day().await.unwrap();
        assert_eq!((newest, views.open_calls().await.unwrap()), expected);
    }
    let before = views.digest().await.unwrap();
    views.rebuild().await.unwrap();
    assert_eq!(views.digest().await.unwrap(), before);
}

#[tokio::test]
async fn a_session_runs_waits_and_concludes() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let session = kit.open_session("req", "the goal").await;
    let (run, other) = (RunId(kit.id()), RunId(kit.id()));
    let status = async || views.session(session).await.unwrap().unwrap().status.as_str();
    assert_eq!(status().await, "running");
    assert_eq!(views.history(1).await.unwrap()[0].summary, "");
    kit.dispatch_step(session, 0, run).await;
    kit.dispatch_step(session, 1, other).await;
    assert_eq!(views.runs_of_session(session).await.unwrap(), [run, other]);
    kit.lose_step(session, 0, run).await;
    assert_eq!(status().await, "waiting: decision");
    kit.finish_step(session, 1, other, "42").await;
    assert_eq!(status().await, "waiting: decision");
    kit.resolve_step(session, 0).await;
    assert_eq!(status().await, "running");
    assert_eq!(views.open_sessions().await.unwrap(), [session]);

    kit.conclude(session, "42").await;
    let row = views.session(session).await.unwrap().unwrap();
    assert_eq!(
        (row.status.as_str(), row.end, &*row.goal),
        ("partial", Some(SessionEnd::Completed), "the goal")
    );
    assert_eq!(views.sessions(10).await.unwrap(), [row]);
    assert_eq!(views.history(10).await.unwrap()[0].summary, "42");
    assert!(views.open_sessions().await.unwrap().is_empty());
    assert_eq!(of_request(&views, "req", 10).await, [session]);
}

async fn of_request(views: &Projections, name: &str, limit: usize) -> Vec<SessionId> {
    let filter = SessionFilter::of_request(request(name));
    let rows = views.sessions_where(&filter, limit).await.unwrap();
    let history = views.history_where(&filter, limit).await.unwrap();
    let ids: Vec<_> = rows.iter().map(|row| row.session_id).collect();
    assert!(rows.iter().all(|row| row.request_id == request(name)));
    assert_eq!(history.iter().map(|row| row.session_id).collect::<Vec<_>>(), ids);
    ids
}

#[tokio::test]
async fn the_sessions_of_a_request_are_found_newest_first_from_memory_and_from_disk() {
    let kit = Kit::new();
    let serving = kit.open(Access::Write);
    let reading = kit.open(Access::Read);
    let mut opened = Vec::new();
    // Across several flushes beneath the reader; ids that the other is a part of are others.
    for number in 0..40_u32 {
        opened.insert(0, kit.open_session("again", &format!("goal {number}")).await);
        kit.open_session("agai", "shorter").await;
        kit.open_session("again.", "longer").await;
        kit.open_session(&format!("once-{number}"), "other").await;
        for views in [&serving, &reading] {
            assert_eq!(of_request(views, "again", 500).await, opened);
            assert_eq!(of_request(views, "again", 3).await, opened[..opened.len().min(3)]);
        }
    }
    kit.conclude(opened[1], "42").await;
    serving.close().await.unwrap();
    drop((serving, reading));
    for access in [Access::Read, Access::Write] {
        let views = kit.open(access);
        assert_eq!(of_request(&views, "again", 500).await, opened);
        assert_eq!(of_request(&views, "once-7", 500).await.len(), 1);
        assert!(of_request(&views, "aga", 500).await.is_empty());
        assert!(of_request(&views, "again", 0).await.is_empty());
        let filter = SessionFilter::of_request(request("again"));
        let rows = views.sessions_where(&filter, 2).await.unwrap();
        assert_eq!(
            (rows[0].status.as_str(), rows[1].end),
            ("running", Some(SessionEnd::Completed))
        );
        for (request_id, session_id, count) in [
            (None, opened[3], 1),
            (Some("again"), opened[3], 1),
            (Some("agai"), opened[3], 0),
            (None, SessionId(Uuid::nil()), 0),
            (Some("again"), SessionId(Uuid::nil()), 0),
        ] {
            let request_id = request_id.map(request);
            let filter = SessionFilter { request_id, session_id: Some(session_id) };
            let rows = views.sessions_where(&filter, 500).await.unwrap();
            assert_eq!(rows.len(), count, "{filter:?}");
            assert!(rows.iter().all(|row| row.session_id == session_id));
        }
    }
}

#[tokio::test]
async fn sessions_are_found_by_the_beginning_of_either_id() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let first = kit.open_session("Order-1", "one").await;
    for number in 0..300_u32 {
        kit.note(&format!("note {number}"), &[]).await;
    }
    let second = kit.open_session("Order-2", "two").await;
    let found = async |text: &str, limit| {
        let rows = views.sessions_beginning(text, limit).await.unwrap();
        rows.into_iter().map(|row| row.session_id).collect::<BTreeSet<_>>()
    };
    let whole = second.to_string();
    assert_eq!(found(&whole, 9).await, [second].into());
    assert!(found(&whole[..35], 9).await.contains(&second));
    assert_eq!(found("00000000-0000-", 9).await, [first, second].into());
    assert_eq!(found("0000", 1).await.len(), 1);
    assert_eq!(found("Order-", 9).await, [first, second].into());
    assert_eq!(found("Order-2", 9).await, [second].into());
    for none in ["order-", "00000000-00-00", "0000000x", "Order-22", "1"] {
        assert!(found(none, 9).await.is_empty(), "{none}");
    }
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
            let found = views.search(&SearchQuery::new(format!("note{number}"), 1)).await.unwrap();
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
