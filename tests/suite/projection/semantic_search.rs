//! What memory finds: by meaning, word for word, and among the memories that were asked for.

use std::fmt::Write as _;

use ai_factory::projection::{Access, ProjectionSettings};
use ai_factory_ports::views::{SearchQuery, Views};
use ai_factory_schemas::{
    answer::FoundMemory,
    memory::{MemoryKind, SearchMode},
    time::Timestamp,
};

use super::fixture::{Kit, follow, open_over};

/// Numbers that only look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// What somebody pastes.
    fn line(&mut self, number: u64) -> String {
        let level = self.one(&["INFO", "WARN", "ERROR"]);
        let unit = self.one(&["api", "db-pool", "Scheduler", "auth_proxy"]);
        let (a, b) = (self.below(1 << 32), self.below(1 << 16));
        match number % 5 {
            0 => format!(
                "2026-03-{:02}T10:{:02}:07Z {level} {unit}: request {a:08x} took {b} ms",
                1 + a % 28,
                b % 60
            ),
            1 => format!(
                "find /srv/{unit}/{b} -name '*.{level}' -mtime -{} -exec rm -f {{}} \\;",
                a % 90
            ),
            2 => format!("/usr/lib/{unit}/v{}.{}.{b}/{level}.so.{a}", a % 9, b % 7),
            3 => format!("{a:08x}-{b:04x}-7{:03x}-8{:03x}-{:012x}", a % 4096, b % 4096, a * 65_537),
            _ => format!(
                "error[E{b:04}]: mismatched types in `{unit}::{level}` at src/{unit}/m{a}.rs:{b}:7"
            ),
        }
    }
}

async fn first(views: &impl Views, query: &str) -> String {
    let found = views.search(&SearchQuery::new(query, 3)).await.unwrap();
    found.first().map(|found| found.text.clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_line_that_is_pasted_whole_finds_its_own_entry_first() {
    const SEED: u64 = 0x5EED_0FAC;
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let mut chance = Chance(SEED);
    let mut entries = Vec::new();
    for number in 0..200 {
        let line = chance.line(number);
        // Alone, or among others.
        let text = match number % 2 {
            0 => line.clone(),
            _ => format!("What the machine said\n{line}\nand then it went on, attempt {number}"),
        };
        kit.note(&text, &[]).await;
        entries.push((line, text));
    }
    for _ in 0..2 {
        for (line, text) in &entries {
            assert_eq!(first(&*views, line).await, *text, "seed {SEED:#x}: {line}");
            assert_eq!(first(&*views, &format!("  {line}\n")).await, *text, "seed {SEED:#x}");
        }
        // The same on disk.
        views.rebuild().await.unwrap();
    }
}

#[tokio::test]
async fn what_means_the_same_is_found_without_a_common_word() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    for text in [
        "pytest -n auto",
        "convert photo.png -resize 50% small.png",
        "git push origin main",
        "docker compose up -d",
        "tar -czf backup.tar.gz documents",
    ] {
        kit.note(text, &[]).await;
    }
    let sought = [
        ("run the unit tests in parallel", "pytest -n auto"),
        ("make an image smaller", "convert photo.png -resize 50% small.png"),
        ("compress a folder into an archive", "tar -czf backup.tar.gz documents"),
    ];
    for (query, text) in sought {
        for mode in [SearchMode::Hybrid, SearchMode::Semantic] {
            let found =
                views.search(&SearchQuery { mode, ..SearchQuery::new(query, 3) }).await.unwrap();
            assert_eq!(found[0].text, text, "{query} {mode:?}");
            assert!(found[0].score.semantic > 0.0 && found.is_sorted_by_key(|f| f.distance));
        }
    }
}

#[tokio::test]
async fn what_the_model_knows_nothing_of_is_found_by_its_words() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.note("an English text about databases", &[]).await;
    for (text, query) in [("备份数据库", "数据"), ("резервная копия", "копия"), ("🚀🎉", "🎉")]
    {
        kit.note(text, &[]).await;
        for mode in [SearchMode::Hybrid, SearchMode::Semantic, SearchMode::Keyword] {
            let found =
                views.search(&SearchQuery { mode, ..SearchQuery::new(query, 1) }).await.unwrap();
            assert_eq!(found[0].text, text, "{query} {mode:?}");
        }
    }
}

