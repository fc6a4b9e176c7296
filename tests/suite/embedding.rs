//! The model behind an API, as it works and as it fails.

use std::{fs, path::PathBuf, time::Duration};

use ai_factory::embedding::{BuiltIn, EmbeddingEndpoint, EndpointSettings};
use ai_factory_ports::embedder::{
    AsyncEmbedder as _, EmbedError, Embedder as _, ModelIdentity, NextTry,
};

use crate::support::{
    certificates::certificate,
    embeddings::{Embeddings, Reply},
};

const TEXTS: [&str; 3] = ["list all files", "pytest -n auto", "a pear"];

fn settings(url: &str) -> EndpointSettings {
    EndpointSettings {
        url: url.to_owned(),
        model: "some-model".to_owned(),
        key: None,
        ca: None,
        dimensions: None,
        texts_max: 2,
        call_max: Duration::from_secs(20),
    }
}

fn endpoint(api: &Embeddings) -> EmbeddingEndpoint {
    EmbeddingEndpoint::new(settings(&api.url())).unwrap()
}

/// What the API has for these texts.
fn expected() -> Vec<Vec<f32>> {
    let mut vectors = BuiltIn::default().embed(&TEXTS).unwrap();
    for vector in &mut vectors {
        vector.reverse();
    }
    vectors
}

fn assert_near(found: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let product: f32 = found.iter().zip(expected).map(|(a, b)| a * b).sum();
        assert!((product - 1.0).abs() < 1e-4 && found.len() == expected.len(), "{product}");
    }
}

async fn refused(reply: Reply) -> EmbedError {
    let api = Embeddings::start();
    api.next([reply]);
    let endpoint = endpoint(&api);
    let error = endpoint.embed(&TEXTS).await.unwrap_err();
    // Whatever it was, it does not stay.
    assert_near(&endpoint.embed(&TEXTS).await.unwrap(), &expected());
    error
}

#[tokio::test]
async fn vectors_come_in_the_order_of_their_texts() {
    let api = Embeddings::start();
    let endpoint = endpoint(&api);
    assert_eq!(endpoint.identity(), None, "nobody has asked it yet");
    api.next([Reply::Vectors, Reply::Backwards]);
    for _ in 0..2 {
        assert_near(&endpoint.embed(&TEXTS).await.unwrap(), &expected());
    }
    let identity = endpoint.identity().unwrap();
    assert_eq!((&*identity.name, identity.dimensions), ("some-model", 256));
    let calls = api.calls();
    assert_eq!((&*calls[0].path, &calls[0].key), ("/v1/embeddings", &None));
    assert_eq!(calls[0].body["model"], "some-model");
    assert_eq!(calls[0].texts(), TEXTS);
}

