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
/// How every private key begins.
const KEY_BEGINNING: &str = "-----BEGIN ";

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

/// The places of what looks like a secret.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for SecretPattern { regex, accept } in PATTERNS.iter() {
        let mut from = 0;
        while let Some((whole, secret)) = regex.captures_at(text, from).and_then(|it| places(&it)) {
            if accept(text, secret.clone()) {
                from = whole.end;
                found.push(secret);
            } else {
                // Every pattern begins with an ASCII character.
                from = secret.start.max(whole.start + 1);
            }
        }
    }
    found
}

fn places(found: &Captures<'_>) -> Option<(Range<usize>, Range<usize>)> {
    Some((found.get(0)?.range(), found.get(1)?.range()))
}

/// Where a secret may begin that goes on after the end of a text that ends with white space.
pub(super) fn open(text: &str) -> Option<usize> {
    let tail = text.ceil_char_boundary(text.len().saturating_sub(OPENING_BYTES_MAX));
    let opening = OPENING.as_ref().and_then(|regex| regex.find(&text[tail..]));
    let opening = opening.map(|found| tail + found.start());
    opening.into_iter().chain(open_key(text)).min()
}

/// Where a private key begins of which everything up to the end can be a part.
fn open_key(text: &str) -> Option<usize> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=\\:,- \t\r\n".contains(byte);
    // A byte after one that cannot be a part is at a boundary if it can be one: it is ASCII.
    let from = text.bytes().rposition(|byte| !is_part(&byte)).map_or(0, |at| at + 1);
    text[from..].find(KEY_BEGINNING).map(|at| from + at)
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
            ("say -----BEGIN RSA ", Some(4)),
            ("say -----BEGIN RSA PRIVATE KEY-----\nabc ", Some(4)),
            ("say \"-----BEGIN\" and then ", None),
            ("password is ", None),
            ("the passwords ", None),
        ] {
            assert_eq!(open(text), begin, "{text:?}");
        }
    }
}
