//! The real program with a model behind an API: one that comes late, goes, and is changed for
//! another and back.

use std::{fs, net::SocketAddr, thread};

use serde_json::{Value, json};

use super::{Http, Up};
use crate::support::{
    certificates::certificate,
    embeddings::{Embeddings, Reply},
    process::TestHome,
};

const ASKED: &str = "run+the+unit+tests+in+parallel";
const MEANT: &str = "pytest -n auto";

fn up(home: &TestHome, url: Option<&str>) -> Up {
    match url {
        None => Up::start(home, &[]),
        Some(url) => Up::start_in(
            home,
            &["--set", "embedding_texts_max=8"],
            &[
                ("AI_FACTORY_EMBEDDING_URL", url),
                ("AI_FACTORY_EMBEDDING_MODEL", "some-model"),
                ("AI_FACTORY_EMBEDDING_KEY", "s3cret-key"),
            ],
        ),
    }
}

fn remember(http: &Http, text: &str) {
    let (status, answer) = http.post_plain("/memory/remember", &json!({ "text": text })).unwrap();
    assert_eq!(status, 200, "{answer}");
}

fn best(http: &Http, query: &str, mode: &str) -> Value {
    http.get(&format!("/memory/search?n=1&mode={mode}&q={query}"))["results"][0].clone()
}

/// What is told of the model: what is wrong with it, else how far it is.
fn told(http: &Http) -> Option<String> {
    let health = http.get("/healthcheck");
    let of_model = |list: &str| {
        let all = health[list].as_array()?;
        all.iter().find(|part| part["part"] == "embedding").cloned()
    };
    let text = |text: &Value| text.as_str().unwrap().to_owned();
    if let Some(ailing) = of_model("parts") {
        assert_eq!((&ailing["serves"], &health["status"]), (&json!(true), &json!("degraded")));
        return Some(text(&ailing["reason"]));
    }
    of_model("under_way").map(|part| text(&part["progress"]))
}

fn until(http: &Http, is: impl Fn(Option<&str>) -> bool) {
    while !is(told(http).as_deref()) {
        thread::yield_now();
    }
}

/// Waits until a query is answered by meaning.
fn until_meant(http: &Http, query: &str, text: &str) {
    loop {
        let found = best(http, query, "semantic");
        if found["text"] == text && found["score"]["semantic"].as_f64().unwrap() > 0.0 {
            return;
        }
        thread::yield_now();
    }
}

fn import(home: &TestHome, count: usize) {
    let path = home.path().join("notes.jsonl");
    let notes = (0..count).map(|number| format!("an apple on shelf {number}"));
    let lines = notes.chain([MEANT.to_owned()]).map(|text| json!({ "text": text }).to_string());
    fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    home.printed(0, &["remember", "--jsonl", path.to_str().unwrap()]);
}

#[test]
fn a_model_that_comes_late_or_goes_stops_nothing_and_is_used_when_it_is_there() {
    let home = TestHome::new();
    let address: SocketAddr = Embeddings::nowhere();
    let url = format!("http://{address}/v1");
    let factory = up(&home, Some(&url));
    remember(&factory.http, MEANT);
    remember(&factory.http, "a pear tree");
    until(&factory.http, |told| told.is_some_and(|told| told.contains("cannot be reached")));
    for mode in ["hybrid", "semantic", "keyword"] {
        assert_eq!(best(&factory.http, "pear", mode)["text"], "a pear tree", "{mode}");
    }

    let api = Embeddings::start_at(address);
    until(&factory.http, |told| told.is_none());
    until_meant(&factory.http, ASKED, MEANT);
    let answer = factory.http.get(&format!("/memory/search?q={ASKED}"));
    assert_eq!(answer.get("mode"), None, "as asked");
    assert!(api.calls().iter().all(|call| call.key.as_deref() == Some("Bearer s3cret-key")));

    // It lets us in no more.
    api.usual(Reply::Answer(401, "", "{}"));
    remember(&factory.http, "a plum tree");
    let answer = factory.http.get("/memory/search?n=1&q=plum");
    assert_eq!(answer["results"][0]["text"], "a plum tree");
    assert_eq!(answer["mode"], "keyword", "nobody knows what a plum means now");
    until(&factory.http, |told| told.is_some_and(|told| told.contains("AI_FACTORY_EMBEDDING_KEY")));
    assert!(!told(&factory.http).unwrap().contains("s3cret"));
    // It hangs, and the factory ends in order all the same.
    api.usual(Reply::Hang);
    assert_eq!(best(&factory.http, "plum", "hybrid")["text"], "a plum tree");
    factory.terminate();
    api.usual(Reply::Vectors);
    let factory = up(&home, Some(&url));
    until_meant(&factory.http, "plum", "a plum tree");
    until(&factory.http, |told| told.is_none());
    factory.terminate();
}

