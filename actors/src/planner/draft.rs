//! From the units of a goal to its steps, each with its reason.
//!
//! *Promises.* Steps are in the goal's order. Headings and lines that only introduce a list become
//! part of the reason of the steps below them; without steps below, they are steps themselves. A
//! connector removed from an action is quoted in the reason, so no word of the goal is lost.

use std::{fmt::Write as _, ops::Range};

use ai_factory_schemas::plan::{Code, Step};

use super::{
    action::{self, Surroundings, Wording},
    code::{CodeForm, CodeSpan},
    language,
    mask::ByteMask,
    outline::{LineKind, Unit},
    piece::{CutReason, Piece},
    split, word,
};

/// How much of a heading is repeated after its first mention, in characters.
const MENTION_CHARS_MAX: usize = 60;

/// How many headings and list parents of a step are repeated, from the innermost outwards.
const MENTIONS_MAX: usize = 3;

/// A step without its number.
#[derive(Debug)]
pub(super) struct StepDraft {
    action: String,
    code: Option<Code>,
    why: CutReason,
    unit: Origin,
    wording: Wording,
    contexts: Vec<String>,
}

impl StepDraft {
    /// The step with its number; `first` is the number of the goal's own first step.
    pub(super) fn into_step(self, index: u32, first: u32, alone: bool) -> Step {
        let rationale = self.reason(index, first, alone);
        Step { index, action: self.action, rationale, code: self.code }
    }

    fn reason(&self, index: u32, first: u32, alone: bool) -> String {
        let Wording { lead, tail, last, .. } = &self.wording;
        let mut reason = match (self.unit, self.why) {
            (Origin::Box(true), _) | (_, CutReason::Box(true)) => {
                "Ticked off in the goal's checklist; kept so that it can be checked.".to_owned()
            }
            (Origin::Box(false), _) | (_, CutReason::Box(false)) => {
                "An open item of the goal's checklist.".to_owned()
            }
            (_, CutReason::Item(number)) | (Origin::Item(number), CutReason::Begin)
                if number > 0 =>
            {
                format!("Item {number} of the goal's list.")
            }
            (_, CutReason::Item(_)) | (Origin::Item(_), CutReason::Begin) => {
                "An item of the goal's list.".to_owned()
            }
            _ if alone => "The goal is this one step.".to_owned(),
            _ if *last => "Comes last.".to_owned(),
            _ if index == first => "The goal begins with it.".to_owned(),
            (_, CutReason::Connector) => format!("Follows step {}.", index - 1),
            (_, CutReason::Arrow) => {
                format!("The goal's arrow leads here from step {}.", index - 1)
            }
            (_, CutReason::Dash | CutReason::Semicolon) => {
                format!("Listed in the goal behind step {}.", index - 1)
            }
            (_, CutReason::Sentence) => format!("The goal asks for it after step {}.", index - 1),
            (_, CutReason::Begin) => {
                format!("Stands on a line of its own behind step {}.", index - 1)
            }
        };
        if !lead.is_empty() {
            let _ = write!(reason, " The goal says “{lead}”.");
        }
        if !tail.is_empty() {
            let _ = write!(reason, " The goal goes on with “{tail}”.");
        }
        if !self.contexts.is_empty() {
            let _ = write!(reason, " Part of “{}”.", self.contexts.join("” in “"));
        }
        if let Some(code) = &self.code {
            let language = language::display(&code.language);
            let _ = write!(reason, " Carries the goal's {language} code.");
        }
        reason
    }
}

/// The kind of line that a step comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Line,
    Item(u32),
    Box(bool),
}

/// A heading or an introduction in force.
struct HeadingInForce {
    depth: HeadingDepth,
    text: String,
    used: bool,
}

/// The scope of a context.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeadingDepth {
    /// To the next heading of its level.
    Heading(usize),
    /// To the next line of prose after its list.
    Intro,
    /// To the next item with no more indentation.
    Item(usize),
    /// To the end of its line.
    Line,
}

/// The steps of a goal, in order.
pub(super) fn drafts(
    text: &str,
    mask: &ByteMask,
    code: &[CodeSpan],
    units: &[Unit],
) -> Vec<StepDraft> {
    let mut author = Author {
        text,
        mask,
        code,
        sequence: says_sequence(text),
        drafts: Vec::new(),
        contexts: Vec::new(),
        in_list: false,
    };
    for (at, unit) in units.iter().enumerate() {
        author.unit(unit, at > 0);
    }
    author.leave(|_| true);
    author.drafts
}

/// Whether the goal numbers its steps in words, so that `first` is one of them.
fn says_sequence(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| {
        ["then", "second", "secondly", "next", "finally", "lastly", "afterwards"]
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known))
    })
}

struct Author<'a> {
    text: &'a str,
    mask: &'a ByteMask,
    code: &'a [CodeSpan],
    sequence: bool,
    drafts: Vec<StepDraft>,
    contexts: Vec<HeadingInForce>,
    in_list: bool,
}

