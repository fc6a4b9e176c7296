//! Sessions that a command followed to their end: their results and their changed files.

use ai_factory_actors::session::story;
use ai_factory_ports::journal::Journal;
use ai_factory_schemas::{
    answer::{GoalAnswer, SessionRow},
    id::{SessionId, StreamId},
};

use super::{
    exit::CommandError,
    files::{changes, recorded::RecordedFiles},
    output::Output,
    silence,
};

/// A session that is over.
#[derive(Debug)]
pub(crate) struct EndedSession {
    /// Its id.
    pub(crate) id: SessionId,
    /// Whether its files differ from what came in.
    pub(crate) has_changes: bool,
    /// Its result, of a session with a model.
    result: Option<String>,
    /// Its changed files and the outcome of its check, of a session with a model.
    files: Vec<String>,
}

impl EndedSession {
    /// Those of the rows that are over.
    pub(crate) async fn load_all(
        journal: &dyn Journal,
        rows: &[SessionRow],
    ) -> Result<Vec<Self>, CommandError> {
        let mut all = Vec::new();
        for row in rows.iter().filter(|row| row.end.is_some()) {
            all.push(Self::load(journal, row).await?);
        }
        Ok(all)
    }

    async fn load(journal: &dyn Journal, row: &SessionRow) -> Result<Self, CommandError> {
        let id = row.session_id;
        let records = journal.load(StreamId::from(id), 0).await?;
        let files = RecordedFiles::load(journal, &records).await?;
        let has_changes = files.as_ref().is_some_and(|files| !files.tree.changes().is_empty());
        let mut ended = Self { id, has_changes, result: None, files: Vec::new() };
        if row.budget.is_none() {
            return Ok(ended);
        }
        // A session that ended without a plan has no answer.
        if let Ok(GoalAnswer::Concluded(answer)) = story::goal_answer(journal, id).await {
            let before = files.map(|files| files.tree.before).unwrap_or_default();
            ended.result = Some(silence::of_model(&answer.result, row.status).to_owned());
            ended.files = changes::of_answer(&answer, |path| before.files.contains_key(path));
        }
        Ok(ended)
    }

    /// Prints the result, the changed files and the outcome of the check.
    pub(crate) fn print(&self, output: &mut Output) -> Result<(), CommandError> {
        for text in self.result.iter().chain(&self.files) {
            output.text(text)?;
        }
        Ok(())
    }
}
