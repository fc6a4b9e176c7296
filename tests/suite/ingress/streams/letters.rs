//! A stream of dead letters that refuses them: a goal is rejected once, stays in the queue, and
//! keeps nobody waiting.

use std::thread;

use ai_factory_schemas::event::Event;
use async_nats::jetstream::stream::{Config, DiscardPolicy};

use super::{
    super::{LOOK, Up, Watcher, logged, wait_for_health, wait_for_reason},
    state,
};
use crate::support::{nats::TestServer, process::TestHome};

const DEAD: &str = "FACTORY_DEAD";

/// Makes the stream by hand.
fn make(watcher: &Watcher, change: impl FnOnce(&mut Config)) {
    let mut config = Config {
        name: DEAD.to_owned(),
        subjects: vec!["factory.dead.goals".to_owned()],
        ..Config::default()
    };
    change(&mut config);
    let context = watcher.jetstream();
    watcher.wait(async { context.create_stream(config).await.unwrap() });
}

fn full(config: &mut Config) {
    config.discard = DiscardPolicy::New;
    config.max_messages = 1;
}

/// How many goals were rejected.
pub fn rejected(home: &TestHome) -> usize {
    home.events().iter().filter(|recorded| matches!(recorded.event, Event::Goal(_))).count()
}

#[test]
fn a_goal_whose_letter_is_refused_is_rejected_once_and_told_and_leaves_when_there_is_room() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    make(&watcher, full);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    for number in 0..3 {
        watcher.publish(None, format!("{{nonsense {number}"));
    }
    let told = wait_for_reason(
        &up,
        &["dead letters wait", "maximum messages exceeded", "2 refused goals"],
    );
    assert!(!told.contains("left out"), "{told}");
    // Others are done meanwhile.
    watcher.publish(None, "A good one");
    watcher.sessions_end(1);
    // A factory that dies meanwhile rejects nothing a second time.
    up.running.killed();
    let up = Up::with(&home, &server);
    wait_for_reason(&up, &["dead letters wait", "2 refused goals"]);
    let context = watcher.jetstream();
    watcher.wait(async {
        let mut config = context.get_stream(DEAD).await.unwrap().cached_info().config.clone();
        config.max_messages = -1;
        context.update_stream(config).await.unwrap();
    });
    watcher.goals_are_settled();
    wait_for_health(&up, "ok");
    assert_eq!(state(&watcher, DEAD).unwrap().messages, 3);
    assert!(logged(&home, "a dead letter is refused").len() <= 2, "once each start");
    up.terminate();
    assert_eq!(rejected(&home), 3);
}

#[test]
fn more_refused_goals_than_are_taken_in_at_once_keep_no_other_waiting() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    make(&watcher, full);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    for number in 0..100 {
        watcher.publish(None, format!("{{nonsense {number}"));
    }
    watcher.publish(None, "A good one");
    watcher.sessions_end(1);
    wait_for_reason(&up, &["99 refused goals"]);
    up.terminate();
    assert_eq!(rejected(&home), 100);
}

#[test]
fn a_stream_of_letters_that_cannot_be_used_keeps_no_good_goal_waiting() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let mut watcher = Watcher::at(&server);
    make(&watcher, |config| config.no_ack = true);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    watcher.publish(None, "{nonsense");
    watcher.publish(None, "A good one");
    watcher.sessions_end(1);
    wait_for_reason(&up, &["dead letters wait", "no_ack", "1 refused goals"]);
    let context = watcher.jetstream();
    watcher.wait(async { context.delete_stream(DEAD).await.unwrap() });
    watcher.goals_are_settled();
    while state(&watcher, DEAD).is_none_or(|state| state.messages == 0) {
        thread::park_timeout(LOOK);
    }
    wait_for_health(&up, "ok");
    up.terminate();
    assert_eq!(rejected(&home), 1);
}

#[test]
fn a_letter_is_cut_to_what_its_stream_takes() {
    let (home, server) = (TestHome::new(), TestServer::start());
    let watcher = Watcher::at(&server);
    make(&watcher, |config| config.max_message_size = 2_000);
    let up = Up::with(&home, &server);
    watcher.goals_are_taken_in();
    watcher.publish(None, format!("{{nonsense{}", "x".repeat(10_000)));
    watcher.goals_are_settled();
    let kept = home.json(&["dead", "ls", "--nats", &server.url()]);
    assert_eq!(kept[0]["payload_bytes"], 10_009, "{kept}");
    up.terminate();
    assert_eq!(rejected(&home), 1);
}
