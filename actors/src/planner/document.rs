//! A goal as a document: its leaves, its blocks, and what of it is visible.
//!
//! *Promises.* Leaves, blocks and inline code are in the goal's order.

use std::ops::Range;

/// The kind of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lines of text, including the marker if they begin a list item.
    Prose,
    /// A heading of this level, from 1.
    Heading(usize),
    /// Text between tags.
    Markup,
    /// A block of code or data.
    Block,
}

/// A stretch of the document that holds text and no other block.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// From its marker or first character to its last.
    pub(super) range: Range<usize>,
    /// Its kind.
    pub(super) kind: Kind,
}

/// A fence.
#[derive(Clone, Debug)]
pub(super) struct Fence {
    /// Its info string.
    pub(super) info: String,
    /// Its mark, a backtick or a tilde.
    pub(super) mark: u8,
    /// The number of marks that open it.
    pub(super) len: usize,
    /// It ends with a closing fence; otherwise with the document or its container.
    pub(super) closed: bool,
}

/// A block of code or data.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// From its first character, fences included, to its last.
    pub(super) range: Range<usize>,
    /// Its fence; `None` for indented code, tables and markup.
    pub(super) fence: Option<Fence>,
    /// Its content as defined by `CommonMark`: without container marks and the indentation of its
    /// fence.
    pub(super) content: String,
    /// The stretches of the content: offsets in the goal and in the content.
    pub(super) stretches: Vec<(usize, usize)>,
}

/// A goal as a document.
#[derive(Debug, Default)]
pub(super) struct GoalDocument {
    /// Its leaves.
    pub(super) leaves: Vec<Leaf>,
    /// Its blocks; each has a leaf.
    pub(super) blocks: Vec<Block>,
    /// Inline code, backticks included.
    pub(super) inlines: Vec<Range<usize>>,
    /// The visible prose, without container marks.
    pub(super) shown: Vec<Range<usize>>,
    /// Invisible parts within the visible prose.
    pub(super) hidden: Vec<Range<usize>>,
    /// The container marks before the lines of a block.
    pub(super) margins: Vec<Range<usize>>,
}

impl GoalDocument {
    /// `text` with a space for each invisible byte, a NUL for each container mark before a line of
    /// a block, and `\n` for each line break outside of `code`.
    pub(super) fn visible(&self, text: &str, code: impl Iterator<Item = Range<usize>>) -> String {
        let mut seen: Vec<u8> =
            text.bytes().map(|it| if matches!(it, b'\n' | b'\t') { it } else { b' ' }).collect();
        for range in &self.shown {
            seen[range.clone()].copy_from_slice(&text.as_bytes()[range.clone()]);
        }
        for range in &self.hidden {
            seen[range.clone()].fill(b' ');
        }
        for (at, mark) in text.match_indices(['\r', '\u{85}', '\u{2028}', '\u{2029}']) {
            seen[at..at + mark.len()].fill(b' ');
            seen[at + mark.len() - 1] = b'\n';
        }
        for range in code {
            seen[range.clone()].copy_from_slice(&text.as_bytes()[range]);
        }
        for range in &self.margins {
            seen[range.clone()].fill(0);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Makes `range` invisible.
    pub(super) fn hide(&mut self, range: Range<usize>) {
        let at = self.hidden.partition_point(|it| it.start < range.start);
        self.hidden.insert(at, range);
    }

    /// The start of the next invisible part at or after `at`.
    pub(super) fn next_hidden(&self, at: usize) -> Option<usize> {
        let next = self.hidden.partition_point(|range| range.end <= at);
        self.hidden.get(next).map(|range| range.start)
    }

    /// The leaf that holds the byte at `at`.
    pub(super) fn leaf_at(&self, at: usize) -> Option<&Leaf> {
        let next = self.leaves.partition_point(|leaf| leaf.range.end <= at);
        self.leaves.get(next).filter(|leaf| leaf.range.start <= at)
    }

    /// Whether the byte at `at` is in inline code or in an invisible part.
    pub(super) fn covers(&self, at: usize) -> bool {
        [&self.inlines, &self.hidden].into_iter().any(|ranges| {
            let next = ranges.partition_point(|range| range.end <= at);
            ranges.get(next).is_some_and(|range| range.start <= at)
        })
    }
}
