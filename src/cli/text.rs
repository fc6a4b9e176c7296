//! Makes external texts safe for a terminal.
//!
//! *Promises.* The result holds no control character (except line breaks and tabs where they are
//! kept), no escape sequence and nothing that changes the writing direction. No text hides what
//! follows it: a sequence that is not closed on its line loses only its escape character.

use std::{borrow::Cow, fmt::Write as _, path::Path};

const ESCAPE: char = '\u{1b}';

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with its line breaks and tabs, without terminal control sequences.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_harmful(c) && c != '\n' && c != '\t') {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            ESCAPE => rest = &rest[sequence_length(rest)..],
            '\n' | '\t' => safe.push(c),
            c if is_harmful(c) => {}
            c => safe.push(c),
        }
    }
    safe.into()
}

/// The text on one line: white space of any kind becomes single spaces.
pub(crate) fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    lines(&spaced).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text on one line, cut at `chars_max` characters; a cut is marked by `…`.
pub(crate) fn short(text: &str, chars_max: usize) -> String {
    // A character has at most four bytes, and one line is never longer than its text.
    let head = &text[..text.floor_char_boundary(chars_max.saturating_mul(8))];
    let line = one_line(head);
    match line.char_indices().nth(chars_max) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None if head.len() < text.len() => format!("{line}…"),
        None => line,
    }
}

/// A path on one line, with escapes (`\xff`, `\n`) for bytes that are not UTF-8 and for control
/// characters.
pub(crate) fn path(path: &Path) -> String {
    let mut shown = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_harmful(c) {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// The first lines, at most `max`; behind them `rest` says how many more there are.
pub(crate) fn first(
    mut lines: Vec<String>,
    max: usize,
    rest: impl FnOnce(usize) -> String,
) -> Vec<String> {
    let more = lines.len().saturating_sub(max);
    if more > 0 {
        lines.truncate(max);
        lines.push(rest(more));
    }
    lines
}

/// The length of the complete escape sequence after an escape character (ECMA-48), in bytes; 0 if
/// there is none.
fn sequence_length(after: &str) -> usize {
    let bytes = after.as_bytes();
    match bytes.first() {
        Some(b'[') => {
            let end = bytes[1..].iter().position(|byte| !(0x20..=0x3f).contains(byte));
            match end {
                Some(end) if (0x40..=0x7e).contains(&bytes[1 + end]) => end + 2,
                _ => 0,
            }
        }
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let line = &after[..after.find('\n').unwrap_or(after.len())];
            let bell = line.find('\u{7}').map(|at| at + 1);
            let closed = line.find("\u{1b}\\").map(|at| at + 2);
            match (bell, closed) {
                (Some(a), Some(b)) => a.min(b),
                (one, other) => one.or(other).unwrap_or(0),
            }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_control_characters_go_and_the_text_stays() {
        for (text, safe) in [
            ("plain ä \n\t x", "plain ä \n\t x"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;never closed", "]0;never closed"),
            ("\u{1b}[31", "[31"),
            ("a\u{8}\u{7f}b\u{9b}31m\r\n", "ab31m\n"),
            ("\u{202e}reversed", "reversed"),
        ] {
            assert_eq!(lines(text), safe, "{text:?}");
        }
    }

    #[test]
    fn a_path_is_one_line_whatever_its_bytes_are() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

        let strange = OsStr::from_bytes(b"a\n\x1b[31m/caf\xe9 \xc3\xa9");
        assert_eq!(path(Path::new(strange)), "a\\n\\u{1b}[31m/caf\\xe9 é");
    }

    #[test]
    fn of_many_lines_the_first_are_shown_and_the_others_counted() {
        let lines = || ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(first(lines(), 3, |_| String::new()), ["a", "b", "c"]);
        assert_eq!(first(lines(), 1, |more| format!("and {more} more")), ["a", "and 2 more"]);
    }

    #[test]
    fn one_line_is_one_line_and_short_is_cut_with_a_mark() {
        assert_eq!(one_line(" a\n\n b\tc\r\n"), "a b c");
        assert_eq!(short("äbc", 3), "äbc");
        assert_eq!(short("äbcd", 3), "äbc…");
        assert_eq!(short(&" ".repeat(100), 3), "…");
    }
}
