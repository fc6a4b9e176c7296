//! Files of sessions without a file system: programs of words on a workspace.

use std::{collections::BTreeMap, fmt::Write as _};

use ai_factory_ports::sandbox::{
    ChangedContent, ChangedFile, ProgramWorkspace, SandboxError, WorkspaceOutcome,
};
use ai_factory_schemas::{run::FileLeftOut, text::Blob, workspace::WorkspaceFile};

/// What a program left behind.
pub(super) struct Left {
    pub(super) exit_code: i32,
    pub(super) stdout: String,
    pub(super) outcome: Option<WorkspaceOutcome>,
    /// The program from its first other line on.
    pub(super) rest: Option<String>,
}

type Tree = BTreeMap<String, (Vec<u8>, bool)>;

/// Runs the lines of a program: `write PATH TEXT`, `add PATH TEXT` (at its end), `exec PATH`,
/// `delete PATH`, `read PATH` (prints it), `has PATH TEXT` and `lacks PATH` (exit code 1 if not
/// so), `big PATH` (a file that cannot be taken), `link PATH` (something that stays out).
pub(super) async fn run(source: &str, given: ProgramWorkspace) -> Result<Left, SandboxError> {
    let before = tree(&given).await?;
    let (mut now, mut refused, mut left_out) = (before.clone(), None, Vec::new());
    let mut left = Left { exit_code: 0, stdout: String::new(), outcome: None, rest: None };
    let mut lines = source.trim().lines();
    while let Some(line) = lines.next() {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (verb, path, text) = (word(), word(), word());
        match verb.as_str() {
            "write" => drop(now.insert(path, (text.into_bytes(), false))),
            "add" => now.entry(path).or_default().0.extend(text.into_bytes()),
            "exec" => now.get_mut(&path).unwrap().1 = true,
            "delete" => drop(now.remove(&path)),
            "read" => {
                let content = now.get(&path).map_or(&b"no such file"[..], |file| &file.0);
                left.stdout.push_str(&String::from_utf8_lossy(content));
            }
            "has" if now.get(&path).is_some_and(|file| file.0 == text.as_bytes()) => {}
            "lacks" if !now.contains_key(&path) => {}
            "has" | "lacks" => {
                left.exit_code = 1;
                write!(left.stdout, "not so: {line}").unwrap();
            }
            "big" => refused = Some(format!("{path:?} is too large")),
            "link" => {
                left_out.push(FileLeftOut { name: path, reason: "it is a link".to_owned() });
            }
            _ => {
                let rest: Vec<_> = std::iter::once(line).chain(lines.by_ref()).collect();
                left.rest = Some(rest.join("\n"));
            }
        }
    }
    let changes = refused.map_or_else(|| Ok(changes(&before, now)), Err);
    left.outcome = (!given.discard).then_some(WorkspaceOutcome { changes, left_out });
    Ok(left)
}

async fn tree(given: &ProgramWorkspace) -> Result<Tree, SandboxError> {
    let files = &given.files.files;
    let contents = given.contents.contents(files.values().map(|file| file.blob).collect()).await;
    let contents =
        contents.map_err(|message| SandboxError::Broken { layer: "workspace", message })?;
    let file = |((path, file), content): ((&String, &WorkspaceFile), Vec<u8>)| {
        (path.clone(), (content, file.executable))
    };
    Ok(files.iter().zip(contents).map(file).collect())
}

fn changes(before: &Tree, now: Tree) -> Vec<ChangedFile> {
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    let gone: Vec<_> = gone.map(|path| ChangedFile { path: path.clone(), file: None }).collect();
    let set = now.into_iter().filter(|(path, file)| before.get(path) != Some(file));
    let set = set.map(|(path, (content, executable))| ChangedFile {
        path,
        file: Some(ChangedContent { blob: Blob::new(content), executable }),
    });
    let mut changes: Vec<_> = gone.into_iter().chain(set).collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}
