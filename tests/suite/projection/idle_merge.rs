//! What is done for the index when nobody wants anything of it.

use std::{fs::OpenOptions, time::Duration};

use ai_factory::projection::{Access, ProjectionSettings, Projections};
use ai_factory_ports::views::{SearchQuery, Views};

use super::fixture::{Kit, follow, open_over, pieces};

async fn found(views: &Projections) -> Vec<String> {
    let found = views.search(&SearchQuery::new("kettle", 20)).await.unwrap();
    found.into_iter().map(|found| found.text).collect()
}

/// Notes, some in each of three pieces.
async fn notes_in_pieces(kit: &Kit) {
    loop {
        // Opened when a flush that the one before had begun is over.
        let views = kit.open(Access::Write);
        if pieces(kit).len() == 3 {
            return;
        }
        for number in 0..kit.settings().flush_documents_max {
            kit.note(&format!("kettle {number} of {}", kit.journal_position()), &[]).await;
        }
        views.catch_up().await.unwrap();
    }
}

#[tokio::test]
async fn at_rest_the_pieces_of_the_index_become_one_and_answers_stay_the_same() {
    let kit = Kit::new();
    let settings = ProjectionSettings { idle_after: Duration::from_millis(1), ..kit.settings() };
    notes_in_pieces(&kit).await;
    let views = open_over(&kit.journal, &settings, Access::Write);
    let before = found(&views).await;
    let following = follow(&views);
    while pieces(&kit).len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(found(&views).await, before);
    // And again, when there is more.
    let whole = pieces(&kit);
    for _ in 0..whole[0] {
        kit.note("a teapot", &[]).await;
    }
    views.catch_up().await.unwrap();
    while pieces(&kit) == whole || pieces(&kit).len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(found(&views).await, before);
    following.abort();
}

#[tokio::test]
async fn a_close_leaves_the_index_in_one_piece() {
    let kit = Kit::new();
    let settings = ProjectionSettings { idle_after: Duration::MAX, ..kit.settings() };
    notes_in_pieces(&kit).await;
    let views = open_over(&kit.journal, &settings, Access::Write);
    let before = found(&views).await;
    views.close().await.unwrap();
    assert_eq!(pieces(&kit).len(), 1);
    assert_eq!(found(&views).await, before);
    drop(views);
    assert_eq!(found(&kit.open(Access::Write)).await, before);
}

#[tokio::test]
async fn what_was_made_anew_beside_comes_to_be_in_one_piece_too() {
    let kit = Kit::new();
    // So many are written in three pieces.
    for number in 0..512 {
        kit.note(&format!("kettle {number}"), &[]).await;
    }
    let settings = ProjectionSettings { idle_after: Duration::from_millis(1), ..kit.settings() };
    let views = open_over(&kit.journal, &settings, Access::Write);
    let before = found(&views).await;
    let following = follow(&views);
    // The second time nothing else is written.
    for _ in 0..2 {
        views.start_rebuild().await.unwrap();
        while views.rebuild_progress().is_some() || pieces(&kit).len() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(found(&views).await, before);
    }
    following.abort();
}

#[tokio::test]
async fn an_index_that_cannot_be_put_in_order_keeps_nobody_from_an_end() {
    let kit = Kit::new();
    let settings = ProjectionSettings { idle_after: Duration::MAX, ..kit.settings() };
    notes_in_pieces(&kit).await;
    let views = open_over(&kit.journal, &settings, Access::Write);
    let before = found(&views).await;
    let files = std::fs::read_dir(kit.dir.path().join("index/words")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|kind| kind == "store")) {
        let texts = OpenOptions::new().write(true).open(path).unwrap();
        texts.set_len(texts.metadata().unwrap().len() / 2).unwrap();
    }
    views.close().await.unwrap();
    assert!(pieces(&kit).len() > 1, "it could be put in order");
    drop(views);
    // Whoever searches has it made anew.
    assert_eq!(found(&kit.open(Access::Write)).await, before);
}
