//! The pieces of a line of prose: candidates for steps, and the reasons for the cuts between them.

use std::ops::Range;

/// The reason for a cut before a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutReason {
    /// It is the first of its line.
    Begin,
    /// A sentence ended before it.
    Sentence,
    /// A semicolon.
    Semicolon,
    /// An arrow.
    Arrow,
    /// A dash.
    Dash,
    /// A connector, still at the beginning of the piece.
    Connector,
    /// A marker of an item with this number; 0 for a bullet.
    Item(u32),
    /// A check box, ticked or not.
    Box(bool),
}

/// A piece of a unit: a step, or a candidate for one.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Its place in the goal.
    pub(super) range: Range<usize>,
    /// The reason for the cut before it.
    pub(super) why: CutReason,
    /// It introduces the items after it on the same line.
    pub(super) intro: bool,
}
