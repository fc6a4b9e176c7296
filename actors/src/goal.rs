//! Reading and checking of goals; a published goal that is refused is recorded as rejected.
//!
//! The publisher of a goal may not wait for an answer, so a refusal that was only answered would be
//! lost.

use ai_factory_ports::{
    body::{read_body, utf_8, without_byte_order_mark},
    journal::{Append, Command},
};
use ai_factory_schemas::{
    check::Check,
    envelope::EventDraft,
    file::check_names,
    goal::GoalRejected,
    id::{EventId, GoalId},
    limit::{
        CHECK_BYTES_MAX, GOAL_BYTES_MAX, PROTECT_PATTERNS_MAX, REJECTED_BYTES_MAX,
        WORKSPACE_FILES_MAX,
    },
    plan::TaskType,
    problem::Problem,
    request::{Goal, GoalFile},
    text::BlobHash,
    workspace::check_path,
};

use crate::{
    append::append_with_retry,
    debugger::input::{LANGUAGE_BYTES_MAX, with_line_feeds},
    deps::Deps,
    request::RequestContext,
    workspace::patterns::check_pattern,
};

/// The goal in a published payload: a JSON object if the first character is `{`, otherwise plain
/// UTF-8 text. A leading byte order mark is ignored.
pub fn read(payload: &[u8]) -> Result<Goal, Problem> {
    let payload = without_byte_order_mark(payload);
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') {
        return read_body(payload).and_then(check);
    }
    let text = utf_8(payload, "a goal is UTF-8 text or a JSON object with a `goal`")?;
    check(Goal {
        goal: text.to_owned(),
        task_type: TaskType::default(),
        check: None,
        files: Vec::new(),
        protect: Vec::new(),
        workspace: false,
        ask: false,
        budget: None,
        model: None,
        turns_max: None,
    })
}

/// The goal, or the problem.
pub fn check(goal: Goal) -> Result<Goal, Problem> {
    if crate::planner::is_blank(&goal.goal) {
        return Err(Problem::bad_request("`goal` is missing or blank: say what is to be done"));
    }
    if goal.goal.contains('\0') {
        return Err(Problem::bad_request("`goal` must not contain a NUL character"));
    }
    if goal.goal.len() > GOAL_BYTES_MAX {
        let bytes = goal.goal.len();
        let sentence = format!("`goal` of {bytes} bytes is too long: at most {GOAL_BYTES_MAX}");
        return Err(Problem::too_large(sentence));
    }
    check_files(&goal.files)?;
    check_protected(&goal)?;
    let check = goal.check.map(read_check).transpose()?;
    Ok(Goal { check, ..goal })
}

/// Refuses files whose names or contents are not as they must be. How large they may be is known
/// once their contents are.
fn check_files(files: &[GoalFile]) -> Result<(), Problem> {
    let (count, count_max) = (files.len(), WORKSPACE_FILES_MAX);
    if count > count_max {
        return Err(Problem::too_large(format!("`files` has {count} files: at most {count_max}")));
    }
    let wrong =
        |name: &str, fault: &str| Problem::bad_request(format!("`files`: {name:?} {fault}"));
    for file in files {
        check_path(&file.name).map_err(|fault| wrong(&file.name, &fault))?;
        let given = [file.text.is_some(), file.content_base64.is_some(), file.hash.is_some()];
        if given.into_iter().filter(|given| *given).count() != 1 {
            let fault = "must have exactly one of `text`, `content_base64` and `hash`";
            return Err(wrong(&file.name, fault));
        }
    }
    check_names(files.iter().map(|file| file.name.as_str()))
        .map_err(|fault| Problem::bad_request(format!("`files` {fault}")))
}

fn check_protected(goal: &Goal) -> Result<(), Problem> {
    let patterns = &goal.protect;
    if patterns.len() > PROTECT_PATTERNS_MAX {
        let count = patterns.len();
        let sentence = format!("`protect` has {count} patterns: at most {PROTECT_PATTERNS_MAX}");
        return Err(Problem::too_large(sentence));
    }
    for pattern in patterns {
        check_pattern(pattern)
            .map_err(|fault| Problem::bad_request(format!("`protect`: {pattern:?} {fault}")))?;
    }
    if !patterns.is_empty() && goal.check.is_none() {
        let sentence =
            "`protect` needs a `check`: protected files are restored before it, and only then";
        return Err(Problem::bad_request(sentence));
    }
    Ok(())
}

