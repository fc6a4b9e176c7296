//! What looks like a secret: keys of the usual services, bearer tokens, private keys, and long
//! literals that are assigned to a name such as `password`.
//!
//! A pattern crosses white space only where [`open`] says so, and within few bytes.

use std::{ops::Range, sync::LazyLock};

use regex::{Captures, Regex};

/// Names whose values are secrets.
const NAMES: &str = "(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|\
                     secret[_-]?key|auth[_-]?token|access[_-]?token|refresh[_-]?token)";
/// White space in a private key: as such, or escaped.
const GAP: &str = r"(?:[ \t\r\n]|\\[nrt])";
/// The longest construct but a private key that crosses white space, from its beginning to the
/// white space, in bytes; with room to spare.
const OPENING_BYTES_MAX: usize = 64;
/// How every private key begins; its only white space is its end.
const KEY_BEGINNING: &str = "-----BEGIN ";
/// The end of a refused value in which something else may begin that reaches beyond it, in bytes:
/// the longest name and its separator; with room to spare.
const REFUSED_END_BYTES: usize = 16;

/// Whether what a pattern found is a secret, given what precedes and follows it.
type Accept = fn(&str, Range<usize>) -> bool;

/// A pattern: its first group is what is hidden.
struct SecretPattern {
    regex: Regex,
    accept: Accept,
}

static PATTERNS: LazyLock<Vec<SecretPattern>> = LazyLock::new(|| {
    let sources = sources().into_iter();
    let compiled = sources.map(|(source, accept)| Some((Regex::new(&source).ok()?, accept)));
    compiled.flatten().map(|(regex, accept)| SecretPattern { regex, accept }).collect()
});

/// The beginning of an assignment, or of a bearer token, at the end of a text.
static OPENING: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&opening()).ok());

fn sources() -> Vec<(String, Accept)> {
    let any: Accept = |_, _| true;
    let key = |source: &str, accept: Accept| (format!(r"(?-u)\b({source})"), accept);
    vec![
        key(r"sk-[A-Za-z0-9_-]{20,}", is_mixed),
        key(r"gh[pousr]_[A-Za-z0-9]{36,}", any),
        key(r"github_pat_[A-Za-z0-9_]{22,}", any),
        key(r"(?:AKIA|ASIA)[A-Z0-9]{16}\b", any),
        key(r"xox[abprs]-[A-Za-z0-9-]{10,}", is_mixed),
        key(r"AIza[A-Za-z0-9_-]{35}", any),
        key(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", any),
        (r"(?i-u)\bbearer[ \t]{1,8}([A-Za-z0-9._~+/=-]{16,})".to_owned(), is_mixed),
        (
            format!(
                r#"(?i-u){NAMES}\\?["']?[ \t]{{0,8}}[:=]{{1,2}}>?[ \t]{{0,8}}\\?["']?([A-Za-z0-9_+=!-][A-Za-z0-9_+/=.!@#$%^*~-]{{15,}})"#
            ),
            is_literal,
        ),
        (private_key(), any),
    ]
}

fn private_key() -> String {
    let (begin, end) = ("-----BEGIN [A-Z0-9 ]{0,40}", "-----END [A-Z0-9 ]{0,40}");
    let field = format!("[A-Za-z-]{{1,20}}: [A-Za-z0-9,-]{{1,80}}{GAP}+");
    let line = "[A-Za-z0-9+/=]{40,}";
    format!(
        "(?-u)({begin}PRIVATE KEY-----{GAP}*(?:{field})*{line}(?:{GAP}+{line})*\
         (?:{GAP}*[A-Za-z0-9+/=]{{0,39}}{GAP}*{end}PRIVATE KEY-----)?)"
    )
}

fn opening() -> String {
    format!(
        r#"(?i-u)(?:\bbearer[ \t]{{1,8}}|{NAMES}\\?["']?[ \t]{{0,8}}(?:[:=]{{1,2}}>?[ \t]{{0,8}})?)$"#
    )
}

/// Whether it has letters and digits.
fn is_mixed(text: &str, at: Range<usize>) -> bool {
    let value = &text.as_bytes()[at];
    value.iter().any(u8::is_ascii_digit) && value.iter().any(u8::is_ascii_alphabetic)
}

/// Whether an assigned value is a literal with letters and digits, and no code.
fn is_literal(text: &str, at: Range<usize>) -> bool {
    let bytes = text.as_bytes();
    if !is_mixed(text, at.clone()) || matches!(bytes.get(at.end), Some(b'(' | b'[' | b'{' | b'<')) {
        return false;
    }
    let is_quoted = at.start > 0 && matches!(bytes[at.start - 1], b'"' | b'\'');
    is_quoted || !is_name(&text[at])
}

/// Whether a text is a name in code: a path of identifiers, or words joined by `_` in one case.
fn is_name(text: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let has_one_case = !(text.contains(|c: char| c.is_ascii_lowercase())
        && text.contains(|c: char| c.is_ascii_uppercase()));
    text.split('.').all(is_word) && (text.contains('.') || (text.contains('_') && has_one_case))
}

/// The places of what looks like a secret. The work grows with the text's length alone.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let of_pattern = |pattern| Candidates { pattern, text, from: 0 };
    let candidates = PATTERNS.iter().flat_map(of_pattern);
    candidates.filter(|found| found.is_secret).map(|found| found.value).collect()
}

