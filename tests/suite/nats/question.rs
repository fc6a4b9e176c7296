//! A step whose end a crash left unknown: the agent asks who prompts again whether it is to be
//! repeated.

use serde_json::{Value, json};

use super::{Answer, Asked, agent_up, found};
use crate::{
    crash::account::Account,
    ingress::{Up, Watcher, body, header},
    support::{
        nats::TestServer,
        process::{Bell, TestHome},
    },
};

const KEYED: [(&str, &str); 1] = [("Nats-Msg-Id", "k")];
const ASK: [&str; 2] = ["--set", "on_unknown=ask"];

/// A factory that was killed in the middle of a step, and is back.
struct Killed {
    home: TestHome,
    server: TestServer,
    watcher: Watcher,
    bell: Bell,
    up: Up,
}

impl Killed {
    /// Prompts under a key, kills the factory with -9 in the middle, and starts it again with these
    /// settings.
    fn in_a_step(more: &[&str]) -> Self {
        let (home, server) = (TestHome::new(), TestServer::start());
        let (watcher, bell) = (Watcher::at(&server), Bell::new(&home));
        let up = agent_up(&home, &server, &ASK);
        found(&watcher);
        let _gone = Asked::ask(&watcher, "prompt", &KEYED, bell.goal().as_bytes());
        let ring = bell.rung();
        drop(up);
        ring.assert_gone();
        let up = agent_up(&home, &server, &[&ASK, more].concat());
        found(&watcher);
        Self { home, server, watcher, bell, up }
    }

    /// Ends in order and starts anew.
    fn again(self) -> Self {
        let Self { home, server, watcher, bell, up } = self;
        up.terminate();
        let up = agent_up(&home, &server, &ASK);
        found(&watcher);
        Self { home, server, watcher, bell, up }
    }

    /// Prompts again under the same key.
    fn prompted(&self) -> Asked {
        Asked::ask(&self.watcher, "prompt", &KEYED, self.bell.goal().as_bytes())
    }

    /// The next question of a stream.
    fn question(&self, asked: &mut Asked) -> Value {
        loop {
            let chunk = body(&asked.next(&self.watcher));
            if chunk["type"] == "query" {
                return chunk["data"].clone();
            }
        }
    }

    fn reply(&self, question: &Value, answer: impl Into<bytes::Bytes>) {
        let to = question["reply_subject"].as_str().unwrap().to_owned();
        let (client, answer) = (self.watcher.client(), answer.into());
        self.watcher.wait(async {
            client.publish(to, answer).await.unwrap();
            client.flush().await.unwrap();
        });
    }

    fn end(self) -> Account {
        self.up.terminate();
        Account::of(&self.home)
    }
}

/// How a session went, as the last status of its stream says.
fn went(answer: &Answer) -> &Value {
    let ended = answer.chunks.iter().rfind(|chunk| chunk["data"] == "session.concluded");
    &ended.expect("it ended")["status"]
}

#[test]
fn a_caller_that_is_asked_says_repeat_and_gets_its_answer() {
    let killed = Killed::in_a_step(&[]);
    let mut asked = killed.prompted();
    let question = killed.question(&mut asked);
    let prompt = question["prompt"].as_str().unwrap();
    assert!(prompt.contains("`repeat`") && prompt.contains("`skip`"), "{prompt}");
    assert!(question["id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
    killed.reply(&question, "yes, please");
    let again = killed.question(&mut asked);
    assert_ne!(again["reply_subject"], question["reply_subject"]);
    assert!(again["prompt"].as_str().unwrap().contains("neither"), "{again}");
    // The first question stands no more.
    killed.reply(&question, "skip");
    killed.reply(&again, json!({ "prompt": "Repeat" }).to_string());
    drop(killed.bell.rung());
    let answer = asked.rest(&killed.watcher);
    assert_eq!((&answer.error, went(&answer)), (&None, &json!("success")));
    assert!(answer.statuses().contains(&"session.step_resolved"), "{answer:?}");
    let account = killed.end();
    account.assert_all_is_over();
    assert_eq!(account.repetitions(), 1);
}

#[test]
fn a_caller_that_is_asked_says_skip_and_the_step_counts_as_failed() {
    let killed = Killed::in_a_step(&[]);
    let mut asked = killed.prompted();
    let question = killed.question(&mut asked);
    killed.reply(&question, "skip");
    let answer = asked.rest(&killed.watcher);
    assert_eq!((&answer.error, went(&answer)), (&None, &json!("error")));
    assert_eq!(killed.end().repetitions(), 0);
}

#[test]
fn a_caller_that_does_not_decide_is_told_how_to_do_so_elsewhere() {
    let killed = Killed::in_a_step(&["--set", "agent_question_s_max=1"]);
    let mut silent = killed.prompted();
    killed.question(&mut silent);
    let (code, told) = silent.rest(&killed.watcher).error.unwrap();
    assert_eq!((code.as_str(), &told["error"]), ("409", &json!("conflict")));
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("ai-factory resolve"), "{message}");

    let killed = killed.again();
    let mut unclear = killed.prompted();
    let mut answers = 0;
    let refused = loop {
        let message = unclear.next(&killed.watcher);
        if header(&message, "Nats-Service-Error-Code").is_some() {
            break body(&message);
        }
        let chunk = body(&message);
        if chunk["type"] == "query" {
            killed.reply(&chunk["data"], "perhaps");
            answers += 1;
        }
    };
    assert_eq!((answers, &refused["error"]), (3, &json!("conflict")), "{refused}");
    assert_eq!(killed.end().repetitions(), 0);
}

#[test]
fn a_question_that_was_decided_elsewhere_stands_no_more_for_anybody() {
    let killed = Killed::in_a_step(&[]);
    let mut streams = [killed.prompted(), killed.prompted()];
    let [_, question] = streams.each_mut().map(|asked| killed.question(asked));
    let id = killed.home.json(&["sessions"])[0]["session_id"].as_str().unwrap().to_owned();
    let path = format!("/supervisor/sessions/{id}/resolve");
    let (status, told) =
        killed.up.http.post_plain(&path, &json!({ "resolution": "skip" })).unwrap();
    assert_eq!(status, 200, "{told}");
    killed.reply(&question, "repeat");
    for asked in streams {
        let answer = asked.rest(&killed.watcher);
        assert_eq!((&answer.error, went(&answer)), (&None, &json!("error")));
    }
    assert_eq!(killed.end().repetitions(), 0);
}