impl Author<'_> {
    fn unit(&mut self, unit: &Unit, after_other: bool) {
        let spans = self.spans(&unit.range);
        let (origin, marker) = match unit.block {
            LineKind::Heading(level) if spans.iter().all(|span| span.code.is_none()) => {
                self.leave(|heading| !matches!(heading.depth, HeadingDepth::Heading(outer) if outer < level));
                let text = action::collapse(self.text, self.mask, unit.range.clone());
                self.contexts.push(HeadingInForce {
                    depth: HeadingDepth::Heading(level),
                    text,
                    used: false,
                });
                self.in_list = false;
                return;
            }
            LineKind::Heading(_) | LineKind::Prose => {
                let leaves_list = self.in_list || unit.gap;
                self.leave(|heading| match heading.depth {
                    HeadingDepth::Item(_) => true,
                    // A blank line may separate an introduction from its list.
                    HeadingDepth::Intro => leaves_list && heading.used,
                    _ => false,
                });
                (Origin::Line, None)
            }
            LineKind::Item { marker, done } => {
                self.leave(|heading| matches!(heading.depth, HeadingDepth::Item(column) if column >= unit.column));
                let number = marker.map_or(0, |marker| marker.value);
                (done.map_or(Origin::Item(number), Origin::Box), marker)
            }
        };
        if unit.block == LineKind::Prose
            && self.is_text_block(&unit.range)
            && self.extend_last(&unit.range)
        {
            return;
        }
        self.in_list = matches!(unit.block, LineKind::Item { .. });
        let pieces = split::pieces(self.text, self.mask, unit.range.clone(), marker);
        let count = pieces.len();
        for (at, piece) in pieces.into_iter().enumerate() {
            let around = Surroundings {
                after_other: after_other || at > 0,
                before_other: at + 1 < count,
                sequence: self.sequence,
            };
            let is_last = at + 1 == count;
            if piece.intro || is_last && unit.intro {
                let depth = match unit.block {
                    _ if piece.intro => HeadingDepth::Line,
                    LineKind::Item { .. } => HeadingDepth::Item(unit.column),
                    _ => HeadingDepth::Intro,
                };
                self.leave(|heading| {
                    heading.depth == HeadingDepth::Intro && depth == HeadingDepth::Intro
                });
                self.introduce(piece, depth, around);
            } else {
                self.piece(&piece, origin, around);
            }
        }
        self.leave(|heading| heading.depth == HeadingDepth::Line);
    }

    /// The code spans in `range`.
    fn spans(&self, range: &Range<usize>) -> &[CodeSpan] {
        let from = self.code.partition_point(|span| span.range.start < range.start);
        let to = self.code.partition_point(|span| span.range.start < range.end);
        &self.code[from..to.max(from)]
    }

    /// Whether `range` is a single block that stays text.
    fn is_text_block(&self, range: &Range<usize>) -> bool {
        matches!(self.spans(range), [span] if span.form == CodeForm::Block && span.code.is_none()
            && span.range.start == range.start && span.range.end == range.end)
    }

    /// Appends a block of text to the step before it.
    fn extend_last(&mut self, range: &Range<usize>) -> bool {
        if self.contexts.last().is_some_and(|context| !context.used) {
            return false;
        }
        let Some(last) = self.drafts.last_mut() else { return false };
        last.action.push('\n');
        last.action.push_str(&action::collapse(self.text, self.mask, range.clone()));
        true
    }

    fn introduce(&mut self, piece: Piece, depth: HeadingDepth, around: Surroundings) {
        let wording = action::wording(self.text, self.mask, piece.range, around);
        let Wording { lead, action, tail, .. } = wording;
        let text = [lead, action, tail]
            .into_iter()
            .filter(|heading| !heading.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        self.contexts.push(HeadingInForce { depth, text, used: false });
    }

    /// Ends the contexts that `ends` selects; those without steps below them become steps.
    fn leave(&mut self, ends: impl Fn(&HeadingInForce) -> bool) {
        let mut kept = Vec::new();
        for context in std::mem::take(&mut self.contexts) {
            if !ends(&context) {
                kept.push(context);
            } else if !context.used && context.text.contains(char::is_alphanumeric) {
                let wording = Wording { action: context.text, ..Wording::default() };
                self.drafts.push(StepDraft {
                    action: wording.action.clone(),
                    code: None,
                    why: CutReason::Begin,
                    unit: Origin::Line,
                    wording,
                    contexts: Vec::new(),
                });
            }
        }
        self.contexts = kept;
    }

    fn piece(&mut self, piece: &Piece, origin: Origin, around: Surroundings) {
        let spans: Vec<CodeSpan> =
            self.spans(&piece.range).iter().filter(|span| span.code.is_some()).cloned().collect();
        let mut at = piece.range.start;
        let mut why = piece.why;
        let mut may_attach =
            origin == Origin::Line && !matches!(why, CutReason::Item(_) | CutReason::Box(_));
        let mut behind: Option<&CodeSpan> = None;
        for span in &spans {
            let around = Surroundings {
                after_other: around.after_other || behind.is_some(),
                before_other: true,
                ..around
            };
            let wording = action::wording(self.text, self.mask, at..span.range.start, around);
            self.attach(wording, span, why, origin, may_attach);
            (at, why, may_attach, behind) =
                (span.range.end.min(piece.range.end), CutReason::Begin, false, Some(span));
        }
        let Some(span) = behind else {
            let wording = action::wording(self.text, self.mask, piece.range.clone(), around);
            self.push(wording, None, why, origin);
            return;
        };
        let around = Surroundings { after_other: true, ..around };
        let wording = action::wording(self.text, self.mask, at..piece.range.end, around);
        if wording.action.contains(char::is_alphanumeric) {
            self.add_trailing_text(wording, span, origin);
        }
    }

    /// Text after code in the same piece: a step of its own, unless it completes the code's
    /// sentence.
    fn add_trailing_text(&mut self, wording: Wording, span: &CodeSpan, origin: Origin) {
        let first = wording.action.split_whitespace().next().unwrap_or_default().to_lowercase();
        let completes = wording.lead.is_empty()
            && (span.form == CodeForm::Inline || word::is_preposition(&first));
        match self.drafts.last_mut() {
            Some(last) if completes => {
                if span.form == CodeForm::Inline {
                    last.action.push(' ');
                    last.action.push_str(&self.text[span.range.clone()]);
                }
                last.action.push(' ');
                last.action.push_str(&wording.action);
            }
            _ => self.push(wording, None, CutReason::Connector, origin),
        }
    }

    /// Attaches `span`'s code to the step that the text before it describes.
    fn attach(
        &mut self,
        mut wording: Wording,
        span: &CodeSpan,
        why: CutReason,
        origin: Origin,
        may_attach: bool,
    ) {
        let Some(code) = span.code.clone() else { return };
        let lower = wording.action.to_lowercase();
        let joins = joins(&lower);
        if joins {
            if !wording.lead.is_empty() {
                wording.lead.push(' ');
            }
            wording.lead.push_str(&lower);
        }
        let is_label = joins || names(&lower, &code.language) || word::is_preposition(&lower);
        let says_something = wording.action.contains(char::is_alphanumeric) && !is_label;
        if says_something {
            self.push(wording, Some(code), why, origin);
            return;
        }
        let unused = self
            .contexts
            .iter_mut()
            .rev()
            .find(|context| !context.used && context.depth != HeadingDepth::Line);
        if let Some(context) = unused.filter(|_| may_attach) {
            context.used = true;
            let action = context.text.clone();
            self.draft(Wording { action, ..wording }, Some(code), why, origin, Vec::new());
            return;
        }
        let action = format!("Run the {} code", language::display(&code.language));
        match self.drafts.last_mut() {
            Some(last) if may_attach && last.code.is_none() => {
                if names(&last.action.to_lowercase(), &code.language) {
                    last.action = action;
                }
                let behind =
                    [last.wording.tail.as_str(), wording.lead.as_str(), wording.tail.as_str()];
                last.wording.tail =
                    behind.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
                last.code = Some(code);
            }
            _ => {
                self.push(Wording { action, ..wording }, Some(code), why, origin);
            }
        }
    }

    fn push(&mut self, wording: Wording, code: Option<Code>, why: CutReason, origin: Origin) {
        if !wording.action.contains(char::is_alphanumeric) {
            return;
        }
        let lower = wording.action.to_lowercase();
        if matches!(
            why,
            CutReason::Semicolon | CutReason::Dash | CutReason::Arrow | CutReason::Connector
        ) && code.is_none()
            && word::is_and(&lower)
            && lower.chars().count() > 1
            && let Some(last) = self.drafts.last_mut()
        {
            // An `and` between two cuts is no step.
            let behind = [&last.wording.tail, &wording.lead, &wording.action, &wording.tail];
            last.wording.tail = behind
                .map(String::as_str)
                .join(" ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            return;
        }
        let mut contexts = Vec::new();
        for (outward, context) in self.contexts.iter_mut().rev().enumerate() {
            if !context.used {
                contexts.push(context.text.clone());
            } else if outward < MENTIONS_MAX {
                contexts.push(mention(&context.text));
            }
            context.used = true;
        }
        self.draft(wording, code, why, origin, contexts);
    }

    fn draft(
        &mut self,
        wording: Wording,
        code: Option<Code>,
        why: CutReason,
        unit: Origin,
        contexts: Vec<String>,
    ) {
        let action = wording.action.clone();
        self.drafts.push(StepDraft { action, code, why, unit, wording, contexts });
    }
}

/// Whether `lower` is only a word that joins steps.
fn joins(lower: &str) -> bool {
    word::is_and(lower) || word::connector(lower).is_some()
}

/// Whether `lower` is only the name of a program's language.
fn names(lower: &str, language: &str) -> bool {
    lower == language || language::is_program(lower)
}

fn mention(text: &str) -> String {
    match text.char_indices().nth(MENTION_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
