//! Tokenization: how texts are cut into words for the index.
//!
//! A word is a run of letters and digits in lower case, without a plural ending; everything else
//! separates. A run is also cut at changes of case (`getUserName`, `HTTPServer`), and the whole run
//! is then a word too. So is whatever stands between two spaces and contains several words, or is a
//! flag: paths, versions, addresses, `--no-cache`, `snake_case`. In scripts without spaces between
//! words every character is a word of its own, and so are emoji and other pictures.
//!
//! *Limits.* Accents are not folded, and there is no stemming beyond English plurals.

use std::ops::Range;

/// Longer words are cut, in bytes: a term has to fit a page.
const TOKEN_BYTES_MAX: usize = 64;

/// A word in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The indexed form.
    pub(crate) text: String,
    /// Its place: simple words are counted from 0, and a compound word has the place of its first
    /// part.
    pub(crate) place: usize,
    /// Its byte range in the text.
    pub(crate) span: Range<usize>,
    /// Whether it is not a compound.
    pub(crate) is_simple: bool,
}

/// A [`Token`] with borrowed text.
pub(crate) struct RawToken<'a> {
    pub(crate) text: &'a str,
    pub(crate) place: usize,
    pub(crate) span: Range<usize>,
    pub(crate) is_simple: bool,
}

/// The words of `text`, in order.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    /// Approximate size of a word with its separator, in bytes.
    const WORD_BYTES: usize = 6;
    let mut tokens = Vec::with_capacity(text.len() / WORD_BYTES);
    cut(text, |RawToken { text, place, span, is_simple }| {
        tokens.push(Token { text: text.to_owned(), place, span, is_simple });
    });
    tokens
}

/// Calls `show` with the words of `text`, in order.
pub(crate) fn cut(text: &str, show: impl FnMut(RawToken<'_>)) {
    let mut cutter = TextTokenizer { text, word: String::new(), places: 0, is_ascii: true, show };
    let mut rest = 0;
    while let Some(start) = text[rest..].find(|c: char| !c.is_whitespace()) {
        let start = rest + start;
        let end =
            text[start..].find(char::is_whitespace).map_or(text.len(), |length| start + length);
        cutter.chunk(start..end);
        rest = end;
    }
}

/// The simple words of `text`, in order: the parts of a phrase.
pub(crate) fn simple(text: &str) -> Vec<String> {
    let simple = tokens(text).into_iter().filter(|token| token.is_simple);
    simple.map(|token| token.text).collect()
}

/// Whether a text with these tokens contains `phrase`.
pub(crate) fn contains(tokens: &[Token], phrase: &[String]) -> bool {
    let words: Vec<&Token> = tokens.iter().filter(|token| token.is_simple).collect();
    let is_phrase = |window: &[&Token]| {
        let places = window[0].place..;
        let pairs = window.iter().zip(phrase).zip(places);
        pairs.into_iter().all(|((token, word), place)| token.text == *word && token.place == place)
    };
    !phrase.is_empty() && words.windows(phrase.len()).any(is_phrase)
}

struct TextTokenizer<'a, F> {
    text: &'a str,
    /// Buffer of the current word.
    word: String,
    places: usize,
    /// Whether the words of the chunk are ASCII.
    is_ascii: bool,
    show: F,
}

impl<F: FnMut(RawToken<'_>)> TextTokenizer<'_, F> {
    /// Cuts the text between two spaces.
    fn chunk(&mut self, chunk: Range<usize>) {
        let first = self.places;
        self.is_ascii = true;
        let mut runs = 0;
        let mut has_dash = false;
        let mut run: Option<usize> = None;
        for (at, character) in self.text[chunk.clone()].char_indices() {
            let at = chunk.start + at;
            has_dash |= character == '-';
            if is_word_of_its_own(character) {
                runs += usize::from(self.run(&mut run, at)) + 1;
                self.simple(at..at + character.len_utf8());
            } else if character.is_alphanumeric() || (run.is_some() && is_mark(character)) {
                run.get_or_insert(at);
            } else {
                runs += usize::from(self.run(&mut run, at));
            }
        }
        runs += usize::from(self.run(&mut run, chunk.end));
        if !self.is_ascii || !(runs > 1 || runs == 1 && has_dash) {
            return;
        }
        let whole = trimmed(self.text, chunk);
        if runs > 1 || self.text[whole.clone()].starts_with('-') {
            lower(&self.text[whole.clone()], &mut self.word);
            self.show(whole, first, false);
        }
    }

    /// Ends a run of letters and digits, if there is one.
    fn run(&mut self, run: &mut Option<usize>, end: usize) -> bool {
        let Some(start) = run.take() else { return false };
        let (first, run) = (self.places, &self.text[start..end]);
        if run.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            self.simple(start..end);
            return true;
        }
        let (mut from, mut before) = (start, None);
        let mut characters = run.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            let begins_a_part = |before: char| {
                let has_small_next = characters.peek().is_some_and(|(_, next)| next.is_lowercase());
                before.is_lowercase() || has_small_next
            };
            if character.is_uppercase() && before.is_some_and(begins_a_part) {
                self.simple(from..start + at);
                from = start + at;
            }
            before = Some(character);
        }
        self.simple(from..end);
        if from > start {
            lower(run, &mut self.word);
            singular(&mut self.word);
            self.show(start..end, first, false);
        }
        true
    }

    fn simple(&mut self, span: Range<usize>) {
        lower(&self.text[span.clone()], &mut self.word);
        singular(&mut self.word);
        self.show(span, self.places, true);
        self.places += 1;
    }

    /// Shows the current word.
    fn show(&mut self, span: Range<usize>, place: usize, is_simple: bool) {
        let text = &self.word[..self.word.floor_char_boundary(TOKEN_BYTES_MAX)];
        self.is_ascii &= text.is_ascii();
        (self.show)(RawToken { text, place, span, is_simple });
    }
}

