//! Cuts of prose into steps: at sentence ends, semicolons, arrows, dashes, connectors, and the
//! markers of a list written on one line.
//!
//! *Promises.* Cuts only where [`ByteMask`] allows it. Linear in the text.

use std::ops::Range;

use super::{
    dot::{self, Dot},
    inline_list,
    marker::{self, Marker},
    mask::ByteMask,
    piece::{CutReason, Piece},
    token::{self, ProseToken, phrase_at},
    word::{self, ConnectorPosition},
};

/// The most quotes and brackets before the capital letter of a sentence.
const OPENERS_MAX: usize = 8;

/// Cuts the text of one unit; `marker` is the one removed from its beginning.
pub(super) fn pieces(
    text: &str,
    mask: &ByteMask,
    range: Range<usize>,
    marker: Option<Marker>,
) -> Vec<Piece> {
    let tokens = token::tokens(text, mask, range.clone());
    let markers = inline_list::markers(text, mask, &tokens, marker);
    let mut splitter = Splitter {
        text,
        mask,
        arrows: text[range.clone()].matches("->").count(),
        tokens: &tokens,
        end: range.end,
        last_word: tokens
            .iter()
            .rev()
            .find(|token| !token.core.is_empty())
            .map_or(0, |token| token.core.end),
        pieces: vec![Piece { range, why: CutReason::Begin, intro: false }],
        condition: false,
        aside: false,
    };
    for at in 0..tokens.len() {
        splitter.token(at, markers.get(&at).copied());
    }
    splitter.pieces
}

struct Splitter<'a> {
    text: &'a str,
    mask: &'a ByteMask,
    tokens: &'a [ProseToken],
    /// The number of `->` in the unit.
    arrows: usize,
    end: usize,
    /// The end of the last letter or digit of the unit: there are no cuts after it.
    last_word: usize,
    pieces: Vec<Piece>,
    /// A condition is open: the next `then` belongs to it.
    condition: bool,
    /// An aside between dashes is open: the next dash closes it.
    aside: bool,
}

