//! Near-duplicate filter for results: several memories with nearly the same text add nothing for a
//! session.

use std::collections::HashSet;

/// Share of common words from which two texts are near duplicates.
const COMMON_MIN: f64 = 0.8;

/// The texts so far that are not near duplicates.
#[derive(Default)]
pub(super) struct NearDuplicateFilter(Vec<HashSet<String>>);

impl NearDuplicateFilter {
    /// Whether a text is no near duplicate of those before it; if so, it is added to them.
    pub(super) fn is_new(&mut self, text: &str) -> bool {
        let words = keyword_index(text);
        let is_new = self.0.iter().all(|other| common(&words, other) < COMMON_MIN);
        if is_new {
            self.0.push(words);
        }
        is_new
    }
}

/// The set of a text's words. All numbers are one word: texts that differ only in times or counts
/// are near duplicates.
fn keyword_index(text: &str) -> HashSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let is_number = word.chars().all(|c| c.is_ascii_digit());
            if is_number { "0".to_owned() } else { word.to_lowercase() }
        })
        .collect()
}

/// Jaccard index of two sets of words.
#[expect(clippy::cast_precision_loss, reason = "counts of words in a memory")]
fn common(a: &HashSet<String>, b: &HashSet<String>) -> f64 {
    let both = a.intersection(b).count();
    let all = a.len() + b.len() - both;
    if all == 0 { 1.0 } else { both as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept<'a>(texts: &[&'a str]) -> Vec<&'a str> {
        let mut folded = NearDuplicateFilter::default();
        texts.iter().copied().filter(|text| folded.is_new(text)).collect()
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
        assert_eq!(kept(&texts), [texts[0], texts[2], texts[4]]);
    }

    #[test]
    fn short_texts_with_different_words_stay() {
        let texts = ["run a", "run b", "run"];
        assert_eq!(kept(&texts).len(), 3);
    }
}
