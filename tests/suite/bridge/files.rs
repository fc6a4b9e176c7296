//! Files over HTTP, in front of a supervisor that has what the test says.

use std::collections::BTreeMap;

use ai_factory::{
    bus::{LocalBus, LocalBusSettings},
    clock::SystemClock,
};
use ai_factory_ports::{
    bus::{Message, header},
    request_reply,
    trace::NoTraces,
    uploads::{UploadError, Uploads as _},
};
use ai_factory_schemas::{
    answer::{MissingFilesAnswer, SessionFilePart, SessionFiles},
    id::SessionId,
    limit::{FILE_PART_BYTES_MAX, UPLOAD_PART_BYTES_MAX},
    problem::Problem,
    request::{MissingFiles, ReadSessionFile, SessionSelector, UploadPart},
    subject::{Operation, Subjects, operation},
    text::BlobHash,
    workspace::{WorkspaceFile, WorkspaceManifest},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::harness::*;
use crate::support::memory_uploads::MemoryUploads;

/// The operations on files, on a workspace that the test can change.
struct ScriptedFiles {
    uploads: MemoryUploads,
    workspace: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What arrived: the operation's verb, its body, its key.
    asked: Mutex<Vec<(String, Value, Option<String>)>>,
    /// The file that is replaced once a first part of it was read.
    changing: Mutex<Option<String>>,
}

const SESSION: &str = "019a0000-0000-7000-8000-000000000004";

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Problem> {
    let wrong = |error: serde_json::Error| Problem::invalid(&["body"], "x", error.to_string());
    serde_json::from_slice(payload).map_err(wrong)
}

fn written(answer: &impl Serialize) -> Result<Bytes, Problem> {
    Ok(serde_json::to_vec(answer).unwrap().into())
}

fn refused(error: UploadError) -> Problem {
    match error {
        UploadError::Refused(sentence) => Problem::conflict(sentence),
        other => Problem::unavailable(other.to_string()),
    }
}

impl ScriptedFiles {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            uploads: MemoryUploads::new(Arc::new(SystemClock::default())),
            workspace: Mutex::default(),
            asked: Mutex::default(),
            changing: Mutex::default(),
        })
    }

    async fn serve(self: Arc<Self>, bus: Arc<dyn Bus>) {
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
            let _: SessionSelector = read(&request.payload)?;
            let files = self.workspace.lock().unwrap().iter().map(listed).collect();
            let id: SessionId = SESSION.parse().unwrap();
            let files = WorkspaceManifest { files };
            written(&SessionFiles { session_id: id, files, changes: Vec::new() })
        } else if is(operation::SUPERVISOR_FILE) {
            self.file(&read(&request.payload)?)
        } else if is(operation::SUPERVISOR_MISSING) {
            let MissingFiles { hashes } = read(&request.payload)?;
            let has = self.uploads.has(hashes.clone()).await.unwrap();
            let missing = hashes.into_iter().zip(has).filter(|(_, has)| !has);
            written(&MissingFilesAnswer { missing: missing.map(|(hash, _)| hash).collect() })
        } else {
            let UploadPart { hash, bytes, offset, content_base64 } = read(&request.payload)?;
            let part = BASE64_STANDARD.decode(content_base64).unwrap();
            let answer = self.uploads.put(hash, bytes, offset, part).await;
            written(&answer.map_err(refused)?)
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
        written(&SessionFilePart {
            file: listed((&asked.path, &content)).1,
            offset: asked.offset,
            content_base64: BASE64_STANDARD.encode(&content[begin..end]),
        })
    }

    fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.workspace.lock().unwrap().insert(path.to_owned(), content.into());
    }

    fn asked(&self) -> Vec<(String, Value, Option<String>)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn listed((path, content): (&String, &Vec<u8>)) -> (String, WorkspaceFile) {
    let (blob, bytes) = (BlobHash::of(content), content.len() as u64);
    (path.clone(), WorkspaceFile { blob, bytes, executable: false })
}

