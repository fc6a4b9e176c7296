//! Vectors that are lost while the factory serves on.

use std::sync::{Arc, Condvar, Mutex};

use ai_factory::projection::Access;
use ai_factory_ports::{
    embedder::{EmbedError, Embedder, ModelIdentity},
    views::{SearchQuery, Views},
};
use ai_factory_schemas::memory::SearchMode;

use super::fixture::{Kit, embedder, follow, open_with};

/// The model that is part of the program, which makes no vector before it is let.
struct Gate {
    model: Arc<dyn Embedder>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Embedder for Gate {
    fn identity(&self) -> &ModelIdentity {
        self.model.identity()
    }

    fn text_bytes_max(&self) -> usize {
        self.model.text_bytes_max()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let closed = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(closed, |is_open| !*is_open).unwrap());
        self.model.embed(texts)
    }
}

#[tokio::test]
async fn lost_vectors_are_made_again_while_words_serve() {
    let kit = Kit::new();
    let (asked, meant) = ("run the unit tests in parallel", "pytest -n auto");
    let views = kit.open(Access::Write);
    for number in 0..300 {
        kit.note(&format!("an apple, {number}"), &[]).await;
    }
    kit.note(meant, &[]).await;
    views.rebuild().await.unwrap();
    let expected = views.search(&SearchQuery::new(asked, 5)).await.unwrap();
    assert_eq!((&*expected[0].text, views.search_problem()), (meant, None));
    assert_eq!(views.revision(), Some(0));
    drop(views);
    let file = kit.dir.path().join("index/vectors");
    let whole = std::fs::metadata(&file).unwrap().len();
    std::fs::remove_file(&file).unwrap();

    let gate =
        Arc::new(Gate { model: embedder(), is_open: Mutex::default(), opened: Condvar::new() });
    let model = Arc::clone(&gate) as Arc<dyn Embedder>;
    let views = open_with(&kit.journal, &kit.settings(), &model, Access::Write);
    let following = follow(&views);
    while views.search_problem().is_none() {
        tokio::task::yield_now().await;
    }
    // No vector can be made now: whatever is found is found by words, what was just written too.
    kit.note("a pear", &[]).await;
    for mode in [SearchMode::Hybrid, SearchMode::Semantic] {
        for (query, text) in [("pytest", meant), ("pear", "a pear")] {
            let found =
                views.search(&SearchQuery { mode, ..SearchQuery::new(query, 1) }).await.unwrap();
            assert_eq!(found[0].text, text, "{mode:?}");
        }
    }
    assert_eq!(views.revision(), None, "such an answer must not be given again");
    let told = views.search_problem().unwrap();
    assert!(told.contains("keywords alone"), "{told}");

    gate.open();
    while views.search_problem().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        views.revision(),
        Some(1),
        "what was asked before it began is not given again either"
    );
    let found = views.search(&SearchQuery::new(asked, 5)).await.unwrap();
    assert_eq!(found[0].text, meant);
    let sought = SearchQuery { mode: SearchMode::Semantic, ..SearchQuery::new("pear", 1) };
    assert_eq!(views.search(&sought).await.unwrap()[0].text, "a pear");
    // What is on disk is complete too: nothing is to be made once more at the next start.
    while std::fs::metadata(&file).map_or(0, |file| file.len()) < whole {
        tokio::task::yield_now().await;
    }
    following.abort();
    drop(following.await);
    views.rebuild().await.unwrap();
    assert_eq!(views.search(&SearchQuery::new(asked, 5)).await.unwrap()[0].text, meant);
}
