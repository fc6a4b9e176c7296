//! Reads a goal as a Markdown document: prose, blocks of code or data, and invisible parts.
//! `CommonMark` 0.31 and GitHub's tables, parsed by `pulldown-cmark`.
//!
//! *Promises.* Each letter and digit of the goal is in a leaf, except for comments, tags, front
//! matter and link addresses.
//!
//! *Limits.* [`NESTING_MAX`].
//!
//! *Not here.* Forms that are not Markdown (`odd`), and the meaning of a line of prose (`outline`).

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::{
    document::{Block, Fence, GoalDocument, Kind, Leaf},
    html,
};

/// The most list and quote marks before the text of one line; the parser's time grows with their
/// number times that of the lines below. Marks beyond it are text.
const NESTING_MAX: usize = 64;

/// Reads `text`; `parsed` is the same text, byte for byte, with everything masked that is not
/// Markdown.
pub(super) fn read(text: &str, parsed: &str) -> GoalDocument {
    let front = front_matter(parsed);
    let shallow = shallow(parsed, front);
    let mut reader = BlockReader::new(text, front);
    for (event, range) in
        Parser::new_ext(&shallow, Options::ENABLE_TABLES | Options::ENABLE_GFM).into_offset_iter()
    {
        reader.event(event, range);
    }
    reader.finish()
}

/// The length in bytes of the front matter (YAML or TOML) of `text`; text between two rules is
/// none.
fn front_matter(text: &str) -> usize {
    let options = Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    if !text.starts_with("---") && !text.starts_with("+++") {
        return 0;
    }
    let mut events = Parser::new_ext(text, options).into_offset_iter();
    let Some((Event::Start(Tag::MetadataBlock(_)), range)) = events.next() else { return 0 };
    let mut has_key = false;
    let is_data = text[range.clone()].lines().all(|line| {
        let key = line.split([':', '=']).next().unwrap_or_default().trim_end();
        let is_key = key.len() < line.trim_end().len()
            && key
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\''));
        has_key |= is_key;
        is_key || line.trim().is_empty() || line.starts_with(['#', ' ', '\t', '-', '+', '[', '.'])
    });
    if is_data && has_key { range.end } else { 0 }
}

