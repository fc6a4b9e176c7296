//! Chunking: long texts are cut into chunks that a model reads to the end.

/// Cuts `text` into chunks of at most `bytes_max` bytes: between lines if the chunk is then at
/// least half full, else between words, else between characters. Blank chunks are left out.
pub(super) fn chunks(text: &str, bytes_max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (chunk, after) = rest.split_at(end(rest, bytes_max));
        rest = after;
        Some(chunk)
    })
    .filter(|chunk| !chunk.trim().is_empty())
}

fn end(text: &str, bytes_max: usize) -> usize {
    if text.len() <= bytes_max {
        return text.len();
    }
    let most = &text[..text.floor_char_boundary(bytes_max)];
    let half = most.len() / 2;
    let after = |separator: fn(char) -> bool| {
        let found = most.rfind(separator)?;
        Some(found + most[found..].chars().next().map_or(1, char::len_utf8))
    };
    let line = after(|character| character == '\n').filter(|end| *end > half);
    let word = line.or_else(|| after(char::is_whitespace)).filter(|end| *end > half);
    // A character may be longer than a chunk.
    word.unwrap_or(most.len()).max(text.chars().next().map_or(0, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_between_lines_else_words_else_characters() {
        let cut = |text, bytes_max| chunks(text, bytes_max).collect::<Vec<_>>();
        assert_eq!(cut("short", 10), ["short"]);
        assert_eq!(cut("one two\nthree four", 10), ["one two\n", "three four"]);
        assert_eq!(cut("one two three", 8), ["one two ", "three"]);
        assert_eq!(cut("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(cut("üüü", 3), ["ü", "ü", "ü"]);
        assert_eq!(cut("🎉🎉", 2), ["🎉", "🎉"]);
        assert_eq!(cut(" \n ", 2), [""; 0]);
    }

    proptest! {
        #[test]
        fn nothing_but_blanks_is_lost(text in "[ \\n\\PC]{0,300}", bytes_max in 4_usize..50) {
            let cut: Vec<&str> = chunks(&text, bytes_max).collect();
            prop_assert!(cut.iter().all(|chunk| chunk.len() <= bytes_max && !chunk.is_empty()));
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(squeezed(&cut.concat()), squeezed(&text));
        }
    }
}