#[tokio::test]
async fn the_key_is_sent_and_the_length_asked_for_and_neither_is_shown_or_guessed() {
    let api = Embeddings::start();
    api.usual(Reply::Cut(64));
    let key = Some("s3cret-key".to_owned());
    let asked = EndpointSettings { key, dimensions: Some(64), ..settings(&api.url()) };
    let endpoint = EmbeddingEndpoint::new(asked).unwrap();
    assert_eq!(endpoint.embed(&TEXTS).await.unwrap()[2].len(), 64);
    let call = &api.calls()[0];
    assert_eq!(call.key.as_deref(), Some("Bearer s3cret-key"));
    assert_eq!(call.body["dimensions"], 64);

    api.usual(Reply::Answer(500, "", r#"{"error":{"message":"s3cret-key has no quota"}}"#));
    let said = endpoint.embed(&TEXTS).await.unwrap_err().to_string();
    assert!(said.contains("has no quota") && !said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    for (reply, parts, next) in [
        (Reply::Answer(401, "", "{}"), ["401", "AI_FACTORY_EMBEDDING_KEY"], NextTry::Later),
        (
            Reply::Answer(404, "", r#"{"error":{"message":"no such model"}}"#),
            ["no such model", "AI_FACTORY_EMBEDDING_MODEL"],
            NextTry::Later,
        ),
        (
            Reply::Answer(429, "retry-after: 7\r\n", "{}"),
            ["429", "answered"],
            NextTry::After(Duration::from_secs(7)),
        ),
        (Reply::Answer(429, "", "{}"), ["429", "answered"], NextTry::Later),
        (
            Reply::Answer(400, "", r#"{"error":"too long"}"#),
            ["400", "too long"],
            NextTry::OtherTexts,
        ),
        (
            Reply::Answer(302, "location: http://127.0.0.1:9/\r\n", ""),
            ["302", "AI_FACTORY_EMBEDDING_URL"],
            NextTry::Later,
        ),
        (Reply::Answer(500, "", "oh"), ["500", "answered"], NextTry::Later),
        (Reply::Answer(200, "", "<html>"), ["no list", "embeddings"], NextTry::Later),
        (Reply::Answer(200, "", r#"{"data":[]}"#), ["0 vectors", "3 texts"], NextTry::Later),
        (
            Reply::Answer(
                200,
                "",
                r#"{"data":[{"embedding":[]},{"embedding":[]},{"embedding":[]}]}"#,
            ),
            ["0 numbers", "from 1"],
            NextTry::Later,
        ),
    ] {
        let error = refused(reply.clone()).await;
        let said = error.to_string();
        assert!(parts.iter().all(|part| said.contains(part)), "{reply:?}: {said}");
        assert!(said.contains("some-model"), "{said}");
        assert_eq!(error.next, next, "{reply:?}");
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_apart() {
    let url = format!("http://{}/v1", Embeddings::nowhere());
    let error = EmbeddingEndpoint::new(settings(&url)).unwrap().embed(&TEXTS).await.unwrap_err();
    assert!(error.reason.contains("cannot be reached"), "{error}");

    let api = Embeddings::start();
    api.usual(Reply::Hang);
    let call_max = Duration::from_millis(50);
    let hurried =
        EmbeddingEndpoint::new(EndpointSettings { call_max, ..settings(&api.url()) }).unwrap();
    let error = hurried.embed(&TEXTS).await.unwrap_err();
    assert!(error.reason.contains("within 50 ms"), "{error}");
}

#[tokio::test]
async fn over_tls_the_api_proves_who_it_is() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    certificate(dir, "ca", None);
    certificate(dir, "other", None);
    certificate(dir, "server", Some("ca"));
    let api = Embeddings::start_with_tls(dir, "server");
    let trusting = |ca: Option<PathBuf>| {
        EmbeddingEndpoint::new(EndpointSettings { ca, ..settings(&api.url()) }).unwrap()
    };
    let endpoint = trusting(Some(dir.join("ca.pem")));
    for _ in 0..2 {
        assert_near(&endpoint.embed(&TEXTS).await.unwrap(), &expected());
    }
    assert_eq!(api.calls()[0].path, "/v1/embeddings");

    let error = trusting(Some(dir.join("other.pem"))).embed(&TEXTS).await.unwrap_err();
    assert!(error.reason.contains("was refused"), "{error}");
    assert!(error.reason.contains("AI_FACTORY_EMBEDDING_CA"), "{error}");
    assert_eq!(error.next, NextTry::Later);
    assert_eq!(api.calls().len(), 2, "it is told nothing");

    // Without TLS where it is expected, and the other way round.
    let plain = Embeddings::start();
    let url = plain.url().replace("http", "https");
    let ca = Some(dir.join("ca.pem"));
    let mistaken = EmbeddingEndpoint::new(EndpointSettings { ca, ..settings(&url) }).unwrap();
    let error = mistaken.embed(&TEXTS).await.unwrap_err();
    assert!(error.reason.contains("cannot be reached"), "{error}");
    let mistaken = EmbeddingEndpoint::new(settings(&api.url().replace("https", "http"))).unwrap();
    assert!(mistaken.embed(&TEXTS).await.is_err());
}

#[test]
fn a_file_that_vouches_for_nobody_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, empty) = (dir.path().join("missing.pem"), dir.path().join("empty.pem"));
    fs::write(&empty, "nothing here\n").unwrap();
    for (url, ca, part) in [
        ("https://127.0.0.1:9/v1", &missing, "missing.pem"),
        ("https://127.0.0.1:9/v1", &empty, "empty.pem"),
        ("http://127.0.0.1:9/v1", &empty, "https://"),
    ] {
        let asked = EndpointSettings { ca: Some(ca.clone()), ..settings(url) };
        let said = EmbeddingEndpoint::new(asked).err().unwrap();
        assert!(said.contains("AI_FACTORY_EMBEDDING_CA") && said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn vectors_of_another_length_are_another_model() {
    let api = Embeddings::start();
    let endpoint = endpoint(&api);
    endpoint.embed(&TEXTS).await.unwrap();
    api.next([Reply::Cut(64)]);
    let said = endpoint.embed(&TEXTS).await.unwrap_err().to_string();
    assert!(said.contains("AI_FACTORY_EMBEDDING_DIMENSIONS=64"), "{said}");
    // What it made before binds it too.
    let later = EmbeddingEndpoint::new(settings(&api.url())).unwrap();
    let own = endpoint.identity().unwrap();
    assert!(!later.recognises(&ModelIdentity { name: "other".to_owned(), ..own.clone() }));
    assert!(!later.recognises(BuiltIn::default().identity()));
    assert!(later.recognises(&own) && later.identity() == Some(own));
    api.next([Reply::Cut(64)]);
    assert!(later.embed(&TEXTS).await.is_err());
    assert_near(&later.embed(&TEXTS).await.unwrap(), &expected());
}

#[tokio::test]
async fn a_vector_that_is_none_is_zeros() {
    let api = Embeddings::start();
    let answer = r#"{"data":[{"embedding":[0,0]},{"embedding":[null,1]},{"embedding":[3,4]}]}"#;
    api.next([Reply::Answer(200, "", answer)]);
    let vectors = endpoint(&api).embed(&TEXTS).await.unwrap();
    assert_eq!(vectors, [[0.0, 0.0], [0.0, 0.0], [0.6, 0.8]]);
}
