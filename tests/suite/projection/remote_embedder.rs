//! A model that takes its time, fails, or comes and goes.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ai_factory::projection::{Access, Projections};
use ai_factory_ports::{
    embedder::{AsyncEmbedder, EmbedError, Embedder, ModelIdentity, Models, NextTry},
    views::{SearchQuery, Views},
};
use ai_factory_schemas::memory::SearchMode;
use tokio::{sync::watch, task::JoinHandle};

use super::fixture::{Kit, embedder, follow, open_with};

const ASKED: &str = "run the unit tests in parallel";
const MEANT: &str = "pytest -n auto";

/// How a model is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Works,
    Hangs,
    Fails,
    /// Takes no text with this word in it.
    Refuses(&'static str),
}

/// The model that is part of the program as one that takes its time.
struct Moody {
    name: &'static str,
    model: Arc<dyn Embedder>,
    mood: watch::Sender<Mood>,
    texts: AtomicUsize,
}

impl Moody {
    fn new(name: &'static str, mood: Mood) -> Arc<Self> {
        let mood = watch::Sender::new(mood);
        Arc::new(Self { name, model: embedder(), mood, texts: AtomicUsize::new(0) })
    }

    fn models(self: &Arc<Self>) -> Models {
        let configured = Some(Arc::clone(self) as Arc<dyn AsyncEmbedder>);
        Models { built_in: embedder(), configured }
    }

    fn open(self: &Arc<Self>, kit: &Kit) -> Followed {
        Followed::new(open_with(&kit.journal, &kit.settings(), &self.models(), Access::Write))
    }

    fn failure(&self, next: NextTry) -> EmbedError {
        EmbedError { model: self.name.to_owned(), reason: "it is ill".to_owned(), next }
    }
}

#[async_trait::async_trait]
impl AsyncEmbedder for Moody {
    fn name(&self) -> &str {
        self.name
    }

    fn identity(&self) -> Option<ModelIdentity> {
        let name = self.name.to_owned();
        Some(ModelIdentity { name, ..self.model.identity().clone() })
    }

    fn recognises(&self, found: &ModelIdentity) -> bool {
        self.identity().as_ref() == Some(found)
    }

    fn text_bytes_max(&self) -> usize {
        self.model.text_bytes_max()
    }

    fn texts_max(&self) -> usize {
        4
    }

    async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut moods = self.mood.subscribe();
        let mood = *moods.wait_for(|mood| *mood != Mood::Hangs).await.unwrap();
        match mood {
            Mood::Fails => return Err(self.failure(NextTry::Later)),
            Mood::Refuses(word) if texts.iter().any(|text| text.contains(word)) => {
                return Err(self.failure(NextTry::OtherTexts));
            }
            _ => {}
        }
        self.texts.fetch_add(texts.len(), Ordering::Relaxed);
        self.model.embed(texts)
    }
}

/// Projections that are followed.
struct Followed {
    views: Arc<Projections>,
    following: JoinHandle<()>,
}

impl Followed {
    fn new(views: Arc<Projections>) -> Self {
        let following = follow(&views);
        Self { views, following }
    }

    async fn found(&self, query: &str, mode: SearchMode) -> Option<(String, f64)> {
        let sought = SearchQuery { mode, ..SearchQuery::new(query, 1) };
        let found = self.views.search(&sought).await.unwrap();
        found.into_iter().next().map(|found| (found.text, found.score.semantic))
    }