async fn opened_with(settings: BridgeSettings) -> (Arc<ScriptedFiles>, TestBridge) {
    let (files, bus) = (ScriptedFiles::new(), LocalBus::new(LocalBusSettings::default()));
    Arc::clone(&files).serve(bus.clone()).await;
    let factory = TestFactory::start().await;
    let bridge = TestBridge::over(bus, factory, settings, Arc::new(NoTraces)).await;
    (files, bridge)
}

async fn opened() -> (Arc<ScriptedFiles>, TestBridge) {
    opened_with(BridgeSettings::default()).await
}

/// Bytes that differ from place to place, none of them UTF-8 as a whole.
fn sample(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

fn path(file: &str) -> String {
    format!("/supervisor/sessions/{SESSION}/files/{file}")
}

const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");

async fn put(bridge: &TestBridge, place: &str, part: &[u8]) -> Answer {
    bridge.ask("PUT", &format!("/files/{place}"), &[BYTES], part).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_many_parts_arrives_as_it_is_and_is_saved_not_shown() {
    let (files, bridge) = opened().await;
    let content = sample(2 * FILE_PART_BYTES_MAX + 17);
    files.put("out/data.bin", content.clone());
    files.put("empty", "");
    let answer = bridge.get(&path("out/data.bin")).await;
    answer.assert_complete();
    assert!(answer.status == 200 && answer.body == content, "{} bytes", answer.body.len());
    let tag = format!("\"{}\"", BlobHash::of(&content));
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-length", &content.len().to_string()),
        ("content-disposition", "attachment; filename*=UTF-8''data.bin"),
        ("etag", &tag),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    let parts: Vec<_> = files.asked().iter().map(|(_, body, _)| body["offset"].clone()).collect();
    let part = FILE_PART_BYTES_MAX;
    assert_eq!(parts, [json!(0), json!(part), json!(2 * part)]);

    let head = bridge.ask("HEAD", &path("out/data.bin"), &[], b"").await;
    assert_eq!((head.status, head.header("etag")), (200, Some(tag.as_str())));
    assert_eq!(head.header("content-length"), Some(content.len().to_string().as_str()));
    let empty = bridge.get(&path("empty")).await;
    assert_eq!((empty.status, empty.header("content-length")), (200, Some("0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_file_gets_no_bytes_of_it() {
    let (files, bridge) = opened().await;
    files.put("a.txt", "one");
    let tag = bridge.get(&path("a.txt")).await.header("etag").unwrap().to_owned();
    for given in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let same = bridge.ask("GET", &path("a.txt"), &[("If-None-Match", &given)], b"").await;
        same.assert_complete();
        assert_eq!((same.status, same.header("etag")), (304, Some(tag.as_str())));
        assert!(same.body.is_empty() && same.header("content-disposition").is_none());
    }
    files.put("a.txt", "two");
    let other = bridge.ask("GET", &path("a.txt"), &[("If-None-Match", &tag)], b"").await;
    assert_eq!((other.status, other.body.as_slice()), (200, &b"two"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_sent_breaks_the_answer_off() {
    let (files, bridge) = opened().await;
    files.put("a", sample(2 * FILE_PART_BYTES_MAX));
    *files.changing.lock().unwrap() = Some("a".to_owned());
    let mut line = bridge.line().await;
    line.send(&bridge.written("GET", &path("a"), &[], b"")).await;
    assert_eq!(line.head().await.status, 200);
    let mut received = 0;
    while !line.is_over().await {
        received += 1;
    }
    assert!(received <= FILE_PART_BYTES_MAX, "{received}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_a_name_in_the_workspace_and_leads_nowhere_else() {
    let (files, bridge) = opened().await;
    files.put("a b/ö+%.txt", "odd");
    files.put("'; filename=\"x", "quoted");
    for encoded in ["a%20b/%C3%B6+%25.txt", "a%20b%2F%c3%b6%2B%25.txt"] {
        let answer = bridge.get(&path(encoded)).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"odd"[..]), "{encoded}");
        let told = "attachment; filename*=UTF-8''%C3%B6+%25.txt";
        assert_eq!(answer.header("content-disposition"), Some(told));
    }
    let answer = bridge.get(&path("'%3B%20filename=%22x")).await;
    let told = "attachment; filename*=UTF-8''%27%3B%20filename%3D%22x";
    assert_eq!((answer.status, answer.header("content-disposition")), (200, Some(told)));
    files.asked();
    for encoded in [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "../../../etc/passwd",
        "a/../b",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "a//b",
        "./a",
        "a/",
        "a%0d%0aSet-Cookie:%20x",
        "a%00",
        "%ff",
        "%2",
        &"x".repeat(256),
    ] {
        let refused = bridge.get(&path(encoded)).await;
        refused.expect_fault(&["path", "path"]);
        refused.assert_complete();
    }
    assert!(files.asked().is_empty());
    bridge.get(&path("nothing")).await.expect(404);
    bridge.get(&path("")).await.expect(404);
    let odd_session = path("a").replace(SESSION, "%C3%A4");
    bridge.get(&odd_session).await.expect_fault(&["path", "id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_session_are_listed() {
    let (files, bridge) = opened().await;
    files.put("b/c", "12");
    files.put("a", "1");
    let answer = bridge.get(&format!("/supervisor/sessions/{SESSION}/files")).await.expect(200);
    assert_eq!(answer["session_id"], SESSION);
    assert_eq!(answer["files"]["b/c"], json!({ "blob": BlobHash::of(b"12"), "bytes": 2 }));
    assert_eq!(files.asked(), [("files".to_owned(), json!({ "id": SESSION }), None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_is_taken_up_where_it_ended() {
    let (files, bridge) = opened().await;
    let content = sample(2 * UPLOAD_PART_BYTES_MAX + 5);
    let (hash, bytes) = (BlobHash::of(&content), content.len());
    let asked = json!({ "hashes": [hash, BlobHash::of(b"x")] });
    let missing = bridge.post("/files/missing", &asked).await.expect(200);
    assert_eq!(missing["missing"], asked["hashes"]);

    let place = |offset: usize| format!("{hash}?bytes={bytes}&offset={offset}");
    let first = put(&bridge, &place(0), &content[..UPLOAD_PART_BYTES_MAX]).await;
    let told = json!({ "hash": hash, "received": UPLOAD_PART_BYTES_MAX, "complete": false });
    assert_eq!(first.expect(202), told);
    assert!(first.header("location").is_none());
    // The connection breaks within the second part: nothing of it counts.
    let mut line = bridge.line().await;
    let second = &content[UPLOAD_PART_BYTES_MAX..2 * UPLOAD_PART_BYTES_MAX];
    let target = format!("/files/{}", place(UPLOAD_PART_BYTES_MAX));
    let whole = bridge.written("PUT", &target, &[BYTES], second);
    line.send(&whole[..whole.len() / 2]).await;
    line.reset();

    // A part without a byte asks for the place.
    let place_now = put(&bridge, &place(0), b"").await.expect(202);
    assert_eq!(place_now, told);
    let gap = put(&bridge, &place(UPLOAD_PART_BYTES_MAX + 1), b"x").await.expect(409);
    assert!(gap["detail"].as_str().unwrap().contains(&UPLOAD_PART_BYTES_MAX.to_string()));
    put(&bridge, &place(UPLOAD_PART_BYTES_MAX), second).await.expect(202);
    let last = put(&bridge, &place(2 * UPLOAD_PART_BYTES_MAX), &content[bytes - 5..]).await;
    assert_eq!(last.expect(201)["complete"], true);
    put(&bridge, &place(0), b"").await.expect(201);
    let missing = bridge.post("/files/missing", &asked).await.expect(200);
    assert_eq!(missing["missing"], json!([BlobHash::of(b"x")]));
    assert_eq!(files.uploads.content(hash).await.unwrap(), Some(content));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_an_upload_are_taken_as_they_are() {
    let (files, bridge) = opened().await;
    for content in [&b""[..], b"\xef\xbb\xbf{}", b"\x00\xff\r\n", b"null"] {
        let hash = BlobHash::of(content);
        let upper = hash.to_string().to_uppercase();
        put(&bridge, &format!("{upper}?bytes={}", content.len()), content).await.expect(201);
        assert_eq!(files.uploads.content(hash).await.unwrap().as_deref(), Some(content));
    }
    // What has a hash needs no key.
    let place = format!("/files/{}?bytes=1", BlobHash::of(b"k"));
    let keyed = [BYTES, ("Idempotency-Key", "k")];
    bridge.ask("PUT", &place, &keyed, b"k").await.expect(201);
    let keys: Vec<_> = files.asked().into_iter().filter_map(|(_, _, key)| key).collect();
    assert!(!keys.contains(&"k".to_owned()), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_part_of_an_upload_is_refused_before_anybody_is_asked() {
    let (files, bridge) = opened().await;
    let hash = BlobHash::of(b"x");
    let place = format!("/files/{hash}?bytes=1");
    for other in ["application/json", "text/plain", "multipart/form-data; boundary=x", ""] {
        let refused = bridge.ask("PUT", &place, &[("Content-Type", other)], b"x").await.expect(415);
        assert!(refused["detail"].as_str().unwrap().contains("application/octet-stream"));
    }
    bridge.ask("PUT", &place, &[], b"x").await.expect(415);
    let coded = bridge.ask("PUT", &place, &[BYTES, ("Content-Encoding", "gzip")], b"x").await;
    coded.expect(415);
    assert_eq!(coded.header("accept-encoding"), Some("identity"));
    let large = vec![0; UPLOAD_PART_BYTES_MAX + 1];
    let refused = put(&bridge, &format!("{hash}?bytes=2000000"), &large).await.expect(413);
    assert!(refused["detail"].as_str().unwrap().contains("1048576"));
    for wrong in ["x", &"0".repeat(63), &"g".repeat(64), &format!("{hash}0"), "%ff", "..%2fx"] {
        put(&bridge, &format!("{wrong}?bytes=1"), b"x").await.expect_fault(&["path", "hash"]);
    }
    for (query, name) in [
        ("", "bytes"),
        ("?bytes=", "bytes"),
        ("?bytes=-1", "bytes"),
        ("?bytes=1.5", "bytes"),
        ("?bytes=1&bytes=1", "bytes"),
        ("?bytes=18446744073709551616", "bytes"),
        ("?bytes=1&offset=x", "offset"),
    ] {
        put(&bridge, &format!("{hash}{query}"), b"x").await.expect_fault(&["query", name]);
    }
    for (method, path, allowed) in [
        ("GET", place.as_str(), "PUT"),
        ("POST", &place, "PUT"),
        ("DELETE", &place, "PUT"),
        ("PUT", "/files/missing", "POST"),
        ("PUT", "/supervisor/run", "POST"),
        ("PUT", &path("a"), "GET,HEAD"),
    ] {
        let refused = bridge.ask(method, path, &[BYTES], b"").await;
        refused.expect(405);
        assert_eq!(refused.header("allow"), Some(allowed), "{method} {path}");
    }
    assert!(files.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_for_nobody_without_the_token_and_for_no_page_of_another_site() {
    let token = Some(AccessToken::new("open-sesame").unwrap());
    let (files, bridge) = opened_with(BridgeSettings { token, ..BridgeSettings::default() }).await;
    files.put("a", "1");
    let place = format!("/files/{}?bytes=1", BlobHash::of(b"x"));
    let list = format!("/supervisor/sessions/{SESSION}/files");
    let json = ("Content-Type", "application/json");
    for (method, path, header, body) in [
        ("GET", list.as_str(), BYTES, &b""[..]),
        ("GET", &path("a"), BYTES, b""),
        ("PUT", &place, BYTES, b"x"),
        ("POST", "/files/missing", json, br#"{"hashes":[]}"#),
    ] {
        bridge.ask(method, path, &[header], body).await.expect(401);
        let known = ("Authorization", "Bearer open-sesame");
        for foreign in [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
            bridge.ask(method, path, &[header, known, foreign], body).await.expect(403);
        }
        let preflight = [("Access-Control-Request-Method", method), known];
        let told = bridge.ask("OPTIONS", path, &preflight, b"").await;
        assert!(told.status == 405, "{told}");
        assert!(told.headers.iter().all(|(name, _)| !name.starts_with("access-control")));
        assert!(files.asked().is_empty(), "{method} {path}");
        let admitted = bridge.ask(method, path, &[header, known], body).await;
        assert!(admitted.status < 300, "{admitted}");
        files.asked();
    }
}
