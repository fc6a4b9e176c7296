//! Words: how texts are cut up for the index.
//!
//! A word is a run of letters and digits in lower case; everything else separates, the underscore too. In
//! scripts that put no spaces between words every character is a word of its own.
//!
//! *Limits.* Accents are not folded away, and words are not reduced to their stems.

/// Longer words are cut, in bytes: nobody types them whole, and a term has to fit a page.
const TOKEN_BYTES_MAX: usize = 64;

/// The words of `text`, in order.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        if is_word_of_its_own(character) {
            finish(&mut word, &mut tokens);
            tokens.push(character.to_string());
        } else if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        } else if !word.is_empty() && !is_mark(character) {
            finish(&mut word, &mut tokens);
        } else if !word.is_empty() {
            word.push(character);
        }
    }
    finish(&mut word, &mut tokens);
    tokens
}

fn finish(word: &mut String, tokens: &mut Vec<String>) {
    if !word.is_empty() {
        word.truncate(word.floor_char_boundary(TOKEN_BYTES_MAX));
        tokens.push(std::mem::take(word));
    }
}

/// Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana, Han.
fn is_word_of_its_own(character: char) -> bool {
    matches!(u32::from(character),
        0x0E01..=0x0E30 | 0x0E81..=0x0EB0 | 0x1000..=0x102A | 0x1780..=0x17B3
        | 0x3041..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF | 0x20000..=0x323AF)
}

/// Marks that belong to the letter before them: combining accents, viramas, joiners.
fn is_mark(character: char) -> bool {
    matches!(u32::from(character),
        0x0300..=0x036F | 0x0591..=0x05BD | 0x064B..=0x0652 | 0x093C | 0x094D | 0x09CD | 0x0A4D
        | 0x0ACD | 0x0B4D | 0x0BCD | 0x0C4D | 0x0CCD | 0x0D4D | 0x200C | 0x200D)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(tokens(text), expected);
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        check("Hello, World! x2", &["hello", "world", "x2"]);
        check("snake_case(kebab-case)", &["snake", "case", "kebab", "case"]);
        check("Ärger ÉTÉ Привет", &["ärger", "été", "привет"]);
        check(" \t…\"' ", &[]);
        check("", &[]);
    }

    #[test]
    fn scripts_without_spaces_are_findable_by_character() {
        check("数据库 test", &["数", "据", "库", "test"]);
        check("データ", &["デ", "ー", "タ"]);
        check("हिन्दी", &["हिन्दी"]);
    }

    #[test]
    fn a_long_word_is_cut_at_a_character() {
        let words = tokens(&"ü".repeat(100));
        assert_eq!(words, ["ü".repeat(32)]);
    }
}