/// What a pattern found.
struct SecretCandidate {
    value: Range<usize>,
    is_secret: bool,
}

/// What a pattern finds in a text, from its beginning to its end.
struct Candidates<'a> {
    pattern: &'a SecretPattern,
    text: &'a str,
    /// Where the next search begins.
    from: usize,
}

impl Iterator for Candidates<'_> {
    type Item = SecretCandidate;

    fn next(&mut self) -> Option<SecretCandidate> {
        let found = self.pattern.regex.captures_at(self.text, self.from)?;
        let (whole, value) = places(&found)?;
        let is_secret = (self.pattern.accept)(self.text, value.clone());
        self.from = if is_secret {
            whole.end
        } else {
            // A value that ends at the same place is refused for the same reason, so only one
            // counts that ends later: its name may be the end of this value. What can be refused
            // is ASCII.
            value.end.saturating_sub(REFUSED_END_BYTES).max(value.start).max(whole.start + 1)
        };
        Some(SecretCandidate { value, is_secret })
    }
}

fn places(found: &Captures<'_>) -> Option<(Range<usize>, Range<usize>)> {
    Some((found.get(0)?.range(), found.get(1)?.range()))
}

/// Where a secret but a private key may begin that goes on after the end of a text that ends with
/// white space.
pub(super) fn open(text: &str) -> Option<usize> {
    let tail = text.ceil_char_boundary(text.len().saturating_sub(OPENING_BYTES_MAX));
    let opening = OPENING.as_ref().and_then(|regex| regex.find(&text[tail..]));
    opening.map(|found| tail + found.start())
}

/// Where private keys may be under way in a text that arrives in parts. Each byte is read once.
#[derive(Debug, Default)]
pub(super) struct OpenKeys {
    /// Bytes read.
    read: usize,
    /// Where the bytes begin that can all be part of a private key.
    stretch: usize,
    /// From the beginning of each key to the first byte that cannot be a part of it.
    keys: Vec<Range<usize>>,
}

impl OpenKeys {
    /// Reads on up to the end of a text of which the bytes so far were the beginning.
    pub(super) fn read_on(&mut self, text: &str) {
        let bytes = text.as_bytes();
        for at in self.read..bytes.len() {
            let is_open = self.keys.last().is_some_and(|key| key.end == usize::MAX);
            if !is_part(bytes[at]) {
                if let Some(key) = self.keys.last_mut().filter(|_| is_open) {
                    key.end = at;
                }
                self.stretch = at + 1;
            } else if bytes[at] == b' '
                && !is_open
                && bytes[self.stretch..=at].ends_with(KEY_BEGINNING.as_bytes())
            {
                self.keys.push(at + 1 - KEY_BEGINNING.len()..usize::MAX);
            }
        }
        self.read = bytes.len();
    }

    /// Where the private key begins that may be under way at the end of the first so many bytes.
    pub(super) fn at(&self, length: usize) -> Option<usize> {
        let begun = self.keys.partition_point(|key| key.start + KEY_BEGINNING.len() <= length);
        let last = self.keys[..begun].last()?;
        (length <= last.end).then_some(last.start)
    }

    /// Forgets the first bytes, at the end of which no key is under way.
    pub(super) fn forget(&mut self, length: usize) {
        self.keys.retain(|key| key.start >= length);
        for key in &mut self.keys {
            key.start -= length;
            key.end = if key.end == usize::MAX { key.end } else { key.end - length };
        }
        self.read -= length;
        self.stretch = self.stretch.saturating_sub(length);
    }
}

