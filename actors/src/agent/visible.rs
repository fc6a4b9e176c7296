//! Texts from outside with nothing hidden in them: control characters, characters that change the
//! direction of writing and characters without a glyph are written as escapes.
//!
//! *Promises.* The result holds, beside what can be seen, only line feeds and tabs. Nothing hides
//! what follows it: a terminal's sequence that is not closed on its line loses its escape character
//! alone.

use std::fmt::Write as _;

const ESCAPE: char = '\u{1b}';
/// The longest sequence that is removed, in bytes; a longer one is text.
const SEQUENCE_BYTES_MAX: usize = 512;

/// Whether a character is not seen, or changes how others are seen.
fn is_hidden(c: char) -> bool {
    if matches!(c, '\n' | '\t') {
        return false;
    }
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                // Letters that nobody sees and models read.
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The content of a file, or another text whose every character counts: what is hidden is written
/// as `\u{…}`, a line end of Windows as a line feed.
pub fn content(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            c if is_hidden(c) => push_escaped(&mut shown, c),
            c => shown.push(c),
        }
    }
    shown
}

/// The output of a program: as [`content`], without a terminal's colours and titles, and with a
/// line feed where the program returned to the beginning of its line.
pub fn output(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            ESCAPE => match sequence_bytes(rest) {
                Some(bytes) => rest = &rest[bytes..],
                None => push_escaped(&mut shown, c),
            },
            '\r' if rest.starts_with('\n') => {}
            '\r' => shown.push('\n'),
            c if is_hidden(c) => push_escaped(&mut shown, c),
            c => shown.push(c),
        }
    }
    shown
}

fn push_escaped(shown: &mut String, c: char) {
    // Writing to a string does not fail.
    let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
}

/// The length of a terminal's sequence behind its escape character; `None` if it is not closed on
/// its line.
fn sequence_bytes(rest: &str) -> Option<usize> {
    let line = &rest.as_bytes()[..rest.len().min(SEQUENCE_BYTES_MAX)];
    let line = line.split(|byte| *byte == b'\n').next()?;
    match line.first()? {
        b'[' => {
            let end = line.iter().skip(1).position(|byte| !matches!(byte, b' '..=b'?'))? + 1;
            matches!(line[end], b'@'..=b'~').then_some(end + 1)
        }
        b']' | b'P' | b'X' | b'^' | b'_' => {
            let end = line.iter().position(|byte| matches!(byte, 7 | 0x1b))?;
            match line[end] {
                7 => Some(end + 1),
                _ => (line.get(end + 1) == Some(&b'\\')).then_some(end + 2),
            }
        }
        b'(' | b')' => line.get(1).filter(|byte| byte.is_ascii_alphanumeric()).map(|_| 2),
        b'7' | b'8' | b'=' | b'>' | b'c' | b'D' | b'E' | b'H' | b'M' => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_and_titles_are_removed_from_outputs_and_shown_in_contents() {
        for (text, of_output, of_content) in [
            ("\u{1b}[31;1mred\u{1b}[0m", "red", "\\u{1b}[31;1mred\\u{1b}[0m"),
            ("\u{1b}]0;title\u{7}x", "x", "\\u{1b}]0;title\\u{7}x"),
            ("\u{1b}]8;;http://a\u{1b}\\y", "y", "\\u{1b}]8;;http://a\\u{1b}\\y"),
            ("\u{1b}]0;never\nclosed", "\\u{1b}]0;never\nclosed", "\\u{1b}]0;never\nclosed"),
            ("\u{1b}[3\nm", "\\u{1b}[3\nm", "\\u{1b}[3\nm"),
            ("\u{1b}[3ä", "\\u{1b}[3ä", "\\u{1b}[3ä"),
            ("\u{1b}", "\\u{1b}", "\\u{1b}"),
            ("10%\r20%\r\nend", "10%\n20%\nend", "10%\\u{d}20%\nend"),
            ("a\0b\u{9b}c\u{8}", "a\\u{0}b\\u{9b}c\\u{8}", "a\\u{0}b\\u{9b}c\\u{8}"),
            ("\u{202e}cod\u{2066}", "\\u{202e}cod\\u{2066}", "\\u{202e}cod\\u{2066}"),
            ("\u{e0041}\u{200b}", "\\u{e0041}\\u{200b}", "\\u{e0041}\\u{200b}"),
            (
                "\tü 猫 👩\u{200d}🚀 e\u{301}",
                "\tü 猫 👩\u{200d}🚀 e\u{301}",
                "\tü 猫 👩\u{200d}🚀 e\u{301}",
            ),
        ] {
            assert_eq!((output(text).as_str(), content(text).as_str()), (of_output, of_content));
        }
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_whatever_the_text(text in "(\\PC|\\pC|\u{1b}[\\[\\]P(]){0,200}") {
            prop_assert!(!output(&text).chars().any(is_hidden));
            prop_assert!(!content(&text).chars().any(is_hidden));
        }
    }
}
