//! What memory recalls, and in which order.

use ai_factory::projection::{Access, ProjectionSettings};
use ai_factory_ports::views::{SearchQuery, Views};
use ai_factory_schemas::{id::RunId, memory::SearchMode};

use super::fixture::{Kit, open_over};

#[tokio::test]
async fn everything_remembered_is_found() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.dispatch("a", "Compare zebra crossings").await;
    kit.run("print('giraffe')", "giraffe out", "okapi err").await;
    let session = kit.open_session("s", "Feed the hippo").await;
    let run = RunId(kit.id());
    kit.dispatch_step(session, 0, run).await;
    kit.finish_step(session, 0, run, "rhino fed").await;
    kit.conclude(session, "rhino fed").await;
    kit.note("Das Gnu frißt Gräser", &["savanne"]).await;
    kit.note("备份数据库", &[]).await;
    kit.note("データベース", &[]).await;
    kit.note("резервная копия", &[]).await;

    let found = [
        ("zebra", "zebra"),
        ("look it UP", "look it up"),
        ("giraffe", "giraffe"),
        ("okapi", "okapi err"),
        ("hippo", "Feed the hippo"),
        ("hippo rhino partial", "rhino fed"),
        ("grÄser", "Gräser"),
        ("savanne", "Gnu"),
        ("数据", "备份数据库"),
        ("ベース", "データベース"),
        ("Копия", "резервная копия"),
    ];
    for (query, text) in found {
        let results = views.search(&SearchQuery::new(query, 1)).await.unwrap();
        assert!(
            results.first().is_some_and(|found| found.text.contains(text)),
            "{query}: {results:?}"
        );
        assert!((0.0..=1.0).contains(&results[0].distance), "{query}: {results:?}");
    }
    let words = SearchQuery { mode: SearchMode::Keyword, ..SearchQuery::new("elephant", 5) };
    assert!(views.search(&words).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_identical_text_comes_first_with_distance_zero() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    for text in ["apple", "apple apple apple pie pie pie", "apple pie", "pie", "Apple pie!"] {
        kit.note(text, &[]).await;
    }
    for _ in 0..2 {
        let results = views.search(&SearchQuery::new(" apple pie\n", 5)).await.unwrap();
        assert_eq!((&*results[0].text, results[0].distance), ("apple pie", 0.0));
        assert_eq!(results.len(), 5);
        for pair in results.windows(2) {
            assert!(pair[0].distance <= pair[1].distance && pair[1].distance > 0.0, "{results:?}");
        }
        // The same on disk.
        views.rebuild().await.unwrap();
    }
    let long = "word ".repeat(10_000);
    kit.note(&long, &[]).await;
    assert!(views.search(&SearchQuery::new(&long, 1)).await.unwrap()[0].distance <= 0.0);
}

#[tokio::test]
async fn a_meaning_is_not_drowned_by_a_word_that_everything_has() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.note("pytest -n auto", &[]).await;
    for number in 0..300 {
        kit.note(&format!("an apple of the tree {number}"), &[]).await;
    }
    let found = views.search(&SearchQuery::new("run the unit tests in parallel", 1)).await.unwrap();
    assert_eq!(found[0].text, "pytest -n auto");
}

#[tokio::test]
async fn equal_memories_come_newest_first_and_a_flush_changes_no_order_and_no_distance() {
    let kit = Kit::new();
    let settings = ProjectionSettings::new(kit.dir.path());
    let waiting = open_over(&kit.journal, &settings, Access::Write);
    let mut newest = vec![];
    for number in 0..60 {
        kit.live(number, 20).await;
        newest.push(kit.note("the very same memory of a cherry", &[]).await);
    }
    let queries =
        ["memory cherry", "apple banana cherry plan", "note", "数据 print", "very same of a"];
    let mut before = vec![];
    for query in queries {
        before.push(waiting.search(&SearchQuery::new(query, 20)).await.unwrap());
        let some = waiting.search(&SearchQuery::new(query, 4)).await.unwrap();
        assert_eq!(some, before.last().unwrap()[..4], "fewer results are the first of more");
    }
    drop(waiting);
    // Many small flushes, so that there are merges too, and a remainder that waits.
    let settings = ProjectionSettings { flush_documents_max: 2, ..settings };
    let flushing = open_over(&kit.journal, &settings, Access::Write);
    for (query, before) in queries.iter().zip(&before) {
        assert_eq!(
            flushing.search(&SearchQuery::new(*query, 20)).await.unwrap(),
            *before,
            "{query}"
        );
    }
    flushing.rebuild().await.unwrap();
    for (query, before) in queries.iter().zip(&before) {
        assert_eq!(
            flushing.search(&SearchQuery::new(*query, 20)).await.unwrap(),
            *before,
            "{query}"
        );
    }
    let same =
        flushing.search(&SearchQuery::new("the very same memory of a cherry", 3)).await.unwrap();
    let ids: Vec<_> = same.iter().map(|found| found.id.clone()).collect();
    let mut expected = vec![];
    for position in newest.iter().rev().take(3) {
        use ai_factory_ports::journal::Journal;
        let raw = kit.journal.read(position - 1, 1).await.unwrap().remove(0);
        let id = ai_factory_schemas::envelope::Recorded::decode(&raw.bytes).unwrap().stream.id;
        expected.push(id.to_string());
    }
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn whatever_a_query_says_is_words_and_never_a_syntax() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.note("title and text, or not", &[]).await;
    for _ in 0..2 {
        for empty in ["", " ", "\n\t", "?!…\"'()[]{}*:^~-+", "\u{0}", "\u{200D}"] {
            assert!(
                views.search(&SearchQuery::new(empty, 3)).await.unwrap().is_empty(),
                "{empty:?}"
            );
        }
        for query in ["title:text", "NOT title", "\"text", "title AND (", "-text", "a* OR title~2"]
        {
            assert_eq!(
                views.search(&SearchQuery::new(query, 3)).await.unwrap().len(),
                1,
                "{query}"
            );
        }
        let long = format!("title {}", "lorem ipsum 0123 ".repeat(6_000));
        assert_eq!(views.search(&SearchQuery::new(&long, 3)).await.unwrap().len(), 1);
        assert!(views.search(&SearchQuery::new("x".repeat(100_000), 3)).await.unwrap().is_empty());
        assert!(views.search(&SearchQuery::new("title", 0)).await.unwrap().is_empty());
        views.rebuild().await.unwrap();
    }
}
