//! Memories that are forgotten: at once, for good, and as if they had never counted.

use ai_factory::projection::{Access, ProjectionSettings, Projections};
use ai_factory_ports::views::{ExpiredRange, RetentionPolicy, SearchQuery, Views};
use ai_factory_schemas::{id::MemoryId, memory::SearchMode, time::Timestamp};
use uuid::Uuid;

use super::fixture::{Kit, open_over};

const MODES: [SearchMode; 3] = [SearchMode::Hybrid, SearchMode::Keyword, SearchMode::Semantic];

async fn texts(views: &Projections, query: &str) -> Vec<String> {
    let mut all = Vec::new();
    for mode in MODES {
        let found =
            views.search(&SearchQuery { mode, ..SearchQuery::new(query, 20) }).await.unwrap();
        all.extend(found.into_iter().map(|found| found.text));
    }
    all
}

#[tokio::test]
async fn what_is_forgotten_is_found_in_no_way_and_stays_so() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let secret = "the blue kettle stands on /srv/kitchen/shelf-7";
    let mut positions = vec![kit.note(secret, &["kitchen"]).await];
    for number in 0..5 {
        kit.note(&format!("a kettle of another colour, number {number}"), &[]).await;
    }
    kit.run("print('blue kettle')", "the blue kettle is hot", "").await;
    positions.push(kit.journal_position());
    let id = views.search(&SearchQuery::new(secret, 1)).await.unwrap()[0].id.clone();
    let memory = MemoryId(Uuid::parse_str(&id).unwrap());
    assert_eq!(views.memory(memory).await.unwrap(), Some(positions[0]));
    // Once while it waits in memory, once when it stands in the files.
    for is_flushed in [false, true] {
        if is_flushed {
            views.rebuild().await.unwrap();
        }
        kit.forget(positions[usize::from(is_flushed)]).await;
        for query in [secret, "blue kettle", "shelf-7", "hot", "\"blue kettle\""] {
            let found = texts(&views, query).await;
            assert!(!found.is_empty(), "{query}: the others are still there");
            assert!(!found.iter().any(|text| text == secret), "{query}");
        }
        let tagged = SearchQuery { tag: Some("kitchen".into()), ..SearchQuery::new("kettle", 20) };
        assert!(views.search(&tagged).await.unwrap().is_empty());
        let similar = SearchQuery { similar_to: Some(id.clone()), ..SearchQuery::new("", 3) };
        assert!(views.search(&similar).await.unwrap().is_empty());
        assert_eq!(views.memory(memory).await.unwrap(), None);
    }
    assert!(!texts(&views, "hot").await.iter().any(|text| text.contains("is hot")));
    let digest = views.digest().await.unwrap();
    assert_eq!(digest.counts.documents, 5);
    drop(views);
    // Without an orderly end, as in a crash; after a rebuild; and with the vectors or the words
    // alone.
    for lost in ["", "index/vectors", "index/words/meta.json", "index"] {
        let views = kit.open(Access::Write);
        assert_eq!(views.digest().await.unwrap(), digest, "without {lost}");
        assert!(!texts(&views, secret).await.iter().any(|text| text == secret), "without {lost}");
        views.rebuild().await.unwrap();
        assert_eq!(views.digest().await.unwrap(), digest);
        let path = kit.dir.path().join(lost);
        drop(views);
        match lost {
            "" => {}
            "index" => std::fs::remove_dir_all(path).unwrap(),
            _ => std::fs::remove_file(path).unwrap(),
        }
    }
}

#[tokio::test]
async fn forgetting_changes_scores_as_if_the_memory_had_never_been_there() {
    let kit = Kit::new();
    let never = Kit::new();
    let settings = ProjectionSettings { flush_documents_max: 64, ..kit.settings() };
    let views = open_over(&kit.journal, &settings, Access::Write);
    let mut doomed = Vec::new();
    for number in 0..700_u32 {
        let text = format!("kettle number {number} of the house");
        if number % 2 == 0 {
            doomed.push(kit.note(&format!("{text}, doomed, a longer text than others"), &[]).await);
        } else {
            kit.note(&text, &[]).await;
            never.note(&text, &[]).await;
        }
        if number % 50 == 0 {
            views.catch_up().await.unwrap();
        }
    }
    for position in doomed {
        kit.forget(position).await;
    }
    let other = never.open(Access::Write);
    let shown = |found: Vec<ai_factory_schemas::answer::FoundMemory>| {
        let found = found.into_iter();
        found.map(|f| (f.text, f.score.keyword.to_bits(), f.distance.to_bits())).collect::<Vec<_>>()
    };
    // Before anything of it is written, when it is taken out of the files, and after a restart.
    for _ in 0..3 {
        for query in ["kettle 7", "the house", "doomed kettle", "longer"] {
            let sought = SearchQuery::new(query, 20);
            let found = shown(views.search(&sought).await.unwrap());
            assert_eq!(found, shown(other.search(&sought).await.unwrap()), "{query}");
        }
        views.rebuild().await.unwrap();
    }
    drop(views);
    let views = open_over(&kit.journal, &settings, Access::Write);
    let sought = SearchQuery::new("the house", 20);
    let found = shown(views.search(&sought).await.unwrap());
    assert_eq!(found, shown(other.search(&sought).await.unwrap()));
    assert_eq!(views.digest().await.unwrap().counts.documents, 350);
}

#[tokio::test]
async fn the_oldest_expire_by_age_and_by_number() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let at = |position: u64| Timestamp::from_micros(i64::try_from(position).unwrap() * 1_000_000);
    let mut positions = Vec::new();
    for number in 0..40 {
        positions.push(kit.note(&format!("note {number}"), &[]).await);
    }
    let expired_range =
        |upto: usize, memories| Some(ExpiredRange { upto: positions[upto], memories });
    let by_age =
        |number: usize| RetentionPolicy { since: Some(at(positions[number])), memories_max: None };
    let by_number = |max| RetentionPolicy { since: None, memories_max: Some(max) };
    for _ in 0..2 {
        for (kept, limit, expected) in [
            (RetentionPolicy::default(), 100, None),
            (by_age(0), 100, None),
            (by_age(7), 100, expired_range(6, 7)),
            (by_age(7), 3, expired_range(2, 3)),
            (by_number(40), 100, None),
            (by_number(38), 100, expired_range(1, 2)),
            (RetentionPolicy { memories_max: Some(20), ..by_age(7) }, 100, expired_range(19, 20)),
            (RetentionPolicy { memories_max: Some(39), ..by_age(7) }, 100, expired_range(6, 7)),
        ] {
            assert_eq!(views.expired_range(&kept, limit).await.unwrap(), expected, "{kept:?}");
        }
        views.rebuild().await.unwrap();
    }
    kit.forget(positions[0]).await;
    kit.expire(positions[4]).await;
    assert_eq!(views.expired_range(&by_number(30), 100).await.unwrap(), expired_range(9, 5));
    assert_eq!(views.digest().await.unwrap().counts.documents, 35);
    let digest = views.digest().await.unwrap();
    views.rebuild().await.unwrap();
    assert_eq!(views.digest().await.unwrap(), digest);
    let reader = kit.open(Access::Read);
    assert_eq!(reader.digest().await.unwrap(), digest);
}