    /// Waits until a memory is found by its meaning.
    async fn means(&self, query: &str, text: &str) {
        let meaning = SearchMode::Semantic;
        while !self
            .found(query, meaning)
            .await
            .is_some_and(|(found, near)| found == text && near > 0.0)
        {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the model is well, or not.
    async fn until(&self, is: impl Fn(Option<&str>) -> bool) {
        while !is(self.views.model_problem().as_deref()) {
            tokio::task::yield_now().await;
        }
    }

    fn is_well(&self) -> bool {
        self.views.model_problem().is_none() && self.views.model_progress().is_none()
    }

    /// Waits until everything is as it is to stay.
    async fn settled(&self) -> u64 {
        loop {
            match self.views.revision() {
                Some(revision) if self.is_well() => return revision,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// Ends as in a crash.
    async fn killed(self) {
        self.following.abort();
        drop(self.following.await);
    }

    async fn closed(self) {
        self.following.abort();
        drop(self.following.await);
        self.views.close().await.unwrap();
    }
}

async fn notes(kit: &Kit, count: usize) {
    for number in 0..count {
        kit.note(&format!("an apple, {number}"), &[]).await;
    }
    kit.note(MEANT, &[]).await;
}

#[tokio::test]
async fn what_is_new_is_found_by_its_words_at_once_and_by_its_meaning_when_its_vector_is_there() {
    let kit = Kit::new();
    let model = Moody::new("moody", Mood::Works);
    let factory = model.open(&kit);
    notes(&kit, 300).await;
    // First by whichever model serves, then by this one.
    factory.means(ASKED, MEANT).await;
    factory.settled().await;
    factory.means(ASKED, MEANT).await;

    model.mood.send_replace(Mood::Hangs);
    kit.note("a pear tree", &[]).await;
    // The vector of this query is known; the pear has none.
    let (found, near) = factory.found(ASKED, SearchMode::Hybrid).await.unwrap();
    assert_eq!((&*found, near > 0.0), (MEANT, true));
    for mode in [SearchMode::Hybrid, SearchMode::Semantic, SearchMode::Keyword] {
        let (found, near) = factory.found("pear", mode).await.unwrap();
        assert_eq!((&*found, near), ("a pear tree", 0.0), "{mode:?}");
    }
    assert_eq!(factory.views.revision(), None, "such an answer must not be given again");

    model.mood.send_replace(Mood::Works);
    factory.means("pear", "a pear tree").await;
    factory.settled().await;
}

#[tokio::test]
async fn a_new_memory_without_a_vector_stands_where_its_words_put_it() {
    let kit = Kit::new();
    let model = Moody::new("moody", Mood::Works);
    let factory = model.open(&kit);
    notes(&kit, 50).await;
    kit.note("restart the mail server", &[]).await;
    factory.settled().await;
    factory.means("restart the web server", "restart the mail server").await;
    model.mood.send_replace(Mood::Hangs);
    kit.note("restart the web server now", &[]).await;
    let sought = SearchQuery::new("restart the web server", 3);
    let found = factory.views.search(&sought).await.unwrap();
    let at = found.iter().position(|found| found.text == "restart the web server now").unwrap();
    let score = &found[at].score;
    assert!(at < 2 && score.semantic == 0.0 && score.total > 0.5, "{found:#?}");
    model.mood.send_replace(Mood::Works);
    factory.settled().await;
}

#[tokio::test]
async fn a_model_that_fails_fails_no_search_and_no_write_and_is_tried_again() {
    let kit = Kit::new();
    let model = Moody::new("moody", Mood::Fails);
    let factory = model.open(&kit);
    notes(&kit, 20).await;
    // Meanwhile the model at hand serves.
    assert_eq!(factory.found(ASKED, SearchMode::Hybrid).await.unwrap().0, MEANT);
    factory.until(|told| told.is_some_and(|told| told.contains("it is ill"))).await;
    model.mood.send_replace(Mood::Works);
    factory.settled().await;
    factory.means(ASKED, MEANT).await;

    model.mood.send_replace(Mood::Fails);
    kit.note("a pear", &[]).await;
    let before = factory.views.revision();
    for query in ["pear", "which pear"] {
        assert_eq!(factory.found(query, SearchMode::Hybrid).await.unwrap().0, "a pear");
    }
    assert!(before.is_none() || factory.views.revision() != before);
    factory
        .until(|told| told.is_some_and(|told| told.contains("search uses keywords alone")))
        .await;
    assert_eq!(factory.views.search_problem(), None, "by words it is complete");
    model.mood.send_replace(Mood::Works);
    factory.means("pear", "a pear").await;
    factory.settled().await;
}

#[tokio::test]
async fn a_text_that_the_model_refuses_is_found_by_its_words_and_stops_no_other() {
    let kit = Kit::new();
    let model = Moody::new("moody", Mood::Refuses("poison"));
    let factory = model.open(&kit);
    kit.note("a bottle of poison", &[]).await;
    notes(&kit, 10).await;
    factory.settled().await;
    factory.means(ASKED, MEANT).await;
    assert_eq!(
        factory.found("bottle", SearchMode::Hybrid).await.unwrap(),
        ("a bottle of poison".to_owned(), 0.0)
    );
    // A query that it refuses is no reason to doubt it.
    assert_eq!(factory.found("poison", SearchMode::Hybrid).await.unwrap().0, "a bottle of poison");
    assert!(factory.is_well());
}

#[tokio::test]
async fn another_model_takes_over_when_its_vectors_are_complete_also_over_restarts_and_back() {
    let kit = Kit::new();
    let plain = Followed::new(kit.open(Access::Write));
    notes(&kit, 1_000).await;
    plain.means(ASKED, MEANT).await;
    plain.closed().await;

    // Killed in the middle, again and again: what was made is not made again.
    let model = Moody::new("moody", Mood::Works);
    let mut made = 0;
    while made < 600 {
        let factory = model.open(&kit);
        let told = factory.views.model_progress().unwrap();
        assert!(told.contains("built-in model serves"), "{told}");
        let goal = model.texts.load(Ordering::Relaxed) + 300;
        while model.texts.load(Ordering::Relaxed) < goal {
            assert_eq!(factory.found(ASKED, SearchMode::Semantic).await.unwrap().0, MEANT);
            tokio::task::yield_now().await;
        }
        factory.killed().await;
        made += 300;
    }
    let factory = model.open(&kit);
    let revision = factory.settled().await;
    assert!(revision > 0, "what the other model answered is not given again");
    factory.means(ASKED, MEANT).await;
    let made = model.texts.load(Ordering::Relaxed);
    assert!(made < 1_001 + 2 * 400, "{made} texts were given to the model");
    kit.note("a pear", &[]).await;
    factory.means("pear", "a pear").await;
    factory.closed().await;

    // Complete at the next start, with the query's vector alone.
    let again = Moody::new("moody", Mood::Works);
    let factory = again.open(&kit);
    factory.means("pear", "a pear").await;
    assert_eq!(again.texts.load(Ordering::Relaxed), 1);
    factory.closed().await;

    // Back: the other file goes on from where it ended.
    let plain = Followed::new(kit.open(Access::Write));
    plain.means("pear", "a pear").await;
    plain.means(ASKED, MEANT).await;
    kit.note("a plum", &[]).await;
    plain.means("plum", "a plum").await;
    plain.closed().await;
    let again = Moody::new("moody", Mood::Works);
    let factory = again.open(&kit);
    factory.settled().await;
    factory.means("plum", "a plum").await;
    let made = again.texts.load(Ordering::Relaxed);
    assert!(made < 10, "{made} texts were given to the model");
    factory.closed().await;
}

/// Overwrites the middle of the only file of vectors of a model that is wanted.
fn damage(kit: &Kit) {
    let files = std::fs::read_dir(kit.dir.path().join("index")).unwrap();
    let names = files.map(|file| file.unwrap().path());
    let is_wanted = |path: &PathBuf| path.to_str().unwrap().contains("vectors-");
    let path = names.into_iter().find(is_wanted).expect("its file");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_rebuild_keeps_the_vectors_of_a_wanted_model_as_far_as_they_prove_themselves() {
    let kit = Kit::new();
    let model = Moody::new("moody", Mood::Works);
    let factory = model.open(&kit);
    notes(&kit, 300).await;
    factory.settled().await;
    factory.means(ASKED, MEANT).await;
    let made = model.texts.load(Ordering::Relaxed);
    let rebuilt = factory.views.rebuild().await.unwrap();
    assert_eq!((rebuilt.documents, factory.is_well()), (301, true));
    kit.note("a pear", &[]).await;
    factory.means("pear", "a pear").await;
    factory.settled().await;
    factory.means(ASKED, MEANT).await;
    let again = model.texts.load(Ordering::Relaxed) - made;
    assert!(again <= 2, "{again} texts were given to the model");
    factory.closed().await;

    // What the file proves no more is made again; the rest is not.
    let factory = model.open(&kit);
    factory.settled().await;
    let made = model.texts.load(Ordering::Relaxed);
    damage(&kit);
    factory.views.rebuild().await.unwrap();
    assert_eq!(factory.found(ASKED, SearchMode::Semantic).await.unwrap().0, MEANT);
    factory.settled().await;
    factory.means(ASKED, MEANT).await;
    factory.means("pear", "a pear").await;
    let again = model.texts.load(Ordering::Relaxed) - made;
    assert!((1..302).contains(&again), "{again} texts were given to the model");
    factory.closed().await;
}

#[tokio::test]
async fn vectors_of_a_wanted_model_from_another_journal_are_made_again() {
    let kit = Kit::new();
    let model = Moody::new("moody", Mood::Works);
    let factory = model.open(&kit);
    notes(&kit, 60).await;
    factory.settled().await;
    factory.closed().await;

    let mut other = Kit::new();
    other.dir = kit.dir;
    for number in 0..100 {
        other.note(&format!("a plum, {number}"), &[]).await;
    }
    other.note("restart the web server", &[]).await;
    let made = model.texts.load(Ordering::Relaxed);
    let factory = model.open(&other);
    factory.means("reboot the web server", "restart the web server").await;
    factory.settled().await;
    assert!(model.texts.load(Ordering::Relaxed) - made >= 101);
    assert_ne!(factory.found(ASKED, SearchMode::Hybrid).await.unwrap().0, MEANT);
    factory.closed().await;
}
