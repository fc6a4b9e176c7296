//! Runs of a session in the debugger: its steps and its check.

use std::{convert::identity, time::Duration};

use ai_factory_ports::{
    bus::{Headers, header},
    request_reply::call,
};
use ai_factory_schemas::{
    check::{Check, CheckFinished, CheckMoment},
    id::{RunId, SessionId},
    plan::Code,
    problem::Problem,
    request::RunRequest,
    run::RunEnd,
    session::StepFinished,
    subject::operation,
    text::Blob,
    workspace::{ChangeList, RunWorkspace},
};
use tokio::task::spawn_blocking;

use super::{pause::pause, state::Session};
use crate::{
    deps::Deps,
    workspace::{
        patterns::ProtectedPaths,
        protect::{self, CheckedTree},
        tree::{SessionTree, SessionWorkspace},
    },
};

/// What runs of a session need of its state.
pub(super) struct RunTerms {
    workspace: Option<SessionWorkspace>,
    check: Option<Check>,
    protect: Vec<String>,
}

impl RunTerms {
    pub(super) fn of(session: &Session) -> Self {
        Self {
            workspace: session.workspace().cloned(),
            check: session.check().cloned(),
            protect: session.opened().map(|opened| opened.protect.clone()).unwrap_or_default(),
        }
    }

    async fn tree(&self, deps: &Deps) -> Result<Option<SessionTree>, Problem> {
        let Some(workspace) = &self.workspace else { return Ok(None) };
        workspace.tree(&*deps.journal).await.map(Some).map_err(Problem::internal)
    }
}

fn request(session: SessionId, run: RunId, language: String, code: String) -> RunRequest {
    RunRequest {
        code,
        language,
        stdin: None,
        files: Vec::new(),
        return_files: Vec::new(),
        run_id: Some(run),
        session_id: Some(session),
        workspace: None,
        wall_ms_max: None,
    }
}

/// Runs a step on the session's files.
pub(super) async fn step(
    deps: &Deps,
    headers: Headers,
    (session, step, run): (SessionId, u32, RunId),
    code: Option<Code>,
    terms: &RunTerms,
) -> Result<StepFinished, Problem> {
    // Only steps with code are dispatched; the debugger refuses a run without code.
    let (language, code) = code.map_or_else(Default::default, |code| (code.language, code.source));
    let files = terms.tree(deps).await?.map(|tree| tree.now);
    let workspace = files.map(|files| RunWorkspace { files, discard: false });
    let asked = RunRequest { workspace, ..request(session, run, language, code) };
    let end = ask(deps, headers, &asked, deps.limits.step_max).await?;
    Ok(StepFinished {
        step,
        run_id: run,
        status: end.status,
        exit_code: end.exit_code,
        ended_by: end.ended_by,
        stdout: end.stdout,
        stderr: end.stderr,
        duration_ms: end.duration_ms,
        workspace: end.workspace,
    })
}

/// Runs the check on the session's files, with the protected ones restored. The second value is the
/// blob that its record refers to, if there is one.
pub(super) async fn check(
    deps: &Deps,
    headers: Headers,
    (session, moment, run): (SessionId, CheckMoment, RunId),
    terms: &RunTerms,
) -> Result<(CheckFinished, Option<Blob>), Problem> {
    let gone = || Problem::internal(format!("session {session} has no check"));
    let Check { language, code } = terms.check.clone().ok_or_else(gone)?;
    let tree = terms.tree(deps).await?.unwrap_or_default();
    let CheckedTree { files, restored, changed_tests } = checked(tree, &terms.protect).await?;
    let wall_ms_max = u64::try_from(deps.limits.check_wall_max.as_millis()).unwrap_or(u64::MAX);
    let asked = RunRequest {
        workspace: Some(RunWorkspace { files, discard: true }),
        wall_ms_max: Some(wall_ms_max),
        ..request(session, run, language, code)
    };
    let end = ask(deps, headers, &asked, deps.limits.session_with_check_max()).await?;
    let (restored, blob) = if restored.is_empty() {
        (None, None)
    } else {
        let listed = ChangeList::new(restored);
        let (list, blob) = listed.map_err(|fault| Problem::internal(fault.to_string()))?;
        (Some(list), blob)
    };
    let finished = CheckFinished {
        moment,
        run_id: run,
        status: end.status,
        exit_code: end.exit_code,
        ended_by: end.ended_by,
        stdout: end.stdout,
        stderr: end.stderr,
        duration_ms: end.duration_ms,
        restored,
        changed_tests,
        diagnosis: end.diagnosis.map(|it| *it),
        turn: None,
    };
    Ok((finished, blob))
}

/// The files for a check. Away from the other actors: it takes time with many files and patterns.
async fn checked(tree: SessionTree, protect: &[String]) -> Result<CheckedTree, Problem> {
    let protect = protect.to_vec();
    let restoring = spawn_blocking(move || {
        ProtectedPaths::new(&protect).map(|protected| protect::restore(&tree, &protected))
    });
    let restored = restoring.await.map_err(|fault| fault.to_string()).and_then(identity);
    restored.map_err(|fault| {
        Problem::internal(format!("the protected files could not be restored: {fault}"))
    })
}

/// Requests a run from the debugger and retries while the refusal is transient: the debugger
/// recognises the run by its id, and the session's own deadline ends the wait. The outputs come as
/// head and hash: their blobs are in the journal already.
pub(crate) async fn ask(
    deps: &Deps,
    mut headers: Headers,
    asked: &RunRequest,
    wait_max: Duration,
) -> Result<RunEnd, Problem> {
    headers.set(header::OUTPUTS, header::RECORDED);
    loop {
        let asking = call(
            &*deps.bus,
            &deps.subjects,
            operation::DEBUGGER_RUN,
            asked,
            headers.clone(),
            wait_max,
        );
        match asking.await {
            Err(problem) if problem.is_transient() => pause(&problem).await,
            answered => return answered,
        }
    }
}