/// `text` without its first `front` bytes and without container marks beyond [`NESTING_MAX`].
fn shallow(text: &str, front: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[..front].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    let mut marks = 0;
    let mut leads = true;
    for byte in &mut bytes {
        match *byte {
            b'\n' => (marks, leads) = (0, true),
            b'>' | b'-' | b'*' | b'+' | b'.' | b')' if leads => {
                marks += 1;
                if marks > NESTING_MAX {
                    *byte = b'x';
                }
            }
            b' ' | b'\t' | b'0'..=b'9' => {}
            _ => leads = false,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A leaf that may still grow.
struct Open {
    start: usize,
    end: usize,
    kind: Kind,
    /// The start of its current line.
    line: Option<usize>,
}

struct BlockReader<'a> {
    text: &'a str,
    page: GoalDocument,
    /// The start of the item that has no leaf yet.
    item: Option<usize>,
    open: Option<Open>,
    block: Option<Block>,
    /// The block is code; its text events are its content.
    in_code: bool,
    /// Lines without a bar that the parser counts as part of a table.
    behind_table: Option<Range<usize>>,
    /// Ranges already handled.
    done: Vec<Range<usize>>,
}

impl<'a> BlockReader<'a> {
    fn new(text: &'a str, front: usize) -> Self {
        let done = std::iter::once(0..front).collect();
        let page = GoalDocument::default();
        let (item, open, block, behind_table) = (None, None, None, None);
        Self { text, page, item, open, block, in_code: false, behind_table, done }
    }

    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(Tag::Item) => self.begin_item(range.start),
            Event::Start(Tag::Heading { level, .. }) => {
                self.close();
                self.begin(range.start, self.heading(level, &range));
            }
            Event::Start(Tag::CodeBlock(kind)) => self.begin_block(range, Some(kind)),
            Event::Start(Tag::Table(_)) => self.begin_block(range, None),
            Event::Start(Tag::TableHead | Tag::TableRow) => self.row(&range),
            Event::Start(Tag::HtmlBlock) => self.html(&range),
            Event::End(TagEnd::CodeBlock | TagEnd::Table) => self.end_block(),
            Event::End(TagEnd::Item) => {
                self.close();
                self.item = None;
            }
            Event::Start(Tag::Paragraph | Tag::BlockQuote(_) | Tag::List(_))
            | Event::End(TagEnd::Paragraph | TagEnd::Heading(_))
            | Event::Rule => self.close(),
            Event::Text(text) if self.in_code => self.content(&text, &range),
            Event::Html(_) | Event::End(_) => {}
            _ if self.block.is_some() => {}
            Event::SoftBreak | Event::HardBreak => self.end_line(range.start),
            Event::Code(_) => {
                self.inline(&range);
                self.page.inlines.push(range);
            }
            Event::InlineHtml(html) => {
                self.inline(&range);
                if html.starts_with("<!") || html.starts_with("<?") {
                    self.page.hidden.push(range);
                }
            }
            _ => self.inline(&range),
        }
    }

    fn begin_item(&mut self, start: usize) {
        self.close();
        let start = self.text.len() - self.text[start..].trim_start().len();
        let marker = self.text[start..].find(char::is_whitespace);
        self.page.shown.push(start..marker.map_or(self.text.len(), |len| start + len));
        // `- 1. first` is one line with two markers.
        let outer = self.item.filter(|outer| !self.text[*outer..start].contains('\n'));
        self.item = Some(outer.unwrap_or(start));
    }

    /// The kind of a heading: several lines, or a sentence, above a rule of dashes are text.
    fn heading(&self, level: HeadingLevel, range: &Range<usize>) -> Kind {
        let source = self.text[range.clone()].trim_end();
        let (title, line) = source.rsplit_once('\n').unwrap_or((source, ""));
        let is_text = title.contains('\n') || title.trim_end().ends_with(['.', '!', '?', ';', ',']);
        if !source.starts_with('#') && line.ends_with('-') && is_text {
            Kind::Prose
        } else {
            Kind::Heading(level as usize)
        }
    }

    fn begin(&mut self, start: usize, kind: Kind) {
        let start = self.item.take().unwrap_or(start);
        self.open = Some(Open { start, end: start, kind, line: None });
    }

    fn inline(&mut self, range: &Range<usize>) {
        // The parser omits the backslash of an escape.
        let start = range.start - usize::from(self.text[..range.start].ends_with('\\'));
        if self.open.is_none() {
            self.begin(start, Kind::Prose);
        }
        if let Some(open) = &mut self.open {
            open.line.get_or_insert(start);
            open.end = open.end.max(range.end);
        }
    }

    fn end_line(&mut self, end: usize) {
        if let Some(start) = self.open.as_mut().and_then(|open| open.line.take()) {
            self.page.shown.push(start..end.max(start));
        }
    }

    /// Ends the open leaf.
    fn close(&mut self) {
        let Some(end) = self.open.as_ref().map(|open| open.end) else { return };
        self.end_line(end);
        if let Some(open) = self.open.take() {
            self.leaf(open.start..end, open.kind);
        }
    }

    fn leaf(&mut self, range: Range<usize>, kind: Kind) {
        if !range.is_empty() {
            self.done.push(range.clone());
            self.page.leaves.push(Leaf { range, kind });
        }
    }

    fn begin_block(&mut self, range: Range<usize>, kind: Option<CodeBlockKind<'_>>) {
        self.close();
        let marks = &self.text.as_bytes()[range.clone()];
        let mark = marks.first().copied().unwrap_or_default();
        self.in_code = kind.is_some();
        let fence = match kind {
            Some(CodeBlockKind::Fenced(info)) => Some(Fence {
                info: info.into_string(),
                mark,
                len: marks.iter().take_while(|byte| **byte == mark).count(),
                closed: false,
            }),
            _ => None,
        };
        self.block = Some(Block { range, fence, content: String::new(), stretches: Vec::new() });
    }

    fn content(&mut self, text: &str, range: &Range<usize>) {
        let Some(block) = &mut self.block else { return };
        let line = line_start(self.text, range.start);
        if line > block.range.start && !range.is_empty() {
            self.page.margins.push(line..range.start);
        }
        block.stretches.push((range.start, block.content.len()));
        // The source replaces what was masked for the parser; spaces of a split tab have no place
        // in it.
        let source = &self.text[range.clone()];
        block.content.push_str(if source.len() == text.len() { source } else { text });
    }

    /// A row of a table; from the first one without a bar on, lines are prose.
    fn row(&mut self, range: &Range<usize>) {
        let Some(block) = &mut self.block else { return };
        let row = self.text[range.clone()].trim_end();
        let end = range.start + row.len();
        match &mut self.behind_table {
            Some(behind) => behind.end = end,
            None if row.contains('|') => return,
            None => {
                block.range.end = block.range.start
                    + self.text[block.range.start..range.start].trim_end_matches(BLANKS).len();
                self.behind_table = Some(range.start..end);
            }
        }
        self.page.shown.push(range.start..end);
    }

    fn end_block(&mut self) {
        let Some(mut block) = self.block.take() else { return };
        let (start, end) = (block.range.start, block.range.end);
        let text = &self.text[start..end];
        let len = if let Some(fence) = &mut block.fence {
            let content = block.stretches.last().map_or_else(
                || start + text.find('\n').unwrap_or(text.len()),
                |(at, before)| at + block.content.len() - before,
            );
            // After the content of a closed fence there is only its closing fence.
            let closer = self.text[content.min(end)..end].find(char::from(fence.mark));
            if let Some(closer) = closer.map(|closer| content + closer) {
                fence.closed = true;
                self.page.margins.push(line_start(self.text, closer)..closer);
            }
            text.trim_end().len()
        } else {
            text.trim_end_matches(BLANKS).len()
        };
        block.range.end = start + len.max(1);
        if !self.in_code {
            self.margins(&block.range);
        }
        self.in_code = false;
        let outer = self.item.take().unwrap_or(start);
        self.leaf(outer..block.range.end, Kind::Block);
        self.page.blocks.push(block);
        if let Some(behind) = self.behind_table.take() {
            self.leaf(behind, Kind::Prose);
        }
    }

    /// The marks before the lines of a table or of markup, for whose content there are no events.
    fn margins(&mut self, range: &Range<usize>) {
        let block = &self.text[range.clone()];
        let starts = block.match_indices('\n').map(|(at, _)| at + 1);
        self.page.margins.extend(starts.map(|at| {
            let line = &block[at..];
            let lead = line.len() - line.trim_start_matches([' ', '\t', '>']).len();
            range.start + at..range.start + at + lead
        }));
    }

    /// A block of markup: data in `<pre>` and similar elements, otherwise lines of text between
    /// tags.
    fn html(&mut self, range: &Range<usize>) {
        self.close();
        let source = self.text[range.clone()].trim_end();
        let range = range.start..range.start + source.len();
        if html::is_data(source) {
            self.begin_block(range, None);
            return self.end_block();
        }
        let marks = html::marks(source, range.start);
        let mut at = range.start;
        for line in source.split_inclusive('\n') {
            let lead = line.len() - line.trim_start_matches([' ', '\t', '>']).len();
            let shown = at + lead..(at + line.trim_end().len()).max(at + lead);
            let marks = html::within(&marks, &shown);
            // A line of tags alone, or of text between tags, is shown without the tags.
            let bare = line.contains("</") || !html::has_words(self.text, &shown, marks);
            let hidden = marks.iter().filter(|mark| bare || !mark.is_tag);
            self.page.hidden.extend(hidden.map(|mark| mark.range.clone()));
            self.page.shown.push(shown);
            at += line.len();
        }
        let start = self.item.take().unwrap_or(range.start);
        self.leaf(start..range.end, Kind::Markup);
    }

    /// Ends the document: text without events is link definitions, or looks like them.
    fn finish(mut self) -> GoalDocument {
        self.close();
        let end = self.text.len();
        let mut from = 0;
        for done in std::mem::take(&mut self.done).into_iter().chain(std::iter::once(end..end)) {
            if done.start > from {
                self.add_uncovered(from..done.start);
            }
            from = from.max(done.end);
        }
        self.page.leaves.sort_by_key(|leaf| leaf.range.start);
        self.page.hidden.sort_by_key(|range| range.start);
        self.page
    }

    fn add_uncovered(&mut self, range: Range<usize>) {
        let rest = &self.text[range.clone()];
        if !rest.contains(char::is_alphanumeric) || defines_a_link(rest) {
            return;
        }
        let mut at = range.start;
        for line in rest.split_inclusive('\n') {
            let lead = line.len() - line.trim_start_matches([' ', '\t', '>']).len();
            // `[!NOTE]` names the kind of a quote.
            if line.contains(char::is_alphanumeric) && !line[lead..].starts_with("[!") {
                let shown = at + lead..at + line.trim_end().len();
                self.page.shown.push(shown.clone());
                self.leaf(shown, Kind::Prose);
            }
            at += line.len();
        }
    }
}

/// White space and quote marks, which may precede the first line after a block.
const BLANKS: [char; 4] = [' ', '\t', '\n', '>'];

/// The start of the line of `at`.
fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |found| found + 1)
}

/// Whether `text` begins with `[label]: address`; `[x]: done` is a line of text.
fn defines_a_link(text: &str) -> bool {
    let text = text.trim_start_matches(BLANKS);
    let address = text.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
    let address = address.and_then(|(_, rest)| rest.split_whitespace().next());
    address.is_some_and(|it| it.contains(['/', '.', '#', '@', '<', ':']))
}
