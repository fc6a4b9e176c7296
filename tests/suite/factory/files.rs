//! Files of sessions without a file system: programs of words on a workspace, and uploads in
//! memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use ai_factory_ports::{
    sandbox::{ChangedContent, ChangedFile, ProgramWorkspace, SandboxError, WorkspaceOutcome},
    uploads::{UploadError, Uploads},
};
use ai_factory_schemas::{
    answer::Uploaded,
    run::FileLeftOut,
    text::{Blob, BlobHash},
    workspace::WorkspaceFile,
};

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
                left.stdout.push_str(&format!("not so: {line}"));
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

/// Uploads that are lost with the process.
#[derive(Default)]
pub(super) struct MemoryUploads(Mutex<HashMap<BlobHash, (u64, Vec<u8>)>>);

#[async_trait::async_trait]
impl Uploads for MemoryUploads {
    async fn has(&self, hashes: Vec<BlobHash>) -> Result<Vec<bool>, UploadError> {
        let held = self.0.lock().unwrap();
        let is_whole = |(bytes, content): &(u64, Vec<u8>)| *bytes == content.len() as u64;
        Ok(hashes.iter().map(|hash| held.get(hash).is_some_and(is_whole)).collect())
    }

    async fn put(
        &self,
        hash: BlobHash,
        bytes: u64,
        offset: u64,
        part: Vec<u8>,
    ) -> Result<Uploaded, UploadError> {
        let mut held = self.0.lock().unwrap();
        let (_, content) = held.entry(hash).or_insert((bytes, Vec::new()));
        // A part that came before changes nothing.
        let is_known = offset + part.len() as u64 <= content.len() as u64;
        if is_known {
            let received = content.len() as u64;
            return Ok(Uploaded { hash, received, complete: received == bytes });
        }
        if offset != content.len() as u64 {
            let received = content.len();
            return Err(UploadError::Refused(format!("the next part begins at {received}")));
        }
        content.extend(part);
        let received = content.len() as u64;
        Ok(Uploaded { hash, received, complete: received == bytes })
    }

    async fn content(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, UploadError> {
        let held = self.0.lock().unwrap();
        let whole = held.get(&hash).filter(|(bytes, content)| *bytes == content.len() as u64);
        Ok(whole.map(|(_, content)| content.clone()))
    }
}
