//! A supervisor's operations on files, on a workspace that the test can change.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use ai_factory::clock::SystemClock;
use ai_factory_ports::{
    bus::{Bus, Message, header},
    request_reply,
    uploads::{UploadError, Uploads as _},
};
use ai_factory_schemas::{
    answer::{MissingFilesAnswer, SessionFilePart},
    id::SessionId,
    limit::FILE_PART_BYTES_MAX,
    problem::Problem,
    request::{MissingFiles, ReadSessionFile, UploadPart},
    session_files::{ListSessionFiles, SessionFiles},
    subject::{Operation, Subjects, operation},
    text::BlobHash,
    workspace::{WorkspaceFile, WorkspaceManifest},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::memory_uploads::MemoryUploads;

/// Bytes that differ from place to place, none of them UTF-8 as a whole.
pub fn sample(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// The verb of an operation, its body, its key.
pub type AskedFile = (String, Value, Option<String>);

/// The operations on files, on a workspace that the test can change.
pub struct ScriptedFiles {
    pub uploads: MemoryUploads,
    workspace: Mutex<BTreeMap<String, Vec<u8>>>,
    /// The most files in one answer.
    pub page_paths: AtomicUsize,
    /// What arrived.
    asked: Mutex<Vec<AskedFile>>,
    /// The file that is replaced once a first part of it was read.
    changing: Mutex<Option<String>>,
}

/// The session that has the workspace.
pub const SESSION: &str = "019a0000-0000-7000-8000-000000000004";

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Problem> {
    let wrong = |error: serde_json::Error| Problem::invalid(&["body"], "x", error.to_string());
    serde_json::from_slice(payload).map_err(wrong)
}

fn written(answer: &impl Serialize) -> Bytes {
    serde_json::to_vec(answer).unwrap().into()
}

fn refused(error: UploadError) -> Problem {
    match error {
        UploadError::Refused(sentence) => Problem::bad_request(sentence),
        other => Problem::unavailable(other.to_string()),
    }
}

impl ScriptedFiles {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            uploads: MemoryUploads::new(Arc::new(SystemClock::default())),
            workspace: Mutex::default(),
            page_paths: AtomicUsize::new(usize::MAX),
            asked: Mutex::default(),
            changing: Mutex::default(),
        })
    }

    /// Answers what is asked on this bus.
    pub async fn serve(self: Arc<Self>, bus: Arc<dyn Bus>) {
        let all = Subjects::default().actor("supervisor");
        let mut requests = bus.subscribe(all, None, 1024).await.unwrap();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let answered = self.answer(&request).await;
                let mut message = Message::new(request.reply.unwrap(), "");
                (message.headers, message.payload) = request_reply::write_answer(answered);
                bus.publish(message).await.unwrap();
            }
        });
    }

    async fn answer(&self, request: &Message) -> Result<Bytes, Problem> {
        let verb = request.subject.as_str().rsplit('.').next().unwrap().to_owned();
        let key = request.headers.get(header::MESSAGE_ID).map(str::to_owned);
        let body = serde_json::from_slice(&request.payload).unwrap();
        self.asked.lock().unwrap().push((verb.clone(), body, key));
        let is = |operation: Operation| operation.verb == verb;
        if is(operation::SUPERVISOR_FILES) {
            let ListSessionFiles { after, .. } = read(&request.payload)?;
            let files = self.workspace.lock().unwrap().iter().map(listed).collect();
            let id: SessionId = SESSION.parse().unwrap();
            let files = WorkspaceManifest { files };
            let whole = SessionFiles::new(id, &files, files.clone());
            Ok(written(&whole.page(after.as_deref(), self.page_paths.load(Relaxed))))
        } else if is(operation::SUPERVISOR_FILE) {
            self.file(&read(&request.payload)?)
        } else if is(operation::SUPERVISOR_MISSING) {
            let MissingFiles { hashes } = read(&request.payload)?;
            let has = self.uploads.has(hashes.clone()).await.unwrap();
            let missing = hashes.into_iter().zip(has).filter(|(_, has)| !has);
            Ok(written(&MissingFilesAnswer { missing: missing.map(|(hash, _)| hash).collect() }))
        } else {
            let UploadPart { hash, bytes, offset, content_base64 } = read(&request.payload)?;
            let part = BASE64_STANDARD.decode(content_base64).unwrap();
            let answer = self.uploads.put(hash, bytes, offset, part).await;
            Ok(written(&answer.map_err(refused)?))
        }
    }

    fn file(&self, asked: &ReadSessionFile) -> Result<Bytes, Problem> {
        let mut workspace = self.workspace.lock().unwrap();
        let nothing = || Problem::not_found(format!("there is no file `{}`", asked.path));
        let content = workspace.get(&asked.path).ok_or_else(nothing)?.clone();
        let begin = usize::try_from(asked.offset).unwrap();
        let end = content.len().min(begin + FILE_PART_BYTES_MAX);
        if self.changing.lock().unwrap().as_ref() == Some(&asked.path) {
            let other = content.iter().map(|byte| !byte).collect();
            workspace.insert(asked.path.clone(), other);
        }
        Ok(written(&SessionFilePart {
            file: listed((&asked.path, &content)).1,
            offset: asked.offset,
            content_base64: BASE64_STANDARD.encode(&content[begin..end]),
        }))
    }

    /// Puts a file into the workspace.
    pub fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.workspace.lock().unwrap().insert(path.to_owned(), content.into());
    }

    /// Replaces the file once a part of it was read.
    pub fn change_when_read(&self, path: &str) {
        *self.changing.lock().unwrap() = Some(path.to_owned());
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<AskedFile> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn listed((path, content): (&String, &Vec<u8>)) -> (String, WorkspaceFile) {
    let (blob, bytes) = (BlobHash::of(content), content.len() as u64);
    (path.clone(), WorkspaceFile { blob, bytes, executable: false })
}
