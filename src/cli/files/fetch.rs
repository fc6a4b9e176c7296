//! Files of a session, fetched from a running factory.

use std::time::Duration;

use ai_factory_ports::{
    bus::{Bus, Headers},
    request_reply,
};
use ai_factory_schemas::{
    answer::SessionFilePart,
    request::ReadSessionFile,
    session::SessionOpened,
    session_files::SessionFiles,
    subject::{Subjects, operation},
    text::BlobHash,
    workspace::WorkspaceFile,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    out_directory::OutDirectory,
    write_out::{self, WrittenOut},
};
use crate::cli::{
    exit::CommandError,
    http_client::FactoryClient,
    remote::{RemoteFactory, address, over_nats},
};

/// Timeout for one request.
const WAIT: Duration = Duration::from_secs(30);

/// Carries out the changes of a session below a directory, and writes its other files that are not
/// there; only what is written is fetched.
pub(crate) fn write_from(
    remote: &RemoteFactory,
    files: &SessionFiles,
    out: &OutDirectory,
) -> Result<WrittenOut, CommandError> {
    let protect = protect(remote, files)?;
    match remote {
        RemoteFactory::Http(client) => {
            let content =
                async |path: &str, file: WorkspaceFile| over_http(client, files, path, file).await;
            client.block_on(write_out::all(out, files, &protect, content))
        }
        RemoteFactory::Nats { nats, settings } => over_nats(nats, async |bus| {
            let subjects = settings.subjects();
            let content = async |path: &str, file: WorkspaceFile| {
                over_bus(&*bus, &subjects, files, path, file).await
            };
            write_out::all(out, files, &protect, content).await
        }),
    }
}

/// The patterns of the files that the session may not change.
fn protect(remote: &RemoteFactory, files: &SessionFiles) -> Result<Vec<String>, CommandError> {
    if files.changes.is_empty() {
        return Ok(Vec::new());
    }
    let story = remote.session(&files.session_id.into())?;
    let opened = story.timeline.into_iter().find(|entry| entry.event == "session.opened");
    let opened = opened.map(|entry| serde_json::from_value::<SessionOpened>(entry.data));
    match opened {
        Some(Ok(opened)) => Ok(opened.protect),
        _ => Err(CommandError::failed(
            "the factory does not tell which files of the session are protected: nothing is written",
        )),
    }
}

async fn over_http(
    client: &FactoryClient,
    files: &SessionFiles,
    path: &str,
    file: WorkspaceFile,
) -> Result<Vec<u8>, CommandError> {
    let id = files.session_id.to_string();
    let parts: Vec<_> =
        ["supervisor", "sessions", &id, "files"].into_iter().chain(path.split('/')).collect();
    let url = address(client.base(), &parts, &[])?;
    let bytes = client.bytes(url.as_str(), WAIT).await??;
    checked(path, file, bytes.to_vec())
}

async fn over_bus(
    bus: &dyn Bus,
    subjects: &Subjects,
    files: &SessionFiles,
    path: &str,
    file: WorkspaceFile,
) -> Result<Vec<u8>, CommandError> {
    let mut bytes: Vec<u8> = Vec::new();
    while (bytes.len() as u64) < file.bytes {
        let body = ReadSessionFile {
            id: files.session_id.into(),
            path: path.to_owned(),
            offset: bytes.len() as u64,
        };
        let (read, none) = (operation::SUPERVISOR_FILE, Headers::default());
        let part: SessionFilePart =
            request_reply::call(bus, subjects, read, &body, none, WAIT).await?;
        let decoded = BASE64_STANDARD.decode(&part.content_base64);
        let decoded = decoded.map_err(|_| wrong(path))?;
        if decoded.is_empty() {
            return Err(wrong(path));
        }
        bytes.extend(decoded);
    }
    checked(path, file, bytes)
}

/// The bytes, if they are those that the list of files names.
fn checked(path: &str, file: WorkspaceFile, bytes: Vec<u8>) -> Result<Vec<u8>, CommandError> {
    if BlobHash::of(&bytes) == file.blob { Ok(bytes) } else { Err(wrong(path)) }
}

fn wrong(path: &str) -> CommandError {
    CommandError::failed(format_args!(
        "the factory sent other bytes for `{path}` than it lists: try again"
    ))
}
