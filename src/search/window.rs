//! Windows: ranges of consecutive documents scored together, and those of them that may still be
//! among the best.

use tantivy::{DocId, Score};

/// Documents per window.
pub(super) const WINDOW_DOCUMENTS: u32 = 4_096;

/// Reusable memory of a search through one segment after the other.
pub(super) struct WindowBuffers {
    pub(super) window: ScoreWindow,
    pub(super) left: Survivors,
    /// Term frequencies.
    pub(super) counts: Vec<u32>,
}

impl WindowBuffers {
    /// Empty.
    pub(super) fn new() -> Self {
        Self { window: ScoreWindow::new(), left: Survivors::new(), counts: Vec::new() }
    }
}

/// Scores of consecutive documents.
pub(super) struct ScoreWindow {
    /// The first document.
    pub(super) start: DocId,
    scores: Vec<Score>,
    /// One bit per document that has a score.
    scored: Vec<u64>,
}

impl ScoreWindow {
    fn new() -> Self {
        let documents = WINDOW_DOCUMENTS as usize;
        Self { start: 0, scores: vec![0.0; documents], scored: vec![0; documents / 64] }
    }

    /// The first document behind the window.
    pub(super) fn end(&self) -> DocId {
        self.start.saturating_add(WINDOW_DOCUMENTS)
    }

    /// Adds to the score of a document.
    pub(super) fn add(&mut self, document: DocId, score: Score) {
        let index = (document - self.start) as usize;
        self.scores[index] += score;
        self.scored[index / 64] |= 1 << (index % 64);
    }

    /// Moves the documents whose scores pass `is_left` into `left`, and empties the window.
    pub(super) fn drain_into(&mut self, left: &mut Survivors, is_left: impl Fn(Score) -> bool) {
        left.count = 0;
        for (document, bits) in (self.start..).step_by(64).zip(&mut self.scored) {
            let mut rest = std::mem::take(bits);
            while rest != 0 {
                let document = document + rest.trailing_zeros();
                rest &= rest - 1;
                let index = (document - self.start) as usize;
                let score = std::mem::take(&mut self.scores[index]);
                left.push((document, score), is_left(score));
            }
        }
    }
}

/// The documents of a window that may still be among the best, in order, with their scores so far.
/// A processor cannot predict which ones remain: so each is written to the next slot, and only the
/// slot's advance depends on it, without a branch.
pub(super) struct Survivors {
    documents: Vec<(DocId, Score)>,
    count: usize,
}

impl Survivors {
    fn new() -> Self {
        Self { documents: vec![(0, 0.0); WINDOW_DOCUMENTS as usize], count: 0 }
    }

    /// All of them.
    pub(super) fn documents_mut(&mut self) -> &mut [(DocId, Score)] {
        &mut self.documents[..self.count]
    }

    fn push(&mut self, document: (DocId, Score), is_left: bool) {
        self.documents[self.count] = document;
        self.count += usize::from(is_left);
    }

    /// Drops documents whose scores do not pass.
    pub(super) fn retain(&mut self, is_left: impl Fn(Score) -> bool) {
        let count = std::mem::take(&mut self.count);
        for index in 0..count {
            let (document, score) = self.documents[index];
            self.push((document, score), is_left(score));
        }
    }
}
