//! Fenced blocks, by `CommonMark`'s rule for them at the top level of a text.
//!
//! A fence is three or more backticks or tildes, indented by at most three spaces. A block is
//! closed by a fence of the same character that is at least as long and has nothing behind it, or
//! by the end of the text.

/// The beginning of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FenceMark {
    character: char,
    length: usize,
    indent: usize,
}

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FencedBlock {
    /// Where it begins, in bytes.
    pub(crate) start: usize,
    /// Its info string.
    pub(crate) info: String,
    /// What is in it; every line ends with LF.
    pub(crate) content: String,
}

/// The run of fence characters that a line begins with, and what is behind it.
fn run(line: &str) -> Option<(FenceMark, &str)> {
    let rest = line.trim_start_matches(' ');
    let indent = line.len() - rest.len();
    let character = rest.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let behind = rest.trim_start_matches(character);
    let length = rest.len() - behind.len();
    (indent <= 3 && length >= 3).then_some((FenceMark { character, length, indent }, behind))
}

impl FenceMark {
    /// The fence that a line opens, with its info string.
    pub(crate) fn opened_by(line: &str) -> Option<(Self, &str)> {
        let (fence, info) = run(line)?;
        let is_code_span = fence.character == '`' && info.contains('`');
        (!is_code_span).then_some((fence, info.trim()))
    }

    /// Whether a line closes the block.
    pub(crate) fn is_closed_by(self, line: &str) -> bool {
        run(line).is_some_and(|(fence, behind)| {
            fence.character == self.character
                && fence.length >= self.length
                && behind.trim_matches([' ', '\t']).is_empty()
        })
    }

    /// A line of the block without the indentation of its fence.
    fn inside(self, line: &str) -> &str {
        let spaces = line.len() - line.trim_start_matches(' ').len();
        &line[spaces.min(self.indent)..]
    }
}

/// Whether a line that is not complete may become a fence.
pub(crate) fn may_become_fence(line: &str) -> bool {
    let rest = line.trim_start_matches(' ');
    line.len() - rest.len() <= 3
        && (rest.is_empty() || rest.starts_with('`') || rest.starts_with('~'))
}

/// A fence around a text: longer than every one within it.
pub(crate) fn fence_around(text: &str) -> String {
    let longest = text.lines().filter_map(|line| run(line).map(|(fence, _)| fence.length)).max();
    "`".repeat(longest.map_or(3, |longest| longest + 1))
}

/// The blocks of a text.
pub(crate) fn blocks(text: &str) -> Vec<FencedBlock> {
    let mut found: Vec<FencedBlock> = Vec::new();
    let mut open: Option<FenceMark> = None;
    let mut start = 0;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches('\n').trim_end_matches('\r');
        match (open, found.last_mut()) {
            (Some(fence), Some(_)) if fence.is_closed_by(line) => open = None,
            (Some(fence), Some(block)) => {
                block.content.push_str(fence.inside(line));
                block.content.push('\n');
            }
            _ => {
                if let Some((fence, info)) = FenceMark::opened_by(line) {
                    open = Some(fence);
                    let (info, content) = (info.to_owned(), String::new());
                    found.push(FencedBlock { start, info, content });
                }
            }
        }
        start += whole.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(text: &str) -> Vec<(String, String)> {
        blocks(text).into_iter().map(|block| (block.info, block.content)).collect()
    }

    fn one(info: &str, content: &str) -> Vec<(String, String)> {
        vec![(info.to_owned(), content.to_owned())]
    }

    #[test]
    fn a_block_ends_where_commonmark_says() {
        assert_eq!(contents("a\n```py\nx\n```\nb"), one("py", "x\n"));
        assert_eq!(contents("````\n```\nx\n```\n````\n"), one("", "```\nx\n```\n"));
        assert_eq!(contents("```\n~~~\n``` x\n````\n"), one("", "~~~\n``` x\n"));
        assert_eq!(contents("~~~ a`b\nx\n~~~~  \n"), one("a`b", "x\n"));
        assert_eq!(contents("```\nnever closed"), one("", "never closed\n"));
        assert_eq!(contents("  ```\n  a\n b\n    c\n  ```"), one("", "a\nb\n  c\n"));
        assert_eq!(contents("```\r\na\r\n```\r\n"), one("", "a\n"));
        assert_eq!(contents("    ```\nx"), []);
        assert_eq!(contents("``` a`b\nx"), []);
        assert_eq!(contents("``x``"), []);
    }

    #[test]
    fn a_fence_around_a_text_is_longer_than_those_within() {
        for text in ["x", "```", "a\n````` b\n```\n", "~~~~"] {
            let fence = fence_around(text);
            assert_eq!(contents(&format!("{fence}\n{text}\n{fence}\n")).len(), 1, "{text}");
        }
    }
}
