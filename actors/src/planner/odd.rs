//! Fenced code that is not valid `CommonMark`: the fence opens after text on its line, or closes
//! after the last line of code or before more text. Also comments that open after text and close in
//! another block.
//!
//! *Promises.* A fence that `CommonMark` closes is closed there: other readings are tried only for
//! one that it leaves open.
//!
//! *Limits.* [`CANDIDATES_MAX`].

use std::ops::Range;

use ai_factory_schemas::plan::Code;

use super::{
    document::{Block, Fence, GoalDocument, Kind},
    language::{self, InfoString},
    lexer,
    program::{dedent, program},
    python,
};

/// Doubtful fences tried per paragraph or block; each costs a parse.
const CANDIDATES_MAX: usize = 4;
/// The deepest indentation of a fence, in columns.
const INDENT_MAX: usize = 3;

/// A stretch of the goal that was intended as Markdown and is not.
#[derive(Clone, Debug)]
pub(super) enum Odd {
    /// A block of code or data.
    Block(Range<usize>, Option<Code>),
    /// A comment.
    Comment(Range<usize>),
}

impl Odd {
    /// Its place.
    pub(super) fn range(&self) -> Range<usize> {
        match self {
            Self::Block(range, _) | Self::Comment(range) => range.clone(),
        }
    }
}

/// The first odd form in `text`, whose document is `page`.
pub(super) fn first(text: &str, page: &GoalDocument) -> Option<Odd> {
    let mut blocks = page.blocks.iter();
    let last_comment_end = text.rfind("-->").unwrap_or(0);
    for leaf in &page.leaves {
        let found = match leaf.kind {
            Kind::Block => blocks.next().and_then(|block| closed_oddly(text, block)),
            Kind::Markup => None,
            Kind::Prose | Kind::Heading(_) => {
                let next = page.blocks.len() - blocks.len();
                comment(text, page, &leaf.range, last_comment_end)
                    .or_else(|| opened_oddly(text, page, &leaf.range, &page.blocks[next..]))
            }
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A comment that opens in `leaf` and closes after it.
fn comment(text: &str, page: &GoalDocument, leaf: &Range<usize>, last_end: usize) -> Option<Odd> {
    let start = leaf.start + text[leaf.clone()].rfind("<!--")?;
    if start > last_end || page.covers(start) || text[..start].ends_with('\\') {
        return None;
    }
    let end = start + text[start..].find("-->")? + "-->".len();
    Some(Odd::Comment(start..end))
}

/// A run of at least three backticks or tildes.
struct FenceRun {
    start: usize,
    end: usize,
    mark: u8,
}

/// The runs in `text`, which begins at `offset`.
fn runs(text: &str, offset: usize) -> impl Iterator<Item = FenceRun> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += bytes[at..].iter().position(|byte| matches!(byte, b'`' | b'~'))?;
            let (start, mark) = (at, bytes[at]);
            at += bytes[at..].iter().take_while(|byte| **byte == mark).count();
            if at - start >= 3 {
                return Some(FenceRun { start: offset + start, end: offset + at, mark });
            }
        }
    })
}

/// A fence that opens after text in the paragraph at `leaf`. `CommonMark` reads its closing fence
/// as an opening one: that of the first of `blocks`.
fn opened_oddly(
    text: &str,
    page: &GoalDocument,
    leaf: &Range<usize>,
    blocks: &[Block],
) -> Option<Odd> {
    let dangling = runs(&text[leaf.clone()], leaf.start).filter(|run| !page.covers(run.start));
    dangling.take(CANDIDATES_MAX).find_map(|run| {
        let line_end = text[run.end..].find('\n').map_or(text.len(), |found| run.end + found);
        let info = &text[run.end..line_end];
        let is_named = names_program(info);
        let Some(block) = blocks.first() else {
            // Never closed: only a certain Python program counts.
            let (info, body) = match text[line_end..].trim() {
                "" => info.trim().split_once(char::is_whitespace)?,
                _ => (info, &text[line_end + 1..]),
            };
            let body = dedent(&unquoted(text, run.start, body));
            let code = program(info, &body).filter(|code| language::is_python(&code.language));
            let code = code.filter(|code| is_named && python::is_program(&code.source))?;
            return Some(Odd::Block(run.start..text.trim_end().len(), Some(code)));
        };
        if !is_named && info.split_whitespace().nth(1).is_some() {
            return None;
        }
        let fence = block.fence.as_ref()?;
        let closes = fence.mark == run.mark && fence.len >= run.end - run.start;
        let start = block.range.start;
        if !closes
            || start < line_end
            || !(is_closing(text, start + fence.len) && !fence.closed || is_pair(block, fence))
        {
            return None;
        }
        let body_end = text[..start].rfind('\n').map_or(0, |found| found + 1);
        let body = text.get(line_end + 1..body_end).unwrap_or_default();
        let body = dedent(&unquoted(text, run.start, body));
        Some(Odd::Block(run.start..start + fence.len, program(info, &body)))
    })
}

