//! The tool `run`: a program in the debugger, on the session's files.

use std::time::Duration;

use ai_factory_schemas::{
    limit::STDIN_BYTES_MAX,
    problem::Problem,
    request::RunRequest,
    run::{EndedBy, RunEnd, RunStatus},
    turn::ToolOutcome,
    workspace::RunWorkspace,
};
use serde::Deserialize;

use super::{
    arguments,
    failure::{self, RanCode},
    files::factory_failed,
    run_report::{self, RunOutputs},
    specs::LANGUAGES,
    terms::{ToolEnd, ToolTerms},
};
use crate::{
    agent::{fences::FencedWriter, tool_names::RUN},
    debugger::input::with_line_feeds,
    deps::Deps,
    session::perform_run,
};

/// The language of a command.
const COMMAND_LANGUAGE: &str = "bash";
/// The wait for a run beside its own time limit: it may have to wait for a free slot.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(3_600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunArguments {
    #[serde(default)]
    command: Option<String>,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    stdin: Option<String>,
}

/// A program that a call asks for.
#[derive(Debug, PartialEq, Eq)]
struct AskedProgram {
    language: String,
    code: String,
    stdin: Option<String>,
}

/// The program of a call.
///
/// # Errors
/// A sentence, if the arguments are wrong.
fn program(arguments: &str, code_bytes_max: usize) -> Result<AskedProgram, String> {
    let RunArguments { command, language, code, stdin } = arguments::read(RUN, arguments)?;
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let (language, code, field) = match (given(command), given(code)) {
        (Some(_), Some(_)) => {
            let fault = "Give `command`, or `language` and `code`, not both.";
            return Err(fault.to_owned());
        }
        (Some(command), None) => (COMMAND_LANGUAGE.to_owned(), command, "command"),
        (None, Some(code)) => (known(given(language))?, code, "code"),
        (None, None) => {
            let fault = "There is nothing to run: give `command`, or `language` and `code`.";
            return Err(fault.to_owned());
        }
    };
    let code = with_line_feeds(code);
    for (field, bytes, bytes_max) in [
        (field, code.len(), code_bytes_max),
        ("stdin", stdin.as_ref().map_or(0, String::len), STDIN_BYTES_MAX),
    ] {
        if bytes > bytes_max {
            return Err(format!(
                "`{field}` has {bytes} bytes: at most {bytes_max}. Write a file and run that."
            ));
        }
    }
    Ok(AskedProgram { language, code, stdin })
}

/// The language of code, by the name that the tool has for it.
fn known(language: Option<String>) -> Result<String, String> {
    let names = LANGUAGES.join(", ");
    let Some(language) = language else {
        return Err(format!("`language` is missing: `code` needs one of {names}."));
    };
    let known = LANGUAGES.into_iter().find(|known| language.eq_ignore_ascii_case(known));
    known.map(str::to_owned).ok_or_else(|| format!("`language` must be one of {names}."))
}

/// Carries out a call of `run`.
pub(super) async fn perform(
    deps: &Deps,
    terms: &ToolTerms,
    arguments: &str,
) -> Result<ToolEnd, Problem> {
    let mask = &*deps.mask;
    let program = match program(arguments, deps.limits.run_code_bytes_max) {
        Ok(program) => program,
        Err(fault) => return Ok(ToolEnd::sentence(ToolOutcome::Invalid, fault, mask)),
    };
    let asked = RunRequest {
        code: program.code.clone(),
        language: program.language.clone(),
        stdin: program.stdin.clone(),
        files: Vec::new(),
        return_files: Vec::new(),
        run_id: terms.run_id,
        session_id: Some(terms.session),
        workspace: Some(RunWorkspace { files: terms.files.clone(), discard: false }),
        wall_ms_max: Some(terms.tool_wall_ms_max),
    };
    let wait_max = Duration::from_millis(terms.tool_wall_ms_max).saturating_add(SLOT_WAIT_MAX);
    let end = match perform_run::ask(deps, terms.headers.clone(), &asked, wait_max).await {
        Ok(end) => end,
        Err(problem) => {
            let words = factory_failed(&mask.apply(&problem.sentence()));
            let end = ToolEnd::sentence(ToolOutcome::Failed, words, mask);
            return Ok(ToolEnd { run_id: terms.run_id, ..end });
        }
    };
    let outputs = RunOutputs::load(&*deps.journal, &end.stdout, &end.stderr).await;
    let outputs = outputs.map_err(Problem::from)?;
    let mut text = FencedWriter::new(mask);
    run_report::write(&mut text, &end, &outputs, &terms.files, terms.tool_wall_ms_max);
    let (text, outcome) = (text.finish(), outcome(&end));
    let is_failure = outcome == ToolOutcome::Failed && end.ended_by != EndedBy::Sandbox;
    let ran = RanCode {
        language: &program.language,
        code: &program.code,
        stdin: program.stdin.as_deref(),
        files: &terms.files,
    };
    let failure = is_failure.then(|| failure::name(&ran, &end, &outputs.stderr));
    let workspace = end.workspace;
    Ok(ToolEnd { run_id: terms.run_id, failure, workspace, ..ToolEnd::new(outcome, text) })
}

