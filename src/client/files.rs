//! Files of goals and of sessions: uploads, and what a session made.

use ai_factory_schemas::{
    answer::{MissingFilesAnswer, SessionFilePart, Uploaded},
    id::SessionId,
    limit::FILE_PART_BYTES_MAX,
    problem::Problem,
    request::{MissingFiles, ReadSessionFile, SessionSelector, UploadPart},
    session_files::{ListSessionFiles, SessionFiles},
    subject::operation,
    text::BlobHash,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Client, REQUEST_MAX};

/// The size of an uploaded part, in bytes: in base64 it fits a message of 1 MiB, the default limit
/// of a NATS server.
const PART_BYTES: usize = FILE_PART_BYTES_MAX;

impl Client {
    /// The files of a session's workspace, and what differs from those that came in; fetched page
    /// by page.
    ///
    /// # Errors
    /// 404 if there is no session with that id.
    pub async fn files(&self, session_id: SessionId) -> Result<SessionFiles, Problem> {
        let which = SessionSelector::id(session_id);
        let mut asked = ListSessionFiles { which, ..ListSessionFiles::default() };
        let mut files: SessionFiles =
            self.ask(operation::SUPERVISOR_FILES, &asked, None, REQUEST_MAX).await?;
        while let Some(after) = files.next.take() {
            asked.after = Some(after);
            let page = self.ask(operation::SUPERVISOR_FILES, &asked, None, REQUEST_MAX).await?;
            files.append(page);
        }
        Ok(files)
    }

    /// The content of a file of a session's workspace.
    ///
    /// # Errors
    /// 404 if there is no such session or file; 409 if it changed while it was read.
    pub async fn file(&self, session_id: SessionId, path: &str) -> Result<Vec<u8>, Problem> {
        let mut content = Vec::new();
        let mut begun = None;
        loop {
            let offset = content.len() as u64;
            let which = ReadSessionFile { id: session_id.into(), path: path.to_owned(), offset };
            let part: SessionFilePart =
                self.ask(operation::SUPERVISOR_FILE, &which, None, REQUEST_MAX).await?;
            let file = *begun.get_or_insert(part.file);
            if (file.blob, file.bytes) != (part.file.blob, part.file.bytes) {
                return Err(Problem::conflict(format!("`{path}` changed while it was read")));
            }
            let bytes = BASE64_STANDARD.decode(&part.content_base64).map_err(|_| malformed())?;
            content.extend_from_slice(&bytes);
            let received = content.len() as u64;
            if received == file.bytes && BlobHash::of(&content) == file.blob {
                return Ok(content);
            }
            if part.offset != offset || bytes.is_empty() || received >= file.bytes {
                return Err(malformed());
            }
        }
    }

    /// Which of these contents the factory lacks, in the order asked.
    ///
    /// # Errors
    /// 413 for more than 2,000 hashes; 503 if there is no factory.
    pub async fn missing(&self, hashes: Vec<BlobHash>) -> Result<Vec<BlobHash>, Problem> {
        let which = MissingFiles { hashes };
        let answer: MissingFilesAnswer =
            self.ask(operation::SUPERVISOR_MISSING, &which, None, REQUEST_MAX).await?;
        Ok(answer.missing)
    }

    /// Sends the content of a file for goals to come, unless the factory has it; goals name it by
    /// its hash, which is returned. The factory keeps it for an hour after it was last asked for.
    /// One that broke off is taken up where it ended.
    ///
    /// # Errors
    /// The factory's refusals: too large, or no room for more uploads.
    pub async fn upload(&self, content: &[u8]) -> Result<BlobHash, Problem> {
        let hash = BlobHash::of(content);
        if self.missing(vec![hash]).await?.is_empty() {
            return Ok(hash);
        }
        let bytes = content.len() as u64;
        let (mut offset, mut left) = (0, content);
        loop {
            let content_base64 = BASE64_STANDARD.encode(&left[..left.len().min(PART_BYTES)]);
            let sent = UploadPart { hash, bytes, offset, content_base64 };
            let Uploaded { received, complete, .. } =
                self.ask(operation::SUPERVISOR_UPLOAD, &sent, None, REQUEST_MAX).await?;
            if complete {
                return Ok(hash);
            }
            // Beyond the part if an earlier upload broke off there.
            let rest = usize::try_from(received).ok().and_then(|from| content.get(from..));
            left =
                rest.filter(|rest| !rest.is_empty() && received > offset).ok_or_else(malformed)?;
            offset = received;
        }
    }
}

fn malformed() -> Problem {
    Problem::internal("the factory's answer does not fit the file")
}
