//! Contents of files on their way to a factory.
//!
//! *Promises.* What the factory has is not sent. An upload that broke off is continued where it
//! ended. A goal has the same form however much of it the factory had.

use std::{collections::BTreeMap, time::Duration};

use ai_factory_ports::{
    bus::{Bus, Headers},
    request_reply,
};
use ai_factory_schemas::{
    answer::{MissingFilesAnswer, Uploaded},
    limit::{FILE_PART_BYTES_MAX, UPLOAD_PART_BYTES_MAX},
    problem::Problem,
    request::{GoalFile, MissingFiles, UploadPart},
    subject::{Subjects, operation},
    text::BlobHash,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::sleep;

use super::collect::{InputFile, InputFiles};
use crate::{
    cli::{
        exit::CommandError,
        http_client::FactoryClient,
        remote::{RemoteFactory, over_nats},
    },
    clock::new_key,
    wiring::Factory,
};

/// Contents that travel inside the goal, all together, in bytes; larger sets go by hash.
const INLINE_BYTES_MAX: u64 = 256 * 1024;
/// Requests on their way at the same time.
const IN_FLIGHT: usize = 8;
/// Timeout for one request.
const WAIT: Duration = Duration::from_secs(30);
/// How often a part is sent to a factory that has no capacity for it.
const TRIES_MAX: u32 = 10;

/// The files of a goal: with their contents if these are small, by hash otherwise.
pub(crate) fn goal_files(found: &InputFiles) -> Vec<GoalFile> {
    let is_inline = is_inline(found);
    found.files.iter().map(|(path, file)| goal_file(path, file, is_inline)).collect()
}

fn is_inline(found: &InputFiles) -> bool {
    found.bytes() <= INLINE_BYTES_MAX
}

fn goal_file(path: &str, file: &InputFile, is_inline: bool) -> GoalFile {
    let mut goal =
        GoalFile { name: path.to_owned(), executable: file.executable, ..GoalFile::default() };
    if !is_inline && !file.content.is_empty() {
        goal.hash = Some(file.hash);
    } else if let Some(text) = plain_text(&file.content) {
        goal.text = Some(text.to_owned());
    } else {
        goal.content_base64 = Some(BASE64_STANDARD.encode(&file.content));
    }
    goal
}

/// The text, if it takes hardly more room in JSON than its bytes do.
fn plain_text(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    text.chars().all(is_plain).then_some(text)
}

/// The contents that go by hash.
fn contents(found: &InputFiles) -> BTreeMap<BlobHash, Bytes> {
    if is_inline(found) {
        return BTreeMap::new();
    }
    let files = found.files.values().filter(|file| !file.content.is_empty());
    files.map(|file| (file.hash, file.content.clone())).collect()
}

fn asked(contents: &BTreeMap<BlobHash, Bytes>) -> MissingFiles {
    MissingFiles { hashes: contents.keys().copied().collect() }
}

/// What the factory lacks.
fn lacking(
    contents: &BTreeMap<BlobHash, Bytes>,
    answer: MissingFilesAnswer,
) -> impl Iterator<Item = (BlobHash, Bytes)> {
    answer.missing.into_iter().filter_map(|hash| Some((hash, contents.get(&hash)?.clone())))
}

/// Sends a running factory what it lacks.
pub(crate) fn send(remote: &RemoteFactory, found: &InputFiles) -> Result<(), CommandError> {
    let contents = contents(found);
    if contents.is_empty() {
        return Ok(());
    }
    match remote {
        RemoteFactory::Http(client) => client.block_on(over_http(client, &contents)),
        RemoteFactory::Nats { nats, settings } => {
            over_nats(nats, async |bus| over_bus(&*bus, &settings.subjects(), &contents).await)
        }
    }
}

/// Hands the factory of this process what it lacks.
pub(crate) async fn hand_over(factory: &Factory, found: &InputFiles) -> Result<(), CommandError> {
    match contents(found) {
        contents if contents.is_empty() => Ok(()),
        contents => over_bus(&*factory.bus, &factory.subjects, &contents).await,
    }
}

async fn over_bus(
    bus: &dyn Bus,
    subjects: &Subjects,
    contents: &BTreeMap<BlobHash, Bytes>,
) -> Result<(), CommandError> {
    let (missing, body) = (operation::SUPERVISOR_MISSING, asked(contents));
    let none = Headers::default();
    let answer = request_reply::call(bus, subjects, missing, &body, none, WAIT).await?;
    let uploads = lacking(contents, answer).map(async |(hash, content)| {
        let bytes = content.len() as u64;
        let part = async |offset: usize, part: Bytes| {
            let content_base64 = BASE64_STANDARD.encode(part);
            let offset = offset as u64;
            let body = UploadPart { hash, bytes, offset, content_base64 };
            let (upload, none) = (operation::SUPERVISOR_UPLOAD, Headers::default());
            Ok(request_reply::call(bus, subjects, upload, &body, none, WAIT).await)
        };
        upload(&content, FILE_PART_BYTES_MAX, part).await
    });
    stream::iter(uploads).buffer_unordered(IN_FLIGHT).try_collect().await
}

async fn over_http(
    client: &FactoryClient,
    contents: &BTreeMap<BlobHash, Bytes>,
) -> Result<(), CommandError> {
    let json = serde_json::to_vec(&asked(contents)).map_err(CommandError::failed)?;
    let url = format!("{}/files/missing", client.base());
    let answer = client.send_json(&url, new_key().as_str(), json, WAIT).await??;
    let uploads = lacking(contents, answer).map(async |(hash, content)| {
        let bytes = content.len();
        let part = async |offset, part| {
            let url = format!("{}/files/{hash}?bytes={bytes}&offset={offset}", client.base());
            client.put(&url, part, WAIT).await
        };
        upload(&content, UPLOAD_PART_BYTES_MAX, part).await
    });
    stream::iter(uploads).buffer_unordered(IN_FLIGHT).try_collect().await
}

/// Sends a content in parts. Each answer says where the next one begins, so that what an earlier
/// upload left is not sent again.
async fn upload(
    content: &Bytes,
    part_bytes_max: usize,
    mut send: impl AsyncFnMut(usize, Bytes) -> Result<Result<Uploaded, Problem>, CommandError>,
) -> Result<(), CommandError> {
    let (mut offset, mut tries) = (0, 0);
    loop {
        let end = content.len().min(offset + part_bytes_max);
        let answer = match send(offset, content.slice(offset..end)).await? {
            Err(Problem { status: 503, retry_after: Some(after), .. }) if tries < TRIES_MAX => {
                tries += 1;
                sleep(after).await;
                continue;
            }
            answer => answer?,
        };
        if answer.complete {
            return Ok(());
        }
        let received = usize::try_from(answer.received).unwrap_or(usize::MAX);
        if received <= offset || received >= content.len() {
            return Err(CommandError::failed(format_args!(
                "the factory says that it has {received} bytes of a file of {} bytes after {end} \
                 were sent: try again",
                content.len()
            )));
        }
        (offset, tries) = (received, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::runtime::Builder;

    use super::*;

    fn found(files: &[(&str, &[u8])]) -> InputFiles {
        let file = |content: &[u8]| InputFile {
            content: Bytes::copy_from_slice(content),
            hash: BlobHash::of(content),
            executable: false,
            source: PathBuf::new(),
        };
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), file(content)));
        InputFiles { files: files.collect(), left_out: Vec::new() }
    }

    #[test]
    fn small_files_travel_in_the_goal_and_large_sets_by_hash() {
        let small = found(&[("a", b"text\n"), ("b", b"\xff\x00"), ("c", b"\x1b[0m"), ("d", b"")]);
        let files = goal_files(&small);
        let texts: Vec<_> = files.iter().map(|file| file.text.as_deref()).collect();
        assert_eq!(texts, [Some("text\n"), None, None, Some("")]);
        assert_eq!(files[1].content_base64.as_deref(), Some("/wA="));
        assert!(contents(&small).is_empty());

        let large = vec![b'x'; 200 * 1024];
        let large = found(&[("a", &large), ("b", &large), ("c", b"small"), ("d", b"")]);
        let files = goal_files(&large);
        let hashes: Vec<_> = files.iter().map(|file| file.hash.is_some()).collect();
        assert_eq!(hashes, [true, true, true, false]);
        assert_eq!(files[3].text.as_deref(), Some(""));
        assert_eq!(contents(&large).len(), 2);
    }

    /// Uploads ten bytes in parts of three to a factory that answers so; the offsets of the parts.
    fn offsets(answers: &[Result<(u64, bool), Problem>]) -> (Vec<usize>, Result<(), CommandError>) {
        let content = Bytes::from_static(b"0123456789");
        let (mut offsets, mut answers) = (Vec::new(), answers.iter());
        let done = Builder::new_current_thread().enable_all().build().unwrap().block_on(upload(
            &content,
            3,
            async |offset, part| {
                assert_eq!(part, content[offset..content.len().min(offset + 3)]);
                offsets.push(offset);
                let hash = BlobHash::of(&content);
                let said = answers.next().unwrap().clone();
                Ok(said.map(|(received, complete)| Uploaded { hash, received, complete }))
            },
        ));
        (offsets, done)
    }

    #[test]
    fn an_upload_continues_where_an_earlier_one_ended() {
        let whole = offsets(&[Ok((3, false)), Ok((6, false)), Ok((9, false)), Ok((10, true))]);
        assert_eq!(whole, (vec![0, 3, 6, 9], Ok(())));
        let continued = offsets(&[Ok((7, false)), Ok((10, true))]);
        assert_eq!(continued, (vec![0, 7], Ok(())));
        let known = offsets(&[Ok((10, true))]);
        assert_eq!(known, (vec![0], Ok(())));
    }

    #[test]
    fn a_part_is_sent_again_when_there_is_room_and_nothing_is_sent_for_ever() {
        let busy = Problem::busy("full", Duration::ZERO);
        let again = offsets(&[Err(busy.clone()), Ok((3, false)), Err(busy), Ok((10, true))]);
        assert_eq!(again, (vec![0, 0, 3, 3], Ok(())));
        let (sent, stuck) = offsets(&[Ok((3, false)), Ok((3, false))]);
        assert_eq!(sent, [0, 3]);
        assert!(stuck.is_err());
        let (sent, refused) = offsets(&[Err(Problem::conflict("no"))]);
        assert_eq!((sent.len(), refused.is_err()), (1, true));
    }
}