/// Writes `text` in lower case into `word`.
fn lower(text: &str, word: &mut String) {
    word.clear();
    if text.is_ascii() {
        word.push_str(text);
        word.make_ascii_lowercase();
    } else {
        word.push_str(&text.to_lowercase());
    }
}

/// A chunk without surrounding quotes, brackets and full stops.
fn trimmed(text: &str, chunk: Range<usize>) -> Range<usize> {
    const AROUND: &[char] =
        &['(', ')', '[', ']', '{', '}', '<', '>', '"', '\'', '`', ',', ';', '!', '?'];
    let inside = text[chunk.clone()].trim_start_matches(AROUND);
    let start = chunk.end - inside.len();
    let inside = inside.trim_end_matches(AROUND).trim_end_matches(['.', ':']);
    start..start + inside.len()
}

/// Removes the plural ending of an English word, if it has one.
fn singular(word: &mut String) {
    if word.len() <= 3 || !(word.ends_with('s') && word.is_ascii()) {
        return;
    }
    if word.ends_with("ies") {
        word.truncate(word.len() - "ies".len());
        word.push('y');
    } else if ["ses", "xes", "zes", "hes"].iter().any(|ending| word.ends_with(ending)) {
        word.truncate(word.len() - "es".len());
    } else if !word.ends_with("ss") && !word.ends_with("us") {
        word.pop();
    }
}

/// Scripts written without spaces (Thai, Lao, Myanmar, Khmer, kana, Han), pictures and emoji.
fn is_word_of_its_own(character: char) -> bool {
    !character.is_ascii()
        && matches!(u32::from(character),
        0x0E01..=0x0E30 | 0x0E81..=0x0EB0 | 0x1000..=0x102A | 0x1780..=0x17B3
        | 0x3041..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF | 0x20000..=0x323AF
        | 0x2190..=0x2BFF | 0x1F000..=0x1FAFF)
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
        let found = tokens(text);
        assert_eq!(found.iter().map(|token| &*token.text).collect::<Vec<_>>(), expected);
        for token in found {
            assert!(
                text.is_char_boundary(token.span.start) && text.is_char_boundary(token.span.end)
            );
        }
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        check("Hello, World! x2", &["hello", "world", "x2"]);
        check("Ärger ÉTÉ Привет", &["ärger", "été", "привет"]);
        check(" \t…\"' ", &[]);
        check("", &[]);
    }

    #[test]
    fn a_plural_is_found_by_its_singular() {
        check("files file", &["file", "file"]);
        check("directories boxes status class is", &["directory", "box", "status", "class", "is"]);
    }

    #[test]
    fn identifiers_are_words_in_parts_and_whole() {
        check("getUserName", &["get", "user", "name", "getusername"]);
        check("HTTPServer", &["http", "server", "httpserver"]);
        check("snake_case", &["snake", "case", "snake_case"]);
        check("E0308 utf8", &["e0308", "utf8"]);
        check("ÄrgerÜber", &["ärger", "über", "ärgerüber"]);
    }

    #[test]
    fn paths_flags_versions_and_addresses_are_words_as_a_whole_too() {
        check("/usr/lib/x.so,", &["usr", "lib", "x", "so", "/usr/lib/x.so"]);
        check("(--no-cache)", &["no", "cache", "--no-cache"]);
        check("-x v1.2.3.", &["x", "-x", "v1", "2", "3", "v1.2.3"]);
        check("127.0.0.1:8000", &["127", "0", "0", "1", "8000", "127.0.0.1:8000"]);
    }

    #[test]
    fn scripts_without_spaces_and_pictures_are_findable_by_character() {
        check("数据库 test", &["数", "据", "库", "test"]);
        check("データ", &["デ", "ー", "タ"]);
        check("हिन्दी", &["हिन्दी"]);
        check("go🚀 🎉", &["go", "🚀", "🎉"]);
    }

    #[test]
    fn a_long_word_is_cut_at_a_character() {
        check(&"ü".repeat(100), &[&"ü".repeat(32)]);
    }

    #[test]
    fn a_phrase_is_words_in_a_row_whatever_stands_between_them() {
        let text = tokens("Set the user_name, then getUserName()");
        assert!(contains(&text, &simple("user name then get")));
        assert!(contains(&text, &simple("USER-NAME")));
        assert!(!contains(&text, &simple("name user")));
        assert!(!contains(&text, &[]));
    }
}
