//! Cache of answers that depend on the journal alone: a repeated question is answered without the
//! work while nothing was recorded in between.
//!
//! *Promises.* An answer is reused only while the journal's head is where it was before the work on
//! the first question began, so it contains everything acknowledged until then (I-13), and only
//! while the read side has the same revision: not after a rebuild or a change of the serving
//! embedding model. An answer from an incomplete read side is never reused.
//!
//! *Limits.* `ANSWERS_MAX` answers of at most `ANSWER_BYTES_MAX` bytes; the next one clears the
//! cache.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

/// Cached answers per actor.
const ANSWERS_MAX: usize = 64;
/// The largest answer that is cached, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The largest question whose answer is cached, in bytes.
const QUESTION_BYTES_MAX: usize = 1024;

/// The cache of one actor.
#[derive(Clone, Default)]
pub(crate) struct AnswerCache(Arc<Mutex<CachedAnswers>>);

#[derive(Default)]
struct CachedAnswers {
    /// The state that the cached answers belong to.
    state: Revision,
    by_question: HashMap<CacheKey, Bytes>,
}

/// What an answer depends on beside the question: the journal's head, and the read side's revision.
type Revision = (u64, u64);

/// A question: the verb and the body.
type CacheKey = (Box<str>, Bytes);

/// A question without a cached answer; its answer is to be cached.
pub(crate) struct PendingAnswer {
    answers: AnswerCache,
    position: u64,
    /// The read side's revision before the work began; `None` if the read side was incomplete.
    revision: Option<u64>,
    question: CacheKey,
}

impl AnswerCache {
    fn lock(&self) -> MutexGuard<'_, CachedAnswers> {
        self.0.lock()
    }

    /// The cached answer, or the question to work on. `position` is the journal's head, `revision`
    /// that of the read side ([`ai_factory_ports::views::Views::revision`]).
    pub(crate) fn ask(
        &self,
        verb: &str,
        body: &Bytes,
        position: u64,
        revision: Option<u64>,
    ) -> Result<Bytes, PendingAnswer> {
        let question = (Box::from(verb), body.clone());
        let kept = self.lock();
        match kept.by_question.get(&question) {
            Some(answer) if revision.map(|revision| (position, revision)) == Some(kept.state) => {
                Ok(answer.clone())
            }
            _ => Err(PendingAnswer { answers: self.clone(), position, revision, question }),
        }
    }
}

impl PendingAnswer {
    /// Caches the answer, unless it is outdated or too large, or the read side was incomplete.
    /// `revision` is the read side's revision after the work.
    pub(crate) fn store(self, answer: &Bytes, revision: Option<u64>) {
        let Some(before) = self.revision.filter(|before| revision == Some(*before)) else { return };
        let state: Revision = (self.position, before);
        if answer.len() > ANSWER_BYTES_MAX || self.question.1.len() > QUESTION_BYTES_MAX {
            return;
        }
        let mut kept = self.answers.lock();
        // Position and revision only grow.
        if kept.state > state {
            return;
        }
        if kept.state < state || kept.by_question.len() >= ANSWERS_MAX {
            kept.by_question.clear();
            kept.state = state;
        }
        kept.by_question.insert(self.question, answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: Option<u64> = Some(1);

    fn ask(answers: &AnswerCache, body: &str, position: u64) -> Result<Bytes, PendingAnswer> {
        answers.ask("logs", &Bytes::copy_from_slice(body.as_bytes()), position, COMPLETE)
    }

    fn answer(answers: &AnswerCache, body: &str, position: u64, answer: &'static str) {
        let Err(asked) = ask(answers, body, position) else { panic!("it has an answer") };
        asked.store(&Bytes::from_static(answer.as_bytes()), COMPLETE);
    }

    #[test]
    fn an_answer_of_a_read_side_that_was_not_complete_is_not_kept() {
        let answers = AnswerCache::default();
        for (before, after) in
            [(None, None), (None, COMPLETE), (COMPLETE, None), (COMPLETE, Some(2))]
        {
            let Err(asked) = answers.ask("search", &Bytes::new(), 7, before) else {
                panic!("{before:?} {after:?} was kept")
            };
            asked.store(&Bytes::from("by words"), after);
        }
        assert!(answers.ask("search", &Bytes::new(), 7, COMPLETE).is_err());
    }

    #[test]
    fn an_answer_is_given_again_until_something_is_recorded() {
        let answers = AnswerCache::default();
        answer(&answers, "{}", 7, "first");
        assert_eq!(ask(&answers, "{}", 7).ok(), Some(Bytes::from("first")));
        assert!(ask(&answers, "{\"limit\":1}", 7).is_err(), "another question");
        assert!(ask(&answers, "{}", 8).is_err(), "something was recorded");
        answer(&answers, "{}", 8, "second");
        assert_eq!(ask(&answers, "{}", 8).ok(), Some(Bytes::from("second")));
    }

    #[test]
    fn an_answer_is_not_given_again_once_the_read_side_would_answer_another() {
        let (answers, body) = (AnswerCache::default(), Bytes::from("{}"));
        answer(&answers, "{}", 7, "of the built-in model");
        assert!(answers.ask("logs", &body, 7, None).is_err(), "it is being made anew");
        let Err(asked) = answers.ask("logs", &body, 7, Some(2)) else {
            panic!("another model's vectors serve")
        };
        asked.store(&Bytes::from("of the other"), Some(2));
        assert_eq!(answers.ask("logs", &body, 7, Some(2)).ok(), Some("of the other".into()));
        assert!(ask(&answers, "{}", 7).is_err(), "nothing of before is left");
    }

    #[test]
    fn an_answer_that_comes_too_late_is_not_kept() {
        let answers = AnswerCache::default();
        let Err(slow) = ask(&answers, "{}", 7) else { panic!("it has an answer") };
        answer(&answers, "{}", 8, "newer");
        slow.store(&Bytes::from("older"), COMPLETE);
        assert_eq!(ask(&answers, "{}", 8).ok(), Some(Bytes::from("newer")));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let answers = AnswerCache::default();
        let Err(large) = ask(&answers, "{}", 1) else { panic!("it has an answer") };
        large.store(&Bytes::from(vec![b' '; ANSWER_BYTES_MAX + 1]), COMPLETE);
        assert!(ask(&answers, "{}", 1).is_err());
        for number in 0..1_000 {
            answer(&answers, &number.to_string(), 1, "x");
        }
        assert!(answers.lock().by_question.len() <= ANSWERS_MAX);
    }
}