/// The check as it is recorded, with the line ends of Unix, or the problem.
fn read_check(check: Check) -> Result<Check, Problem> {
    let language = check.language.trim().to_lowercase();
    if language.is_empty() || language.len() > LANGUAGE_BYTES_MAX {
        return Err(Problem::bad_request(format!(
            "`check.language` must have 1 to {LANGUAGE_BYTES_MAX} bytes: leave it out for bash"
        )));
    }
    let bytes = check.code.len();
    if bytes > CHECK_BYTES_MAX {
        let sentence = format!("`check` of {bytes} bytes is too long: at most {CHECK_BYTES_MAX}");
        return Err(Problem::too_large(sentence));
    }
    if check.code.trim().is_empty() {
        let sentence = "`check` is blank: say how to find out whether the goal is done";
        return Err(Problem::bad_request(sentence));
    }
    if check.code.contains('\0') {
        return Err(Problem::bad_request("`check` must not contain a NUL character"));
    }
    Ok(Check { language, code: with_line_feeds(check.code) })
}

/// The record of a refusal. Pure, like every decision.
fn rejection(context: &RequestContext, payload: &[u8], problem: &Problem) -> GoalRejected {
    let head = &payload[..payload.len().min(REJECTED_BYTES_MAX)];
    GoalRejected {
        request_id: context.request_id.clone(),
        key: context.key.clone(),
        status: problem.status,
        reason: problem.sentence(),
        payload: String::from_utf8_lossy(head).into_owned(),
        payload_bytes: payload.len() as u64,
    }
}

/// The command of a refusal: a goal delivered again under its key, because it could not leave the
/// queue, is recorded once. It has an id of its own, since a refused request does not use its key.
fn refusal(context: &RequestContext, payload: &[u8]) -> Option<Command> {
    let key = context.key.as_ref()?;
    let fingerprint = BlobHash::of(&[key.as_str().as_bytes(), b" ", payload].concat());
    let id = format!("rejected-{fingerprint}").parse().ok()?;
    Some(Command { id, fingerprint })
}