#[tokio::test]
async fn a_long_text_is_found_by_what_stands_at_its_end() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let mut long = String::new();
    for number in 0..180 {
        writeln!(long, "Row {number} of the quarterly accounting table, nothing of note here.")
            .unwrap();
    }
    long.push_str("The giraffe at the zoo drinks from the river.");
    kit.note(&long, &[]).await;
    kit.note("quarterly accounting table", &[]).await;
    let sought = SearchQuery {
        mode: SearchMode::Semantic,
        ..SearchQuery::new("an animal drinking water", 1)
    };
    let found = views.search(&sought).await.unwrap();
    assert_eq!(found[0].text, long);
}

#[tokio::test]
async fn kind_time_tag_phrase_and_exclusion_choose_among_memories() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    kit.dispatch("a", "Compare zebra crossings").await;
    kit.run("print('zebra')", "zebra", "").await;
    let early = kit.note("zebra crossing rules", &["road"]).await;
    kit.note("crossing of a zebra and a lion", &["animal"]).await;
    let all = SearchQuery::new("zebra", 20);
    let choose: [(&str, SearchQuery, usize); 9] = [
        ("all", all.clone(), 4),
        ("notes", SearchQuery { kind: Some(MemoryKind::Note), ..all.clone() }, 2),
        ("runs", SearchQuery { kind: Some(MemoryKind::Run), ..all.clone() }, 1),
        ("tag", SearchQuery { tag: Some("animal".into()), ..all.clone() }, 1),
        ("no such tag", SearchQuery { tag: Some("anim".into()), ..all.clone() }, 0),
        ("since", SearchQuery { since: Some(at(early + 1)), ..all.clone() }, 1),
        ("until", SearchQuery { until: Some(at(early + 1)), ..all.clone() }, 3),
        ("phrase", SearchQuery::new("\"zebra crossing\"", 20), 2),
        ("without", SearchQuery::new("zebra -lion", 20), 3),
    ];
    for _ in 0..2 {
        for (name, sought, count) in &choose {
            let found = views.search(sought).await.unwrap();
            assert_eq!(found.len(), *count, "{name}: {found:#?}");
        }
        let found =
            views.search(&SearchQuery::new("zebra crossing rules", 1)).await.unwrap().remove(0);
        assert_eq!((found.kind, found.timestamp), (MemoryKind::Note, at(early)));
        assert_eq!((found.distance, &*found.snippet), (0.0, "**zebra** **crossing** **rules**"));
        // The same on disk.
        views.rebuild().await.unwrap();
    }
}

#[tokio::test]
async fn phrases_and_exclusions_choose_the_same_memories_while_they_wait_and_on_disk() {
    const SEED: u64 = 0xF4A5_E5ED;
    println!("seed {SEED:#x}");
    let kit = Kit::new();
    let settings = ProjectionSettings {
        flush_events_max: 10_000,
        flush_documents_max: 10_000,
        ..kit.settings()
    };
    let views = open_over(&kit.journal, &settings, Access::Write);
    let mut chance = Chance(SEED);
    let words = ["kettle", "red", "boil", "water", "cup", "tea"];
    let mut some = |count: u64| -> Vec<&str> { (0..count).map(|_| chance.one(&words)).collect() };
    for _ in 0..80 {
        kit.note(&some(6).join(" "), &[&some(2).join(" ")]).await;
    }
    let queries: Vec<String> = (0..40)
        .map(|number| {
            let (phrase, out, far) = (some(2 + number % 2), some(1 + number % 3), some(2));
            let (phrase, out, far) = (phrase.join(" "), out.join(" "), far.join(" "));
            match number % 3 {
                0 => format!("{far} \"{phrase}\""),
                1 => format!("{far} -\"{out}\""),
                _ => format!("\"{phrase}\" -\"{out}\""),
            }
        })
        .collect();
    let mut waiting = Vec::new();
    for query in &queries {
        waiting.push(views.search(&SearchQuery::new(query, 100)).await.unwrap());
    }
    let counts: Vec<usize> = waiting.iter().map(Vec::len).collect();
    assert!(counts.iter().any(|count| (1..80).contains(count)), "{counts:?}");
    views.rebuild().await.unwrap();
    for (query, waiting) in queries.iter().zip(waiting) {
        let written = views.search(&SearchQuery::new(query, 100)).await.unwrap();
        let texts = |found: &[FoundMemory]| -> Vec<String> {
            found.iter().map(|found| format!("{} {}", found.timestamp, found.text)).collect()
        };
        assert_eq!(texts(&written), texts(&waiting), "{query}");
    }
}

