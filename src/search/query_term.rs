//! A term of a query, with its weight and its posting lists.

use tantivy::postings::TermInfo;

use super::bm25::Weight;

/// A term of a query.
pub(crate) struct QueryTerm {
    /// The term.
    pub(crate) text: String,
    /// Its weight.
    pub(crate) weight: Weight,
    /// Its posting list in each segment, newest segment first.
    pub(crate) lists: Vec<Option<TermInfo>>,
}
