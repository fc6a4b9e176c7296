//! The Rust client's files: over a NATS server whose messages have its default limit.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use ai_factory::client::Client;
use ai_factory_ports::uploads::Uploads as _;
use ai_factory_schemas::{
    id::SessionId, limit::FILE_PART_BYTES_MAX, problem::Problem, text::BlobHash,
};
use serde_json::json;

use crate::support::{
    nats::TestServer,
    scripted_files::{SESSION, ScriptedFiles, sample},
};

/// A client, a factory's files, and their server.
async fn started() -> (Client, Arc<ScriptedFiles>, TestServer) {
    let server = TestServer::start();
    let files = ScriptedFiles::new();
    Arc::clone(&files).serve(server.bus().await).await;
    let client = Client::connect(&server.url()).await.unwrap();
    let listens = vec![BlobHash::of(b"nobody's")];
    // Until the subscription is in force nobody answers.
    while client.missing(listens.clone()).await.is_err() {}
    files.asked();
    (client, files, server)
}

fn session() -> SessionId {
    SESSION.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_is_sent_in_parts_and_never_twice() {
    let (client, files, _server) = started().await;
    let content = sample(2 * FILE_PART_BYTES_MAX + 9);
    let hash = client.upload(&content).await.unwrap();
    assert_eq!(hash, BlobHash::of(&content));
    assert_eq!(files.uploads.content(hash).await.unwrap(), Some(content.clone()));
    let offsets = |asked: Vec<(String, serde_json::Value, Option<String>)>| {
        let uploads = asked.into_iter().filter(|(verb, ..)| verb == "upload");
        uploads.map(|(_, body, _)| body["offset"].clone()).collect::<Vec<_>>()
    };
    let part = FILE_PART_BYTES_MAX;
    assert_eq!(offsets(files.asked()), [json!(0), json!(part), json!(2 * part)]);
    client.upload(&content).await.unwrap();
    assert_eq!(offsets(files.asked()), [json!(null); 0]);

    let other = sample(3 * FILE_PART_BYTES_MAX);
    let (hash, bytes) = (BlobHash::of(&other), other.len() as u64);
    files.uploads.put(hash, bytes, 0, other[..2 * part + 7].to_vec()).await.unwrap();
    client.upload(&other).await.unwrap();
    let taken_up = [json!(0), json!(2 * part + 7)];
    assert_eq!(offsets(files.asked()), taken_up, "it goes on where it ended");
    client.upload(b"").await.unwrap();
    let both = vec![BlobHash::of(b"x"), hash, BlobHash::of(b"")];
    assert_eq!(client.missing(both).await.unwrap(), [BlobHash::of(b"x")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_made_is_listed_and_read() {
    let (client, files, _server) = started().await;
    let content = sample(FILE_PART_BYTES_MAX + 1);
    files.put("out/data.bin", content.clone());
    files.put("empty", "");
    files.page_paths.store(1, Relaxed);
    let listed = client.files(session()).await.unwrap();
    assert_eq!((listed.files.files.len(), listed.next), (2, None), "page after page");
    assert_eq!(listed.files.files["out/data.bin"].blob, BlobHash::of(&content));
    assert_eq!(client.file(session(), "out/data.bin").await.unwrap(), content);
    assert_eq!(client.file(session(), "empty").await.unwrap(), b"");
    let status = |answer: Result<Vec<u8>, Problem>| answer.unwrap_err().status;
    assert_eq!(status(client.file(session(), "nothing").await), 404);
    files.change_when_read("out/data.bin");
    assert_eq!(status(client.file(session(), "out/data.bin").await), 409);
    client.close().await;
}
