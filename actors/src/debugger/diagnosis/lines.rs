//! The outputs of a run as clean lines.

use ai_factory_schemas::limit::{DIAGNOSIS_LINE_CHARS_MAX, DIAGNOSIS_MESSAGE_CHARS_MAX};

/// The beginning of an output that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The end of an output that is read, in bytes. Errors stand there.
const TAIL_BYTES_MAX: usize = 192 * 1024;
/// The most lines of the beginning that are read.
const HEAD_LINES_MAX: usize = 2_000;
/// The most lines of the end that are read.
const TAIL_LINES_MAX: usize = 8_000;
/// The part of a line that is read, in characters.
const LINE_CHARS_MAX: usize = 1_000;
/// A tab as spaces.
const TAB: &str = "    ";

/// The lines of an output without colours and control characters; of a long one the beginning and
/// the end.
pub(super) fn lines(text: &str) -> Vec<String> {
    let is_long = text.len() > HEAD_BYTES_MAX + TAIL_BYTES_MAX;
    let (head, tail) = if is_long {
        let head = &text[..text.floor_char_boundary(HEAD_BYTES_MAX)];
        (head, &text[text.ceil_char_boundary(text.len() - TAIL_BYTES_MAX)..])
    } else {
        (text, "")
    };
    let lines: Vec<_> = head.lines().chain(tail.lines()).collect();
    let first = lines.len().min(HEAD_LINES_MAX);
    let last = lines.len().saturating_sub(TAIL_LINES_MAX).max(first);
    let read = lines[..first].iter().chain(&lines[last..]);
    read.map(|line| clean(line, LINE_CHARS_MAX)).collect()
}

/// A line without colours and control characters, cut at `chars_max`; tabs as spaces.
fn clean(line: &str, chars_max: usize) -> String {
    let mut clean = String::new();
    let mut chars = line.chars();
    let mut left = chars_max;
    while let Some(char) = chars.next() {
        if left == 0 {
            break;
        }
        match char {
            '\t' => clean.push_str(TAB),
            // An escape sequence ends with a letter or one of `@[]^_{|}~` and the back quote.
            '\u{1b}' if chars.as_str().starts_with('[') => {
                chars.next();
                chars.find(|char| matches!(char, '@'..='~'));
            }
            char if char.is_control() => {}
            char => clean.push(char),
        }
        left -= 1;
    }
    clean
}

/// A message in one line, within its limit.
pub(super) fn message(text: &str) -> String {
    cut(text.trim(), DIAGNOSIS_MESSAGE_CHARS_MAX)
}

/// Adds a line to a message that has not reached its limit.
pub(super) fn extend_message(message: &mut String, line: &str) {
    if message.chars().nth(DIAGNOSIS_MESSAGE_CHARS_MAX).is_none() {
        message.push(' ');
        message.push_str(line);
    }
}

/// A line of source text, within its limit.
pub(super) fn source_line(text: &str) -> String {
    let line = clean(text, DIAGNOSIS_LINE_CHARS_MAX + 1);
    cut(line.trim_end(), DIAGNOSIS_LINE_CHARS_MAX)
}

/// The first `chars_max` characters without control characters; a cut ends with an ellipsis.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    let mut cut: String =
        text.chars().filter(|char| !char.is_control()).take(chars_max + 1).collect();
    if let Some((end, _)) = cut.char_indices().nth(chars_max) {
        cut.truncate(end);
        cut.pop();
        cut.push('…');
    }
    cut
}

/// The number at the beginning of a text.
pub(super) fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().ok()
}

/// `path:line` or `path:line:column` as path and line.
pub(super) fn path_and_line(text: &str) -> Option<(&str, u32)> {
    let (rest, last) = text.rsplit_once(':')?;
    let last = whole_number(last)?;
    match rest.rsplit_once(':').map(|(path, line)| (path, whole_number(line))) {
        Some((path, Some(line))) => Some((path, line)),
        _ => Some((rest, last)),
    }
}

fn whole_number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Whether a path has an extension.
pub(super) fn has_extension(path: &str, extension: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
}

/// The text between the first pair of single quotes.
pub(super) fn quoted(text: &str) -> Option<&str> {
    text.split_once('\'')?.1.split_once('\'').map(|(quoted, _)| quoted)
}

/// The name of an exception's class at the beginning of a line, and what follows its colon:
/// `json.JSONDecodeError: …`, `Error [CODE]: …`, `KeyboardInterrupt`.
pub(super) fn exception(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
    let name = name.split_once(" [").map_or(name, |(name, _)| name);
    let is_name = name.starts_with(|char: char| char.is_alphabetic() || char == '_')
        && name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '.' | '$'));
    is_name.then(|| (name.rsplit('.').next().unwrap_or(name), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_without_colours_and_control_characters() {
        assert_eq!(lines("\u{1b}[31mFAIL\u{1b}[0m\ta\r\n\u{7}b\u{1b}"), ["FAIL    a", "b"]);
        assert_eq!(lines("\u{1b}[31"), [""]);
    }

    #[test]
    fn a_long_output_is_read_at_its_beginning_and_its_end() {
        let long = format!("first\n{}last\n", "é\n".repeat(200_000));
        let read = lines(&long);
        assert_eq!((read[0].as_str(), read[read.len() - 1].as_str()), ("first", "last"));
        assert_eq!(read.len(), HEAD_LINES_MAX + TAIL_LINES_MAX);
        let numbered: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
        let read = lines(&numbered.join("\n"));
        assert_eq!((read[1_999].as_str(), read[2_000].as_str()), ("1999", "12000"));
        assert_eq!(lines(&"\n".repeat(9_000)).len(), 9_000);
    }

    #[test]
    fn a_message_stops_growing_at_its_limit() {
        let mut message = "first:".to_owned();
        for _ in 0..100_000 {
            extend_message(&mut message, "more:");
        }
        assert!(message.starts_with("first: more: more:"));
        assert_eq!(message.chars().count() / 6, DIAGNOSIS_MESSAGE_CHARS_MAX / 6 + 1);
    }

    #[test]
    fn a_cut_text_has_the_length_of_its_limit() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(source_line(&"x".repeat(500)).chars().count(), DIAGNOSIS_LINE_CHARS_MAX);
    }

    #[test]
    fn places_and_names_are_read_from_what_programs_print() {
        assert_eq!(path_and_line("/a/b.js:3:14"), Some(("/a/b.js", 3)));
        assert_eq!(path_and_line("b.py:7"), Some(("b.py", 7)));
        assert_eq!(path_and_line("C:x"), None);
        assert_eq!(exception("a.b.Odd: why: so"), Some(("Odd", "why: so")));
        assert_eq!(exception("Error [ERR_X]: why"), Some(("Error", "why")));
        assert_eq!(exception("two words: why"), None);
    }
}