/// Whether a closed `fence` without a word ends one block and, after text, begins the next:
/// `CommonMark` would read the prose between them as its content.
fn is_pair(block: &Block, fence: &Fence) -> bool {
    let last = runs(&block.content, 0).last();
    let odd = last.filter(|run| !line_before(&block.content, run.start).trim().is_empty());
    fence.closed
        && fence.info.is_empty()
        && odd.is_some_and(|run| {
            let info = block.content[run.end..].lines().next().unwrap_or_default();
            run.mark == fence.mark && names_program(info) && info.split_whitespace().count() == 1
        })
        && !python::is_program(&block.content)
}

/// An open fence with a closing one that `CommonMark` does not see: after the last line of code or
/// before more text, if the code is complete; or on the line of the opening fence.
fn closed_oddly(text: &str, block: &Block) -> Option<Odd> {
    let fence = block.fence.as_ref().filter(|fence| !fence.closed)?;
    let info = &fence.info;
    let first = block.range.start + fence.len;
    let line_end = text[first..].find('\n').map(|len| first + len);
    if let Some(line_end) = line_end
        && let Some(run) =
            runs(&text[first..line_end], first).filter(|it| it.mark == fence.mark).last()
    {
        let (word, source) = text[first..run.start].trim().split_once(char::is_whitespace)?;
        let is_end = text[run.end..line_end].trim().is_empty() && names_program(word);
        return is_end.then(|| Odd::Block(block.range.start..run.end, program(word, source)));
    }
    let mut candidates = 0;
    for run in runs(&block.content, 0) {
        let len = run.end - run.start;
        if run.mark != fence.mark || len < fence.len || !is_closing(&block.content, run.end) {
            continue;
        }
        let before = line_before(&block.content, run.start);
        let alone = before.trim().is_empty();
        let after = block.content[run.end..].chars().next();
        let fits = if alone {
            // With this indentation, or with nothing after it, `CommonMark` has judged it.
            let rest = block.content[run.end..].lines().next().unwrap_or_default();
            before.len() <= INDENT_MAX && !rest.trim().is_empty()
        } else {
            len == fence.len && after.is_none_or(|c| c.is_whitespace() || ".,;:!?".contains(c))
        };
        if !fits || candidates == CANDIDATES_MAX {
            continue;
        }
        candidates += 1;
        let end = if alone { run.start - before.len() } else { run.start };
        let body = &block.content[..end];
        let is_whole = match language::read_info(info) {
            InfoString::Program(language) if language::is_python(&language) => {
                python::is_program(body)
            }
            InfoString::Program(language) => lexer::is_closed(body, &language),
            InfoString::Silent => alone || python::is_program(body),
            InfoString::Text | InfoString::Prompts(_) => true,
        };
        if is_whole && !body.trim().is_empty() {
            // Stretches are in order, in the goal and in the content.
            let next = block.stretches.partition_point(|(_, at)| *at <= run.start);
            let (start, at) = block.stretches.get(next.checked_sub(1)?)?;
            let end = start + (run.end - at);
            return Some(Odd::Block(block.range.start..end, program(info, body)));
        }
    }
    None
}

/// Whether a fence that ends at `end` may close: a word directly after it belongs to an opening
/// fence.
fn is_closing(text: &str, end: usize) -> bool {
    let after = text[end..].chars().next();
    after.is_none_or(|c| {
        c.is_whitespace() || !(c.is_alphanumeric() || matches!(c, '{' | '\'' | '"'))
    })
}

fn names_program(info: &str) -> bool {
    let word = info.split_whitespace().next().unwrap_or_default().to_lowercase();
    language::is_program(&word)
}

/// The text before `at` on its line.
fn line_before(text: &str, at: usize) -> &str {
    &text[text[..at].rfind('\n').map_or(0, |found| found + 1)..at]
}

/// `body` without quote marks, if the line of `at` has some.
fn unquoted(text: &str, at: usize, body: &str) -> String {
    if !line_before(text, at).trim_start().starts_with('>') {
        return body.to_owned();
    }
    body.split_inclusive('\n')
        .map(|line| {
            let mut rest = line;
            while let Some(inner) = rest.trim_start_matches([' ', '\t']).strip_prefix('>') {
                rest = inner;
            }
            if rest.len() < line.len() { rest.strip_prefix(' ').unwrap_or(rest) } else { rest }
        })
        .collect()
}
