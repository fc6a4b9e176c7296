//! Memories that say nearly the same, folded into one: a session gains nothing from reading it three times.

use std::collections::HashSet;

use ai_factory_schemas::answer::Found;

/// Texts with at least this part of their words in common say nearly the same.
const COMMON_MIN: f64 = 0.8;

/// `results` without those that say nearly the same as one before them.
pub(super) fn folded(results: Vec<Found>) -> Vec<Found> {
    let mut kept: Vec<(HashSet<String>, Found)> = Vec::new();
    for found in results {
        let words = words(&found.text);
        if !kept.iter().any(|(other, _)| common(&words, other) >= COMMON_MIN) {
            kept.push((words, found));
        }
    }
    kept.into_iter().map(|(_, found)| found).collect()
}

/// The different words of a text. Numbers are one word: two runs that differ in a time or a count say the same.
fn words(text: &str) -> HashSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let is_number = word.chars().all(|c| c.is_ascii_digit());
            if is_number { "0".to_owned() } else { word.to_lowercase() }
        })
        .collect()
}

/// The part of all their words that both have (Jaccard's index).
#[expect(clippy::cast_precision_loss, reason = "counts of words in a memory")]
fn common(a: &HashSet<String>, b: &HashSet<String>) -> f64 {
    let both = a.intersection(b).count();
    let all = a.len() + b.len() - both;
    if all == 0 { 1.0 } else { both as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{answer::Score, memory::MemoryKind, time::Timestamp};

    use super::*;

    fn found(text: &str) -> Found {
        Found {
            id: String::new(),
            text: text.to_owned(),
            distance: 0.5,
            kind: MemoryKind::Note,
            request_id: "r".parse().unwrap(),
            timestamp: Timestamp::default(),
            score: Score::default(),
            snippet: String::new(),
        }
    }

    #[test]
    fn of_texts_that_say_nearly_the_same_the_first_is_kept() {
        let texts = [
            "Back up the database at 10:30",
            "back up the database at 23:59!",
            "Restore the database from a backup",
            "Back up the database at 10:30",
            "",
        ];
        let kept: Vec<String> =
            folded(texts.map(found).into()).into_iter().map(|f| f.text).collect();
        assert_eq!(kept, [texts[0], texts[2], texts[4]]);
    }

    #[test]
    fn short_texts_with_different_words_stay() {
        let texts = ["run a", "run b", "run"];
        assert_eq!(folded(texts.map(found).into()).len(), 3);
    }
}
