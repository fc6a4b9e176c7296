//! Files over HTTP, in front of a supervisor that has what the test says.

use ai_factory::bus::{LocalBus, LocalBusSettings};
use ai_factory_ports::{trace::NoTraces, uploads::Uploads as _};
use ai_factory_schemas::{
    limit::{FILE_PART_BYTES_MAX, UPLOAD_PART_BYTES_MAX},
    text::BlobHash,
};

use super::harness::*;
use crate::support::scripted_files::{SESSION, ScriptedFiles, sample};

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
    files.change_when_read("a");
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
    assert_eq!(answer["files"]["b/c"], json!({ "hash": BlobHash::of(b"12"), "bytes": 2 }));
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

    // What is sent again is answered with the place to go on from.
    let place_now = put(&bridge, &place(0), &content[..1_000]).await.expect(202);
    assert_eq!(place_now, told);
    let gap = put(&bridge, &place(UPLOAD_PART_BYTES_MAX + 1), b"x").await.expect(400);
    assert!(gap["detail"].as_str().unwrap().contains(&UPLOAD_PART_BYTES_MAX.to_string()));
    put(&bridge, &place(UPLOAD_PART_BYTES_MAX), second).await.expect(202);
    let last = put(&bridge, &place(2 * UPLOAD_PART_BYTES_MAX), &content[bytes - 5..]).await;
    assert_eq!(last.expect(201)["complete"], true);
    put(&bridge, &place(0), &content[..1]).await.expect(201);
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
