//! The list of runs: code, request, session and end.

use ai_factory_schemas::{
    answer::RunRow,
    envelope::Recorded,
    event::Event,
    id::{RequestId, RunId, SessionId},
    run::{RunEvent, RunRequested},
    text::Text,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::rows::{RowError, RowTable, Rows, position_key};

/// Facts of a run that are known from its request on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunFacts {
    /// The request that submitted the code.
    pub(crate) request_id: RequestId,
    /// The session whose step it is, if any.
    pub(crate) session_id: Option<SessionId>,
    /// Time of the request.
    pub(crate) timestamp: Timestamp,
    /// The language as requested.
    pub(crate) language: String,
    /// The run.
    pub(crate) run_id: RunId,
}

/// A run's outputs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RunOutputs {
    /// Standard output.
    pub(crate) stdout: Text,
    /// Standard error.
    pub(crate) stderr: Text,
}

/// Status of a run that has not ended.
pub(crate) const RUNNING: &str = "running";
const ABANDONED: &str = "abandoned";

impl RunFacts {
    /// The row in the debugger's logs. `status` is that of its end, if it ended.
    pub(crate) fn row(self, id: u64, status: Option<String>) -> RunRow {
        RunRow {
            id,
            request_id: self.request_id,
            timestamp: self.timestamp,
            language: self.language,
            status: status.unwrap_or_else(|| RUNNING.to_owned()),
            run_id: self.run_id,
        }
    }
}

/// Key of a session's run: the runs of one session are adjacent and in order.
pub(crate) fn session_run_key(session: SessionId, position: u64) -> Vec<u8> {
    [session.0.as_bytes().as_slice(), &position.to_be_bytes()].concat()
}

/// Applies `event` to the runs.
pub(crate) fn apply(event: &Recorded, rows: &mut impl Rows) -> Result<(), RowError> {
    let Event::Run(happened) = &event.event else { return Ok(()) };
    let run_id = RunId(event.stream.id);
    match happened {
        RunEvent::Requested(requested) => request(event, run_id, requested, rows),
        RunEvent::Dispatched(_) => Ok(()),
        RunEvent::Finished(finished) => {
            let outputs = RunOutputs {
                stdout: finished.end.stdout.clone(),
                stderr: finished.end.stderr.clone(),
            };
            end(run_id, finished.end.status.as_str(), Some(&outputs), rows)
        }
        RunEvent::Abandoned(_) => end(run_id, ABANDONED, None, rows),
    }
}

fn request(
    event: &Recorded,
    run_id: RunId,
    requested: &RunRequested,
    rows: &mut impl Rows,
) -> Result<(), RowError> {
    let key = position_key(event.position);
    let facts = RunFacts {
        request_id: requested.request_id.clone(),
        session_id: requested.session_id,
        timestamp: event.time,
        language: requested.language.clone(),
        run_id,
    };
    rows.put(RowTable::Runs, key.clone(), &facts)?;
    rows.put(RowTable::RunCodes, key.clone(), &requested.code)?;
    rows.set(RowTable::RunIds, run_id.0.as_bytes().to_vec(), Some(key.clone()));
    rows.put(RowTable::OpenRuns, key, &(run_id, requested.session_id))?;
    if let Some(session) = requested.session_id {
        rows.put(RowTable::SessionRuns, session_run_key(session, event.position), &run_id)?;
    }
    Ok(())
}

fn end(
    run_id: RunId,
    status: &str,
    outputs: Option<&RunOutputs>,
    rows: &mut impl Rows,
) -> Result<(), RowError> {
    let Some(key) = rows.get(RowTable::RunIds, run_id.0.as_bytes())? else { return Ok(()) };
    rows.put(RowTable::RunEnds, key.clone(), &status)?;
    if let Some(outputs) = outputs {
        rows.put(RowTable::RunOutputs, key.clone(), outputs)?;
    }
    rows.set(RowTable::OpenRuns, key, None);
    Ok(())
}