/// Records that a published goal was refused for good, once under its key. Returns the problem, or
/// the problem why it could not be recorded: then the goal must be published again.
pub async fn reject(
    deps: &Deps,
    context: &RequestContext,
    payload: &[u8],
    problem: Problem,
) -> Problem {
    if problem.is_transient() {
        return problem;
    }
    let draft = EventDraft {
        id: EventId(deps.ids.new_id()),
        time: deps.clock.now(),
        event: rejection(context, payload, &problem).into(),
        trail: context.trail(),
    };
    let append = Append {
        stream: GoalId(deps.ids.new_id()).into(),
        expected: 0,
        events: vec![draft],
        command: refusal(context, payload),
        blobs: Vec::new(),
    };
    match append_with_retry(&*deps.journal, append).await {
        Ok(_) => problem,
        Err(error) => Problem::from(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(payload: &[u8]) -> u16 {
        read(payload).unwrap_err().status
    }

    #[test]
    fn a_payload_that_begins_with_a_brace_is_json_and_all_else_is_text() {
        let text = |payload: &[u8]| read(payload).unwrap().goal;
        assert_eq!(text(b"Greet me"), "Greet me");
        assert_eq!(text(b" \n{\"goal\": \"Greet me\", \"more\": 1}"), "Greet me");
        assert_eq!(text(b"[1, 2]"), "[1, 2]");
        assert_eq!(text("\"Grüße\" {x}".as_bytes()), "\"Grüße\" {x}");
        let coding = read(br#"{"goal": "x", "task_type": "coding"}"#).unwrap();
        assert_eq!(coding.task_type, TaskType::Coding);
    }

    #[test]
    fn a_byte_order_mark_before_a_goal_is_no_character_of_it() {
        let goal = |payload: &str| read(payload.as_bytes()).unwrap();
        let coding = goal("\u{feff}{\"goal\": \"x\", \"task_type\": \"coding\"}");
        assert_eq!((&*coding.goal, coding.task_type), ("x", TaskType::Coding));
        assert_eq!(goal(" \n\u{feff} {\"goal\": \"x\"}").goal, "x");
        assert_eq!(goal("\u{feff}Greet me").goal, "Greet me");
        assert_eq!(goal("Greet\u{feff} me").goal, "Greet\u{feff} me");
        assert_eq!(refused("\u{feff} \n".as_bytes()), 400);
        for utf_16 in [&b"\xff\xfe{\0}\0"[..], b"\xfe\xff\0{\0}"] {
            let told = read(utf_16).unwrap_err().sentence();
            assert!(told.contains("UTF-16"), "{told}");
        }
    }

    #[test]
    fn faults_of_files_and_checks_are_told_by_name() {
        for (status, words, json) in [
            (400, "\"../a\"", r#"{"files":[{"name":"../a","text":""}]}"#),
            (400, "exactly one", r#"{"files":[{"name":"a"}]}"#),
            (400, "exactly one", r#"{"files":[{"name":"a","text":"","content_base64":""}]}"#),
            (400, "twice", r#"{"files":[{"name":"a","text":""},{"name":"a","text":""}]}"#),
            (400, "directory", r#"{"files":[{"name":"a","text":""},{"name":"a/b","text":""}]}"#),
            (400, "does not belong", r#"{"files":[{"name":".git/config","text":""}]}"#),
            (400, "does not belong", r#"{"files":[{"name":"a/node_modules/x","text":""}]}"#),
            (400, "does not belong", r#"{"files":[{"name":"m.pyc","content_base64":"eA=="}]}"#),
            (422, "hash", r#"{"files":[{"name":"a","hash":"12"}]}"#),
            (422, "txt", r#"{"files":[{"name":"a","txt":""}]}"#),
            (400, "`check` is blank", r#"{"check":" \n"}"#),
            (400, "NUL", r#"{"check":"\u0000x"}"#),
            (400, "`check.language`", r#"{"check":{"language":" ","code":"x"}}"#),
            (422, "`code`", r#"{"check":7}"#),
            (422, "body.check.code: this field is required", r#"{"check":{"language":"python"}}"#),
            (422, "check.language", r#"{"check":{"language":1,"code":"x"}}"#),
            (400, "needs a `check`", r#"{"protect":["a"]}"#),
            (400, "\"/a\"", r#"{"check":"x","protect":["/a"]}"#),
            (400, "\"a[b]\" has a `[`", r#"{"check":"x","protect":["a[b]"]}"#),
            (400, "has a `{`", r#"{"check":"x","protect":["a","{b,c}"]}"#),
        ] {
            let json = json.replacen('{', r#"{"goal":"g","#, 1);
            let problem = read(json.as_bytes()).unwrap_err();
            assert_eq!(problem.status, status, "{json}: {problem}");
            assert!(problem.sentence().contains(words), "{json}: {problem}");
        }
        let goal = |check: String, patterns: usize, files: usize| Goal {
            files: (0..files)
                .map(|n| GoalFile {
                    name: n.to_string(),
                    text: Some(String::new()),
                    ..GoalFile::default()
                })
                .collect(),
            check: Some(Check { language: " Bash".to_owned(), code: check }),
            protect: vec!["t/**".to_owned(); patterns],
            ..read(b"g").unwrap()
        };
        for (check, patterns, files) in [
            ("x".repeat(CHECK_BYTES_MAX + 1), 1, 1),
            ("x".to_owned(), PROTECT_PATTERNS_MAX + 1, 1),
            ("x".to_owned(), 1, WORKSPACE_FILES_MAX + 1),
        ] {
            assert_eq!(super::check(goal(check, patterns, files)).unwrap_err().status, 413);
        }
        let taken = goal("a\r\nb".to_owned(), PROTECT_PATTERNS_MAX, WORKSPACE_FILES_MAX);
        let taken = super::check(taken).unwrap().check.unwrap();
        assert_eq!((&*taken.language, &*taken.code), ("bash", "a\nb"));
    }

    #[test]
    fn a_goal_without_files_and_check_is_written_as_before() {
        let goal = read(b"g").unwrap();
        let json = serde_json::to_string(&goal).unwrap();
        assert_eq!(json, r#"{"goal":"g","task_type":"general"}"#);
    }

    #[test]
    fn a_refusal_has_one_command_for_each_key_and_payload_and_none_without_a_key() {
        let context = |key: Option<&str>| RequestContext {
            request_id: uuid::Uuid::nil().into(),
            key: key.map(|key| key.parse().unwrap()),
            fault: None,
            traceparent: None,
            correlation: None,
            causation: None,
            submitter: None,
            as_recorded: false,
            answer_within: None,
            may_raise: false,
        };
        let of = |key, payload: &str| refusal(&context(key), payload.as_bytes());
        assert_eq!(of(Some("k"), "{"), of(Some("k"), "{"));
        assert_ne!(of(Some("k"), "{"), of(Some("l"), "{"));
        assert_ne!(of(Some("k"), "{"), of(Some("k"), "{{"));
        assert_ne!(of(Some("k"), "{").unwrap().id.as_str(), "k", "the key stays unused");
        assert_eq!(of(None, "{"), None);
    }

    #[test]
    fn what_is_no_goal_is_refused() {
        for blank in
            [&b""[..], b" \r\n\t", b"{}", br#"{"goal": " "}"#, b"a\0b", br#"{"goal": "\u0000"}"#]
        {
            assert_eq!(refused(blank), 400, "{blank:?}");
        }
        assert_eq!(refused(b"\xff\xfe"), 400);
        for malformed in [
            &b"{goal: 1}"[..],
            br#"{"goal": 1}"#,
            br#"{"goal": "\ud800"}"#,
            b"{\"goal\": \"\xff\"}",
        ] {
            assert_eq!(refused(malformed), 422, "{malformed:?}");
        }
        assert_eq!(refused(&vec![b'x'; GOAL_BYTES_MAX + 1]), 413);
    }
}
