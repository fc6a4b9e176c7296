//! `files`: the files of a session.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use ai_factory_schemas::{
    id::StreamId,
    session_files::SessionFiles,
    workspace::{FileChange, WorkspaceFile},
};
use clap::Args;

use crate::cli::{
    context::CommandContext,
    exit::{CommandError, Exit},
    files::{
        changes, fetch,
        out_directory::OutDirectory,
        recorded::{self, RecordedFiles},
        write_out::{self, WrittenOut},
    },
    output::Output,
    remote::FactoryTarget,
    session_lookup,
    table::TextTable,
};

/// A cell without a value.
const NOTHING: &str = "-";

/// List the files of a session, or write them to a directory.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ai-factory files 01a20529
  ai-factory files 01a20529 --out ./result

With --out all files of the session are written. A file that is there is replaced, or removed if \
the session deleted it, only if its content is what went in; any other stays as it is and is \
named, and the exit code is 1. Files that the session added and that .gitignore or .ignore of the \
directory name are not written, and of protected files nothing that the session changed.")]
pub(crate) struct FilesArgs {
    /// The session: its id, its request's id (the newest session of several), its key, or, without
    /// --server and --nats, the beginning of either id
    #[arg(value_name = "ID")]
    session: String,
    /// Write the files below a directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: FactoryTarget,
}

impl FilesArgs {
    /// Prints the list, with `--json` the answer of `supervisor.files`; writes the files.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        let out = self.out.as_ref().map(|path| write_out::open(path, context)).transpose()?;
        let (files, written) = if self.place.is_named() {
            let remote = self.place.open(context)?;
            let files = remote.session_files(&session_lookup::reference(&self.session)?)?;
            let to = out.as_ref().map(|out| fetch::write_from(&remote, &files, out));
            (files, to.transpose()?)
        } else {
            self.recorded(context, output, out.as_ref())?
        };
        if output.json {
            output.json(&files)?;
        } else if out.is_none() {
            list(output, &files)?;
        }
        match (&written, &self.out) {
            (Some(written), Some(path)) => Ok(written.report(output, path)),
            _ => Ok(Exit::DONE),
        }
    }

    /// The same from the journal.
    fn recorded(
        &self,
        context: &CommandContext,
        output: &mut Output,
        out: Option<&OutDirectory>,
    ) -> Result<(SessionFiles, Option<WrittenOut>), CommandError> {
        context.read(output, async |reader, _, _| {
            let id = session_lookup::find_session(reader, &self.session).await?.session_id;
            let records = reader.journal.load(StreamId::from(id), 0).await?;
            let recorded = RecordedFiles::load(&*reader.journal, &records).await?;
            let recorded = recorded.unwrap_or_default();
            let protect = recorded.protect.clone();
            let files = recorded.answer(id);
            let Some(out) = out else { return Ok((files, None)) };
            let bytes = async |_: &str, file: WorkspaceFile| {
                recorded::blob(&*reader.journal, file.blob).await
            };
            let written = write_out::all(out, &files, &protect, bytes).await?;
            Ok((files, Some(written)))
        })
    }
}

/// A row for each file, and for each that was deleted.
fn list(output: &mut Output, files: &SessionFiles) -> std::io::Result<()> {
    let came_in = |path: &str| files.before.files.contains_key(path);
    let word = |change: &FileChange| changes::word(change, came_in(&change.path));
    let changed: BTreeMap<_, _> =
        files.changes.iter().map(|change| (change.path.as_str(), word(change))).collect();
    let mut paths: BTreeSet<_> = files.files.files.keys().map(String::as_str).collect();
    paths.extend(changed.keys());
    let mut table = TextTable::new(&["BYTES", "CHANGE", "PATH"]);
    for path in paths {
        let bytes = files.files.files.get(path).map(|file| file.bytes.to_string());
        let change = changed.get(path).copied().unwrap_or(NOTHING);
        table.row([bytes.as_deref().unwrap_or(NOTHING), change, path]);
    }
    output.table_in_full(&table)
}