#[test]
fn a_model_behind_tls_is_asked_where_somebody_vouches_for_it() {
    let home = TestHome::new();
    certificate(home.path(), "ca", None);
    certificate(home.path(), "server", Some("ca"));
    let api = Embeddings::start_with_tls(home.path(), "server");
    let url = api.url();
    // A system that trusts nobody.
    let nobody = home.path().join("nobody.pem");
    fs::write(&nobody, "").unwrap();
    let nobody = ("SSL_CERT_FILE", nobody.to_str().unwrap());
    let model = [("AI_FACTORY_EMBEDDING_URL", &*url), ("AI_FACTORY_EMBEDDING_MODEL", "some-model")];
    let factory = Up::start_in(&home, &[], &[&model[..], &[nobody]].concat());
    remember(&factory.http, MEANT);
    until(&factory.http, |told| told.is_some_and(|told| told.contains("ca-certificates")));
    assert_eq!(best(&factory.http, "pytest", "hybrid")["text"], MEANT);
    factory.terminate();

    let ca = home.path().join("ca.pem");
    let ca = ("AI_FACTORY_EMBEDDING_CA", ca.to_str().unwrap());
    let factory = Up::start_in(&home, &[], &[&model[..], &[nobody, ca]].concat());
    until(&factory.http, |told| told.is_none());
    until_meant(&factory.http, ASKED, MEANT);
    factory.terminate();
}

/// How many notes a model has to be told of that is killed on the way.
const NOTES: usize = 1_500;

#[test]
fn another_model_is_changed_to_and_back_and_killed_on_the_way() {
    let home = TestHome::new();
    import(&home, NOTES);
    let api = Embeddings::start();
    let url = api.url();
    // Killed in the middle; the built-in model serves meanwhile.
    for made in [300, 900] {
        let factory = up(&home, Some(&url));
        // On a quick machine all may be made before anybody looks.
        until(&factory.http, |told| {
            api.texts() >= NOTES || told.is_some_and(|told| told.contains("built-in model"))
        });
        while api.texts() < made {
            assert_eq!(best(&factory.http, ASKED, "semantic")["text"], MEANT);
        }
        drop(factory);
    }
    let factory = up(&home, Some(&url));
    until(&factory.http, |told| told.is_none());
    until_meant(&factory.http, ASKED, MEANT);
    remember(&factory.http, "a pear tree");
    until_meant(&factory.http, "pear", "a pear tree");
    // What was made before a kill was not made again, but for some.
    let made = api.texts();
    assert!(made < 1_501 + 3 * 450, "{made} texts");
    factory.terminate();

    let factory = up(&home, None);
    until_meant(&factory.http, "pear", "a pear tree");
    until_meant(&factory.http, ASKED, MEANT);
    remember(&factory.http, "a plum tree");
    until_meant(&factory.http, "plum", "a plum tree");
    assert_eq!(api.texts(), made, "nobody is called who is not configured");
    drop(factory);

    let factory = up(&home, Some(&url));
    until(&factory.http, |told| told.is_none());
    until_meant(&factory.http, "plum", "a plum tree");
    assert!(api.texts() < made + 300, "{} texts", api.texts());
    factory.terminate();
}

#[test]
fn a_model_that_is_set_by_halves_is_refused_with_what_is_missing() {
    let home = TestHome::new();
    for (set, parts) in [
        ("embedding_url=http://127.0.0.1:9/v1", ["AI_FACTORY_EMBEDDING_MODEL", "name"]),
        ("embedding_model=/nowhere", ["AI_FACTORY_EMBEDDING_URL", "/nowhere"]),
        ("embedding_url=127.0.0.1:9", ["embedding_url", "http://"]),
        ("embedding_url=ftp://127.0.0.1:9", ["embedding_url", "http://"]),
    ] {
        let (_, said) = home.printed(2, &["--set", set, "search", "x"]);
        assert!(parts.iter().all(|part| said.contains(part)), "{set}: {said}");
    }
}