/// Whether a byte can be a part of a private key.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=\\:,- \t\r\n".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(PATTERNS.len(), sources().len());
        assert!(OPENING.is_some());
    }

    #[test]
    fn what_may_go_on_after_white_space_is_open() {
        for (text, begin) in [
            ("use bearer ", Some(4)),
            ("x password = ", Some(2)),
            ("x \"api_key\" ", Some(3)),
            ("password is ", None),
            ("the passwords ", None),
        ] {
            assert_eq!(open(text), begin, "{text:?}");
        }
    }

    #[test]
    fn a_private_key_is_open_until_a_byte_that_cannot_be_a_part_of_it() {
        for (text, begin) in [
            ("say -----BEGIN RSA ", Some(4)),
            ("say -----BEGIN RSA PRIVATE KEY-----\nabc ", Some(4)),
            ("say -----BEGIN a -----BEGIN b ", Some(4)),
            ("say -----BEGIN a é -----BEGIN b ", Some(20)),
            ("say \"-----BEGIN\" and then ", None),
            ("say -----BEGIN a. And then ", None),
            ("say ", None),
        ] {
            for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                let mut keys = OpenKeys::default();
                keys.read_on(&text[..cut]);
                keys.read_on(text);
                assert_eq!(keys.at(text.len()), begin, "{text:?} {cut}");
                let earlier = begin.filter(|begin| begin + KEY_BEGINNING.len() <= cut);
                assert!(earlier.is_none() || keys.at(cut) == earlier, "{text:?} {cut}");
            }
        }
        let mut keys = OpenKeys::default();
        keys.read_on("say -----BEGIN a é -----BEGIN b ");
        keys.forget(20);
        assert_eq!((keys.at(10), keys.at(13)), (None, Some(0)));
        keys.read_on("-----BEGIN b c. d ");
        assert_eq!((keys.at(13), keys.at(18)), (Some(0), None));
    }

    /// Bytes that are searched for all that a pattern finds, one at a time.
    fn searched(pattern: &SecretPattern, text: &str) -> usize {
        let mut candidates = Candidates { pattern, text, from: 0 };
        let mut bytes = 0;
        loop {
            let from = candidates.from;
            match candidates.next() {
                Some(found) => bytes += found.value.end - from,
                None => return bytes + text.len() - from,
            }
        }
    }

    #[test]
    fn texts_that_are_made_of_beginnings_are_searched_about_once_by_each_pattern() {
        let begin = "-----BEGIN RSA PRIVATE KEY-----";
        let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj";
        for piece in [
            "sk-",
            "sk-aaaaaaaaaaaaaaaaaaaaa ",
            "sk-a.",
            "ghp_",
            "github_pat_",
            "AKIA",
            "xoxb-",
            "AIza",
            "eyJaaaaaaaa.",
            "eyJ",
            "bearer ",
            "bearer aaaaaaaaaaaaaaaaaaaa-",
            "secret=",
            "secret==",
            "secret=aaaaaaaaaaaaaaaa",
            "secret=aaaaaaaaaaaaaaaa.",
            "secret=aaaaaaaaaaaaaaaa1(",
            "secret='secret=aaaaaaaaaaaaaaaaaa'",
            "refresh-token:",
            "password = ",
            "-----BEGIN ",
            begin,
            &format!("{begin}\n"),
            &format!("{begin}\nA: b\n"),
            &format!("{begin}\n{line}\n"),
            &format!("{line}\n"),
        ] {
            let text = piece.repeat(20_000 / piece.len());
            for pattern in PATTERNS.iter() {
                let bytes = searched(pattern, &text);
                assert!(bytes <= 2 * text.len(), "{piece:?} {}: {bytes}", pattern.regex);
            }
        }
    }

    #[test]
    fn a_secret_whose_name_ends_a_refused_value_is_found() {
        for (text, value) in [
            ("secret=aaaaaaaaaaaaaaaaaaaaaaaasecret= a1b2c3d4e5f6a7b8", "a1b2c3d4e5f6a7b8"),
            ("secret=aaaaaaaa_refresh_token: a1b2c3d4e5f6a7b8", "a1b2c3d4e5f6a7b8"),
            ("bearer aaaaaaaaaaaaaaaaaaaa-bearer a1b2c3d4e5f6a7b8", "a1b2c3d4e5f6a7b8"),
            ("sk-aaaaaaaaaaaaaaaaaaaaaaaaa sk-a1b2c3d4e5f6a7b8a1b2", "sk-a1b2c3d4e5f6a7b8a1b2"),
        ] {
            let found: Vec<_> = find(text).into_iter().map(|at| &text[at]).collect();
            assert_eq!(found, [value], "{text}");
        }
    }
}