fn at(position: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(position).unwrap() * 1_000_000)
}

#[tokio::test]
async fn a_memory_finds_those_that_are_like_it_and_not_itself() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    for text in ["back up the database", "resize the image", "make a copy of the database"] {
        kit.note(text, &[]).await;
    }
    for _ in 0..2 {
        let nearest = views.search(&SearchQuery::new("back up the database", 1)).await.unwrap();
        let sought =
            SearchQuery { similar_to: Some(nearest[0].id.clone()), ..SearchQuery::new("", 3) };
        let found = views.search(&sought).await.unwrap();
        assert_eq!(found[0].text, "make a copy of the database");
        assert!(found.iter().all(|found| found.id != nearest[0].id));
        let nobody = SearchQuery { similar_to: Some("nobody".into()), ..SearchQuery::new("", 3) };
        assert!(views.search(&nobody).await.unwrap().is_empty());
        // The same on disk.
        views.rebuild().await.unwrap();
    }
}

#[tokio::test]
async fn leaving_out_a_session_or_a_memory_is_choosing_all_others() {
    const SEED: u64 = 0x1EAF_0AC7;
    println!("seed {SEED:#x}");
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    let mut chance = Chance(SEED);
    let words = ["kettle", "red", "boil", "water", "cup", "tea", "hot", "shelf"];
    let mut sessions = Vec::new();
    for number in 0..60 {
        let text: Vec<&str> = (0..4).map(|_| chance.one(&words)).collect();
        if chance.below(3) > 0 {
            kit.note(&text.join(" "), &[]).await;
        } else {
            let session = kit.open_session(&format!("s{number}"), &text.join(" ")).await;
            kit.conclude(session, "done").await;
            sessions.push(session);
        }
        if number % 4 != 0 {
            continue;
        }
        for mode in [SearchMode::Keyword, SearchMode::Semantic, SearchMode::Hybrid] {
            let all = SearchQuery { mode, ..SearchQuery::new(text.join(" "), 100) };
            let everything = views.search(&all).await.unwrap();
            let nearest = everything.first().map(|found| found.id.clone());
            for sought in [
                SearchQuery { without: sessions.last().copied(), ..all.clone() },
                SearchQuery { without: sessions.first().copied(), ..all.clone() },
                SearchQuery { similar_to: nearest, ..all },
            ] {
                let found = views.search(&sought).await.unwrap();
                // The beginning of all time leaves nothing out, and has each memory looked at.
                let since = Some(Timestamp::from_micros(0));
                let chosen = views.search(&SearchQuery { since, ..sought.clone() }).await.unwrap();
                assert_eq!(found, chosen, "{number} {sought:?}");
                let itself = sought.similar_to.clone();
                let is_left_out = |id: &String| {
                    Some(id) == itself.as_ref()
                        || sought.without.is_some_and(|session| session.0.to_string() == *id)
                };
                assert!(!found.iter().any(|found| is_left_out(&found.id)), "{number} {sought:?}");
            }
        }
    }
    assert!(sessions.len() > 5);
}

#[tokio::test]
async fn of_memories_that_say_nearly_the_same_the_best_is_found_where_that_is_asked() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    for minute in 10..40 {
        kit.note(&format!("back up the database at 10:{minute}"), &[]).await;
        kit.note(&format!("restore the database from the copy of day {}", minute % 5), &[]).await;
    }
    kit.note("resize the image", &[]).await;
    for _ in 0..2 {
        let folded = SearchQuery { fold: true, ..SearchQuery::new("back up the database", 3) };
        let found = views.search(&folded).await.unwrap();
        // All that would be found without, in their order, but for those like one before them.
        let all = views.search(&SearchQuery { fold: false, limit: 18, ..folded }).await.unwrap();
        assert_eq!(found.len(), 1 + usize::from(all.iter().any(|a| a.text.starts_with("restore"))));
        assert_eq!(found[0], all[0]);
        views.rebuild().await.unwrap();
    }
}

