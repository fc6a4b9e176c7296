//! Quoting of received values in sentences.

/// The longest quoted value, in characters.
pub const QUOTED_CHARS_MAX: usize = 40;

/// A wrong value for a sentence: [`printable`], and short.
pub fn quoted(text: &str) -> String {
    printable(text, QUOTED_CHARS_MAX)
}

/// The first `chars_max` characters of `text` on one line, with unprintable characters escaped,
/// because sentences go to terminals, log files and headers. `…` marks what is cut off.
pub fn printable(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    let mut chars = text.chars();
    for c in chars.by_ref().take(chars_max) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_short_and_printable() {
        for (text, expected) in [
            ("", ""),
            ("it's \"ä\" \\ 猫", "it's \"ä\" \\ 猫"),
            ("a\r\nb\t\0", "a\\r\\nb\\t\\0"),
            ("\u{1b}[31m\u{7f}\u{9b}", "\\u{1b}[31m\\u{7f}\\u{9b}"),
            ("\u{202e}", "\\u{202e}"),
        ] {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
        assert_eq!(quoted(&"x".repeat(QUOTED_CHARS_MAX)), "x".repeat(QUOTED_CHARS_MAX));
        let cut = quoted(&"x".repeat(QUOTED_CHARS_MAX + 1));
        assert_eq!(cut, "x".repeat(QUOTED_CHARS_MAX) + "…");
    }
}