impl Splitter<'_> {
    /// Ends the current piece at `end` and begins the next at `start`.
    fn cut(&mut self, end: usize, start: usize, why: CutReason) {
        let Some(last) = self.pieces.last_mut() else { return };
        if end < last.range.start || start >= self.last_word {
            return;
        }
        self.condition = false;
        if self.text[last.range.start..end].contains(char::is_alphanumeric) {
            last.range.end = end;
            let before = self.text[last.range.clone()].trim_end();
            last.intro = matches!(why, CutReason::Item(_) | CutReason::Box(_))
                && before.ends_with([':', '：']);
            self.pieces.push(Piece { range: start..self.end, why, intro: false });
        } else {
            // Only marks stand between two cuts: they belong to the piece before, and the later cut
            // counts.
            last.range.start = start;
            if last.why != CutReason::Begin || matches!(why, CutReason::Item(_) | CutReason::Box(_))
            {
                last.why = why;
            }
            if let [.., before, _] = &mut self.pieces[..] {
                before.range.end = end;
            }
        }
    }

    fn piece_start(&self) -> usize {
        self.pieces.last().map_or(self.end, |piece| piece.range.start)
    }

    /// The token at `at`, if it is in the current piece.
    fn in_piece(&self, at: Option<usize>) -> Option<&ProseToken> {
        at.and_then(|at| self.tokens.get(at)).filter(|token| token.start >= self.piece_start())
    }

    fn word_at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.word.as_str())
    }

    fn word_before(&self, at: usize) -> &str {
        self.in_piece(at.checked_sub(1)).map_or("", |token| token.word.as_str())
    }

    fn token(&mut self, at: usize, marker: Option<(CutReason, usize)>) {
        let token = &self.tokens[at];
        let (start, end) = (token.start, token.end);
        if let Some((why, len)) = marker {
            self.cut(start, (start + len).min(self.end), why);
            if len < end - start {
                self.inside(at, start + len);
            }
            return;
        }
        if self.separator(at) {
            return;
        }
        self.connector(at);
        let token = &self.tokens[at];
        if word::is_if(&token.word) && !word::asks_whether(self.word_before(at)) {
            self.condition = true;
        }
        self.inside(at, start);
        self.sentence(at);
    }

    /// A token that is only an arrow or a dash.
    fn separator(&mut self, at: usize) -> bool {
        let token = &self.tokens[at];
        let (start, end) = (token.start, token.end);
        if !self.mask.is_free(start) {
            return false;
        }
        match &self.text[start..end] {
            "->" | "-->" | "→" | "⇒" | "➜" | "➔" | "⟶" | "=>" | "==>" => {
                if !self.is_mapping(at) {
                    self.cut(start, end, CutReason::Arrow);
                }
                true
            }
            "-" | "–" | "—" | "--" | "―" | "−" => {
                if self.aside {
                    self.aside = false;
                } else if word::begins_aside(self.word_at(at + 1)) {
                    self.aside = true;
                } else if !self.is_range(at) {
                    self.cut(start, end, CutReason::Dash);
                }
                true
            }
            _ => false,
        }
    }

    /// Whether the arrow at `at` belongs to a signature or maps one value to another.
    fn is_mapping(&self, at: usize) -> bool {
        let text = |at: Option<usize>| {
            self.in_piece(at).map_or("", |token| &self.text[token.start..token.end])
        };
        let (before, after) = (text(at.checked_sub(1)), text(Some(at + 1)));
        let fat = self.text[self.tokens[at].start..].starts_with("=>");
        let call = before.ends_with(')') && before.find('(').is_some_and(|open| open > 0 || fat);
        let value = |candidate: &str| {
            candidate.starts_with(|c: char| c.is_ascii_digit())
                || candidate.trim_end_matches('.').contains(['.', '/'])
        };
        let parameter = fat && before.len() == 1;
        call || parameter || value(before) && value(after)
    }

    /// Whether the dash at `at` stands between numbers, days or the letters of a formula.
    fn is_range(&self, at: usize) -> bool {
        let (before, after) = (self.word_before(at), self.word_at(at + 1));
        let number = |candidate: &str| candidate.starts_with(|c: char| c.is_numeric());
        let letter = |candidate: &str| {
            candidate.len() == 1 && candidate.starts_with(|c: char| c.is_ascii_lowercase())
        };
        let day = |candidate: &str| candidate.ends_with("day") && candidate.len() > 5;
        let raw = |at: usize| &self.text[self.tokens[at].core.clone()];
        let letters =
            letter(before) && letter(after) && raw(at - 1) == before && raw(at + 1) == after;
        number(before) && number(after) || letters || day(before) && day(after)
    }

    /// A connector that begins at `at`.
    fn connector(&mut self, at: usize) {
        let first = &self.tokens[at];
        if first.word.is_empty() || first.start != first.core.start {
            return;
        }
        let Some((connector, words)) = phrase_at(self.text, self.tokens, at) else { return };
        let with_and = self.in_piece(at.checked_sub(1)).is_some_and(|candidate| {
            word::is_and(&candidate.word) && candidate.end - candidate.start == candidate.word.len()
        });
        let boundary = if with_and { at - 1 } else { at };
        let Some(before) = self.in_piece(boundary.checked_sub(1)) else { return };
        let comma =
            self.text[before.core.end..before.end].contains([',', ':', '，', '、', '،', ')']);
        let pause = comma || with_and;
        let after = self.word_at(at + words);
        let comma_behind = self.tokens[at + words - 1].end > self.tokens[at + words - 1].core.end;
        let before_word = before.word.as_str();
        let cuts = match connector.phrase {
            "then" if with_and => before_word != "now",
            "then" => (comma || !word::is_time_then(before_word)) && !self.condition,
            "dann" => pause && (with_and || !self.condition),
            "finally" => pause || !word::is_plain_finally(before_word, after),
            "after that" => comma_behind || !word::is_noun_of_that(after),
            "next" => pause && !word::is_described(after),
            _ => match connector.place {
                ConnectorPosition::Anywhere => true,
                ConnectorPosition::AfterPause => pause,
                ConnectorPosition::Opening => false,
            },
        };
        let start = self.tokens[boundary].start;
        if cuts {
            self.cut(start, start, CutReason::Connector);
        } else if matches!(connector.phrase, "then" | "dann") && !with_and {
            self.condition = false;
        }
    }

    /// Marks inside a token: full stops of scripts without spaces, semicolons, arrows, long dashes.
    fn inside(&mut self, at: usize, from: usize) {
        let end = self.tokens[at].end;
        let assigns = self.text[from..end].contains('=');
        let mut skip = from;
        for (offset, c) in self.text[from..end].char_indices() {
            let start = from + offset;
            if c.is_ascii_alphanumeric() || start < skip || !self.mask.is_free(start) {
                continue;
            }
            let behind = start + c.len_utf8();
            let rest = &self.text[behind..end];
            let why = match c {
                '。' | '！' | '？' | '｡' | '।' | '॥' | '؟' | '۔' | '።' | '။' | '։' => {
                    Some(CutReason::Sentence)
                }
                '；' | '؛' => Some(CutReason::Semicolon),
                ';' if rest.is_empty() => Some(CutReason::Semicolon),
                ';' if !assigns && self.joins_words(at, start, behind) => {
                    Some(CutReason::Semicolon)
                }
                '→' | '⇒' | '➜' | '➔' | '⟶' => Some(CutReason::Arrow),
                '-' if rest.starts_with('>') => {
                    let outer = start == self.tokens[at].start || rest.len() == 1;
                    let chain = self.arrows > 1 && self.joins_words(at, start, behind + 1);
                    (outer || chain).then_some(CutReason::Arrow)
                }
                '—' if self.joins_words(at, start, behind) => {
                    let word = rest.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
                    let word = if word.is_empty() { self.word_at(at + 1) } else { word };
                    if self.aside {
                        self.aside = false;
                        None
                    } else if word::begins_aside(&word.to_lowercase()) {
                        self.aside = true;
                        None
                    } else {
                        Some(CutReason::Dash)
                    }
                }
                '①'..='⑳' if start > self.tokens[at].start => {
                    Some(CutReason::Item(u32::from(c) - u32::from('①') + 1))
                }
                ',' | '，' | '、' if word::unspaced(rest).is_some() => Some(CutReason::Connector),
                _ => None,
            };
            let Some(why) = why else { continue };
            // The stop belongs to the piece it ends, as do repeated stops and quotes after it.
            let tail = rest.trim_start_matches([
                '。', '！', '？', '」', '』', '”', '）', '’', ')', '"', '।', '>',
            ]);
            let next = if why == CutReason::Connector { behind } else { end - tail.len() };
            let keep = if why == CutReason::Sentence { next } else { start };
            self.cut(keep, next, why);
            skip = next;
        }
    }

    /// Whether letters or digits precede a mark and a letter follows it.
    fn joins_words(&self, at: usize, start: usize, behind: usize) -> bool {
        let token = &self.tokens[at];
        let before = self.text[token.start..start].chars().next_back();
        let after = self.text[behind..token.end].chars().next();
        before.is_some_and(char::is_alphanumeric) && after.is_some_and(char::is_alphabetic)
    }

    /// A sentence end after the token at `at`.
    fn sentence(&mut self, at: usize) {
        const CLOSERS: [char; 14] =
            [')', ']', '"', '\'', '”', '’', '»', '*', '_', '»', '“', '«', '）', '~'];
        let (Some(next), token) = (self.tokens.get(at + 1), &self.tokens[at]) else { return };
        let body = self.text[token.start..token.end].trim_end_matches(CLOSERS);
        let Some(mark) = body.chars().next_back() else { return };
        let stop = token.start + body.len() - mark.len_utf8();
        let capital = self.text[next.start..]
            .chars()
            .take(OPENERS_MAX)
            .find(|c| c.is_alphanumeric())
            .is_some_and(|c| c.is_uppercase() || c.is_alphabetic() && !c.is_lowercase());
        if self.mask.is_verbatim(stop) {
            return;
        }
        let ends = match mark {
            '!' | '?' | '.' | '…' if !self.mask.is_free(stop) => capital,
            '!' | '?' => true,
            '…' => capital,
            '.' if body.ends_with("..") => capital,
            '.' => token.core.end != stop || self.is_full_stop(at, capital),
            _ => false,
        };
        if ends {
            self.aside = false;
            let (end, start) = (token.end, next.start);
            self.cut(end, start, CutReason::Sentence);
        }
    }

    fn is_full_stop(&self, at: usize, capital: bool) -> bool {
        let token = &self.tokens[at];
        let raw = &self.text[token.core.clone()];
        let word = raw.to_lowercase();
        let (before, next) = (self.word_before(at), self.word_at(at + 1));
        let joined = phrase_at(self.text, self.tokens, at + 1).is_some();
        let before_number = next.starts_with(|c: char| c.is_numeric());
        let numbers = |word: &str| word.chars().all(|c| c.is_ascii_digit() || c == '.');
        if word.chars().all(|c| c.is_ascii_digit()) && !word.is_empty() {
            return joined || !dot::wants_ordinal(before) && dot::month(next).is_none();
        }
        // `IV. Quartal` and `x. one` begin with a number or the marker of a list that does not
        // exist; `am 1.1. ruhen` has a date.
        let is_first = self.in_piece(at.checked_sub(1)).is_none();
        let is_marker = marker::roman(raw).is_some() || raw.chars().nth(1).is_none();
        if is_first && is_marker && !raw.is_empty()
            || word.contains('.') && numbers(&word) && dot::wants_ordinal(before)
        {
            return joined;
        }
        let mut letters = word.chars();
        if let (Some(letter), None) = (letters.next(), letters.next()) {
            let counts = before_number || next == "chr" || marker::roman(next).is_some();
            if dot::is_before_number(letter) && counts {
                return joined;
            }
            let after_letter = self.in_piece(at.checked_sub(1)).is_some_and(|candidate| {
                candidate.core.len() == 1
                    && self.text[candidate.core.end..candidate.end].starts_with('.')
            });
            let next_short = self.tokens.get(at + 1).is_some_and(|candidate| {
                candidate.core.len() <= 2
                    && self.text[candidate.core.end..candidate.end].starts_with('.')
            });
            return if raw.starts_with(char::is_uppercase) {
                let is_named = dot::is_named_by_letter(before)
                    || dot::joins_letters(before)
                        && (!capital || self.is_letter(at.checked_sub(2)));
                joined || raw == "I" || !after_letter && is_named
            } else {
                letter.is_numeric() || joined || !(next_short || after_letter)
            };
        }
        let dotted = word.contains('.')
            && word
                .split('.')
                .all(|part| part.chars().count() <= 2 && part.chars().all(char::is_alphabetic));
        // Friedrich II. von Preussen
        let ruler = marker::roman(raw).is_some() && raw.chars().all(char::is_uppercase) && !capital;
        match dot::read(&word) {
            Dot::Never => false,
            Dot::BeforeCapital => capital || joined,
            Dot::BeforeWord => joined || !(before_number || self.is_label(at + 1)),
            Dot::Stop => !(dotted || ruler) || joined,
        }
    }

    /// Whether the token at `at` is a single capital letter.
    fn is_letter(&self, at: Option<usize>) -> bool {
        self.in_piece(at).is_some_and(|token| {
            token.core.len() == 1 && self.text[token.core.clone()].starts_with(char::is_uppercase)
        })
    }

    /// Whether the token at `at` names a figure or a chapter: `A`, `B2`, `IV`.
    fn is_label(&self, at: usize) -> bool {
        let Some(token) = self.tokens.get(at) else { return false };
        let raw = &self.text[token.core.clone()];
        let is_roman = raw.chars().all(char::is_uppercase) && marker::roman(raw).is_some();
        raw != "I" && (is_roman || self.is_letter(Some(at)))
            || raw.starts_with(char::is_uppercase) && raw[1..].parse::<u8>().is_ok()
    }
}