#[tokio::test]
async fn behind_many_that_say_nearly_the_same_others_are_found() {
    let kit = Kit::new();
    let views = kit.open(Access::Write);
    for minute in 10..22 {
        kit.note(&format!("back up the database at 10:{minute}"), &[]).await;
    }
    kit.note("back up the photographs of the garden", &[]).await;
    kit.note("the database of plants and where they grow", &[]).await;
    let sought = SearchQuery::new("back up the database", 18);
    let mut expected = views.search(&sought).await.unwrap();
    let mut alike = expected.iter().map(|found| found.text.starts_with("back up the database"));
    assert!(alike.by_ref().take(12).all(|is_alike| is_alike) && alike.len() == 2);
    expected.drain(1..12);
    let folded = SearchQuery { fold: true, limit: 3, ..sought };
    assert_eq!(views.search(&folded).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_many_search_and_some_write_nothing_fails_and_every_write_is_found_at_once() {
    const WRITERS: usize = 8;
    const SEARCHERS: usize = 64;
    const NOTES: usize = 40;
    let kit = std::sync::Arc::new(Kit::new());
    let views = kit.open(Access::Write);
    for number in 0..50 {
        kit.note(&format!("the kettle of room {number} is blue"), &[]).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (kit, views) = (kit.clone(), views.clone());
        tasks.spawn(async move {
            for number in 0..NOTES {
                let text = format!("writer {writer} has noted kettle {number}");
                kit.note(&text, &[]).await;
                assert_eq!(first(&*views, &text).await, text);
            }
        });
    }
    for searcher in 0..SEARCHERS {
        let views = views.clone();
        tasks.spawn(async move {
            for query in ["kettle", "which kettle is blue", "boil water", "\"the kettle\""] {
                let found = views.search(&SearchQuery::new(query, 5)).await.unwrap();
                assert_eq!(found.len(), 5, "searcher {searcher}: {query}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_lost_index_is_made_anew_and_searched_as_far_as_it_goes() {
    let kit = Kit::new();
    for number in 0..600 {
        kit.note(&format!("the kettle of room {number} is blue"), &[]).await;
    }
    let settings = ProjectionSettings { served_behind_events_min: 100, ..kit.settings() };
    let views = open_over(&kit.journal, &settings, Access::Write);
    let said = views.search_problem().unwrap();
    assert!(said.contains("0 of 600"), "{said}");
    // One task: the search begins when the fold first lets others go on.
    let meanwhile = async {
        let found =
            views.search(&SearchQuery::new("the kettle of room 7 is blue", 1)).await.unwrap();
        assert_eq!(found[0].text, "the kettle of room 7 is blue");
        views.search_problem().is_some()
    };
    let (folded, was_ailing) = tokio::join!(views.catch_up(), meanwhile);
    folded.unwrap();
    assert!(was_ailing, "the search has waited for all of it");
    assert_eq!(views.search_problem(), None);
    assert_eq!(
        first(&*views, "the kettle of room 599 is blue").await,
        "the kettle of room 599 is blue"
    );
}

#[tokio::test]
async fn an_index_that_was_made_anew_is_on_disk_as_soon_as_it_is_complete() {
    let kit = Kit::new();
    for number in 0..300 {
        kit.note(&format!("the kettle of room {number} is blue"), &[]).await;
    }
    let settings = ProjectionSettings {
        served_behind_events_min: 100,
        ..ProjectionSettings::new(kit.dir.path())
    };
    let views = open_over(&kit.journal, &settings, Access::Write);
    let following = follow(&views);
    // Fewer documents than a flush is due for: ends when what was made is written nevertheless.
    let meta = kit.dir.path().join("index/words/meta.json");
    while !std::fs::read_to_string(&meta).unwrap_or_default().contains(" 300 ") {
        tokio::task::yield_now().await;
    }
    following.abort();
    drop((following.await, views));
    // Nothing is to be made at the next start.
    let views = open_over(&kit.journal, &settings, Access::Write);
    assert_eq!(views.search_problem(), None);
}