/// A run whose changes were refused has failed, too: what it did is not there.
fn outcome(end: &RunEnd) -> ToolOutcome {
    let is_refused = end.workspace.as_ref().is_some_and(|workspace| workspace.refused.is_some());
    match end.status {
        RunStatus::Success if !is_refused => ToolOutcome::Done,
        _ => ToolOutcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::workspace::WorkspaceEnd;
    use serde_json::json;

    use super::*;

    const CODE_BYTES_MAX: usize = 20;

    fn asked(arguments: &serde_json::Value) -> Result<AskedProgram, String> {
        program(&arguments.to_string(), CODE_BYTES_MAX)
    }

    #[test]
    fn a_command_is_bash_and_code_is_in_its_language() {
        for (arguments, language, code) in [
            (json!({ "command": "ls\r\npwd" }), "bash", "ls\npwd"),
            (json!({ "command": "ls", "language": "python", "code": "" }), "bash", "ls"),
            (json!({ "language": "python", "code": "print(1)" }), "python", "print(1)"),
            (json!({ "language": "Bash", "code": "ls", "command": null }), "bash", "ls"),
            (json!({ "language": "javascript", "code": "1" }), "javascript", "1"),
        ] {
            let program = asked(&arguments).unwrap();
            assert_eq!((program.language.as_str(), program.code.as_str()), (language, code));
        }
        let program = asked(&json!({ "command": "cat", "stdin": "in" })).unwrap();
        assert_eq!(program.stdin.as_deref(), Some("in"));
    }

    #[test]
    fn wrong_arguments_are_told() {
        let long = "x".repeat(CODE_BYTES_MAX + 1);
        for (arguments, words) in [
            (json!({}), "nothing to run: give `command`, or `language` and `code`"),
            (json!({ "command": " \n" }), "nothing to run"),
            (json!({ "language": "python" }), "nothing to run"),
            (json!({ "command": "ls", "language": "python", "code": "1" }), "not both"),
            (json!({ "code": "1" }), "`language` is missing"),
            (json!({ "code": "1", "language": "ruby" }), "one of python, javascript, bash"),
            (json!({ "command": ["ls", "-l"] }), "`command`: invalid type: sequence"),
            (json!({ "cmd": "ls" }), "unknown field `cmd`"),
            (json!({ "command": long }), "`command` has 21 bytes: at most 20"),
            (json!({ "code": long, "language": "bash" }), "`code` has 21 bytes"),
            (json!({ "command": "a", "stdin": "x".repeat(STDIN_BYTES_MAX + 1) }), "`stdin` has"),
        ] {
            let fault = asked(&arguments).unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
    }

    #[test]
    fn a_run_is_done_if_it_succeeded_and_its_changes_are_there() {
        let end = |status, refused: Option<&str>| RunEnd {
            workspace: Some(WorkspaceEnd {
                refused: refused.map(str::to_owned),
                ..WorkspaceEnd::default()
            }),
            status,
            ..run_report::tests::ended(EndedBy::Exit, 0)
        };
        assert_eq!(outcome(&end(RunStatus::Success, None)), ToolOutcome::Done);
        assert_eq!(outcome(&end(RunStatus::Success, Some("full"))), ToolOutcome::Failed);
        assert_eq!(outcome(&end(RunStatus::Error, None)), ToolOutcome::Failed);
        assert_eq!(outcome(&end(RunStatus::Timeout, None)), ToolOutcome::Failed);
    }
}
