//! The source texts of a run, for the lines around a failure.

use std::collections::BTreeSet;

use ai_factory_ports::{
    journal::Journal,
    sandbox::{Program, ProgramOutcome, ProgramWorkspace},
};
use ai_factory_schemas::{diagnosis::Diagnosis, file::KeptFile, text::Blob};

use super::{Diagnosed, diagnose, excerpt, failed_program::FailedProgram};
use crate::debugger::input;

/// What a program consists of: its text, its input files, its workspace.
pub(in crate::debugger) struct ProgramSources {
    language: String,
    code: String,
    files: Vec<KeptFile>,
    workspace: Option<ProgramWorkspace>,
}

impl ProgramSources {
    /// The sources of `program`, whose input files are recorded as `files`.
    pub(in crate::debugger) fn new(program: &Program, files: Vec<KeptFile>) -> Self {
        let Program { language, source, workspace, .. } = program;
        Self {
            language: language.clone(),
            code: source.clone(),
            files,
            workspace: workspace.clone(),
        }
    }

    /// Why the program failed, with the lines around the failure if they can be read; `None` if it
    /// did not fail.
    pub(in crate::debugger) async fn diagnose(
        &self,
        journal: &dyn Journal,
        ran: &ProgramOutcome,
    ) -> Option<Diagnosis> {
        let changes = ran.workspace.as_ref().and_then(|it| it.changes.as_ref().ok());
        let written: BTreeSet<_> =
            changes.into_iter().flatten().map(|change| change.path.as_str()).collect();
        let Diagnosed { mut diagnosis, is_program } = diagnose(&FailedProgram {
            language: &self.language,
            ended_by: ran.ended_by,
            exit_code: ran.exit_code,
            signal: ran.signal,
            stdout: &ran.stdout.text,
            stderr: &ran.stderr.text,
            is_file: &|path| written.contains(path) || self.has(path),
            has_workspace: self.workspace.is_some(),
        })?;
        if let (Some(path), Some(line)) = (&diagnosis.file, diagnosis.line) {
            let text = if is_program {
                Some(self.code.clone())
            } else {
                self.text(journal, ran, path).await
            };
            diagnosis.excerpt = text.map(|text| excerpt(&text, line)).unwrap_or_default();
        }
        Some(diagnosis)
    }

    fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.name == path)
            || self.workspace.as_ref().is_some_and(|it| it.files.files.contains_key(path))
    }

    /// The text of a file: as the program left it, else as it was at the start.
    async fn text(
        &self,
        journal: &dyn Journal,
        ran: &ProgramOutcome,
        path: &str,
    ) -> Option<String> {
        let bytes = match changed(ran, path) {
            Some(blob) => blob.bytes().to_vec(),
            None => self.bytes(journal, path).await?,
        };
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn bytes(&self, journal: &dyn Journal, path: &str) -> Option<Vec<u8>> {
        if let Some(file) = self.files.iter().find(|file| file.name == path) {
            let files = input::files(journal, std::slice::from_ref(file)).await.ok()?;
            return files.into_iter().next().map(|file| file.bytes);
        }
        let workspace = self.workspace.as_ref()?;
        let file = workspace.files.files.get(path)?;
        workspace.contents.contents(vec![file.blob]).await.ok()?.pop()
    }
}

/// The content of a file that the program changed.
fn changed<'a>(ran: &'a ProgramOutcome, path: &str) -> Option<&'a Blob> {
    let changes = ran.workspace.as_ref()?.changes.as_ref().ok()?;
    let change = changes.iter().find(|change| change.path == path)?;
    change.file.as_ref().map(|file| &file.blob)
}
