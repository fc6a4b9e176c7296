//! Where the lists of words are on disk, remembered as long as the commit is the newest: a search looks each of its words up in each
//! segment, and most of them are words that others have asked for.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use tantivy::postings::TermInfo;

/// So many words are remembered before all are forgotten, each in some hundred bytes.
const REMEMBERED_WORDS_MAX: usize = 2_048;

/// Where the list of a word is in each segment, the newest first.
pub(crate) type Lists = Arc<[Option<TermInfo>]>;

/// The words of one commit, as far as they were asked for.
#[derive(Default)]
pub(super) struct Dictionary(RwLock<HashMap<Box<str>, Lists>>);

impl Dictionary {
    /// The lists of each of these words; `look_up` finds those that nobody has asked for.
    pub(super) fn lists<E>(
        &self,
        words: &[&str],
        look_up: impl Fn(&str) -> Result<Lists, E>,
    ) -> Result<Vec<Lists>, E> {
        let known: Vec<Option<Lists>> = {
            let remembered = self.0.read().unwrap_or_else(PoisonError::into_inner);
            words.iter().map(|word| remembered.get(*word).cloned()).collect()
        };
        let mut new = Vec::new();
        let mut lists = Vec::with_capacity(words.len());
        for (word, known) in words.iter().zip(known) {
            let found = if let Some(known) = known {
                known
            } else {
                let found = look_up(word)?;
                new.push((Box::from(*word), Arc::clone(&found)));
                found
            };
            lists.push(found);
        }
        if !new.is_empty() {
            let mut remembered = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() + new.len() > REMEMBERED_WORDS_MAX {
                remembered.clear();
            }
            remembered.extend(new);
        }
        Ok(lists)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_word_is_looked_up_once_and_what_is_remembered_is_bounded() {
        let (dictionary, count) = (Dictionary::default(), Cell::new(0));
        let ask = |words: &[&str]| {
            let look_up = |word: &str| {
                count.set(count.get() + 1);
                if word == "broken" {
                    Err("cannot be read")
                } else {
                    Ok(vec![None; word.len()].into())
                }
            };
            let lists = dictionary.lists(words, look_up)?;
            Ok::<_, &str>(lists.iter().map(|lists| lists.len()).collect::<Vec<_>>())
        };
        assert_eq!((ask(&["a", "kettle"]), count.get()), (Ok(vec![1, 6]), 2));
        assert_eq!((ask(&["kettle", "is", "a"]), count.get()), (Ok(vec![6, 2, 1]), 3));
        assert_eq!((ask(&["is", "broken"]), count.get()), (Err("cannot be read"), 4));
        assert_eq!((ask(&["broken"]), count.get()), (Err("cannot be read"), 5));
        for number in 0..10_000 {
            let word = number.to_string();
            assert_eq!(ask(&[&word]), Ok(vec![word.len()]));
        }
        assert!(dictionary.0.read().unwrap().len() <= REMEMBERED_WORDS_MAX);
    }
}
