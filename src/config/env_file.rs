//! `.env`: our lines of a file that is shared with other programs.
//!
//! *Promises.* Only lines that set a variable of ours matter; each of them is read, or refused by
//! its line number. All other lines may have any content: values with blanks, unclosed quotes,
//! bytes that are not UTF-8. Error messages never show a line's content: users keep secrets in this
//! file.
//!
//! *Format.* `NAME=value`, optionally preceded by `export`, as in shells and other readers of such
//! files. Quotes of either kind preserve white space; outside single quotes a backslash escapes one
//! of `` \ ' " $ `` and the blank (`\n` is a line break), and `$NAME` or `${NAME}` is the value of
//! an environment variable, or else of an earlier line. A foreign value may span several lines in
//! quotes; lines within it are not ours. Our values take one line.
//!
//! *Not here.* Existing readers (`dotenvy`) parse the file as a whole: the first foreign line they
//! do not understand ends them, or swallows ours.
//!
//! *Limits.* [`FILE_BYTES_MAX`]. Our lines can refer to foreign values up to
//! [`KNOWN_VALUE_BYTES_MAX`].

use std::{collections::HashMap, ffi::OsString, str};

use ai_factory_schemas::encoding::has_other_mark;

use super::names::VARIABLE_PREFIX;

/// Maximum file size, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Maximum size of a foreign value that our lines can refer to, in bytes.
const KNOWN_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Number of foreign values that our lines can refer to.
const KNOWN_VALUES_MAX: usize = 4_096;

/// UTF-8's byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Quotes around a value that spans several lines. The backtick is a quote for some readers only.
const QUOTES: &[u8] = b"\"'`";

/// One of our lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OwnLine {
    /// Its number, from 1.
    pub(super) number: usize,
    /// The variable's name.
    pub(super) name: String,
    /// Its value.
    pub(super) value: String,
}

/// Why one of our lines cannot be read.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Slip {
    #[error("write a variable as `NAME=value`, with quotes around white space")]
    NoAssignment,
    #[error("the quote is not closed on its line")]
    OpenQuote,
    #[error(
        "the value is followed by text that is not a comment: write `NAME=value`, with quotes \
         around white space"
    )]
    Trailing,
    #[error("unknown escape: write `\\\\` for a backslash, or put the value into single quotes")]
    Escape,
    #[error(
        "a `$` refers to a variable that is not set: put the value into single quotes for a \
         literal `$`"
    )]
    Variable,
    #[error("it is not UTF-8 text")]
    NotUtf8,
    #[error("the file is UTF-16 or UTF-32 text: save it as UTF-8")]
    OtherEncoding,
}

/// Our lines of a file, in order; or the number of the first invalid one. `$NAME` is looked up in
/// `environment`.
pub(super) fn own_lines(
    bytes: &[u8],
    environment: &[(OsString, OsString)],
) -> Result<Vec<OwnLine>, (usize, Slip)> {
    if has_other_mark(bytes) {
        return match first_own_of_utf16(bytes) {
            Some(number) => Err((number, Slip::OtherEncoding)),
            None => Ok(Vec::new()),
        };
    }
    let mut own = Vec::new();
    let mut known = Variables { environment, lines: HashMap::new() };
    let mut lines = EnvLines { rest: bytes, number: 0 };
    while let Some((number, line)) = lines.next() {
        if is_own(line) {
            let text = str::from_utf8(line).map_err(|_| (number, Slip::NotUtf8))?;
            let (name, value) = assignment(text, &known).map_err(|slip| (number, slip))?;
            own.push(OwnLine { number, name: name.to_owned(), value: value.clone() });
            known.note(name, value);
        } else if let Some(behind) = open_quote(line).and_then(|quote| closed(&lines, quote)) {
            lines = behind;
        } else if let Some((name, value)) =
            str::from_utf8(line).ok().and_then(|text| assignment(text, &known).ok())
        {
            known.note(name, value);
        }
    }
    Ok(own)
}

/// `EnvLines` without their terminator: LF, CR LF or CR.
#[derive(Clone)]
struct EnvLines<'a> {
    rest: &'a [u8],
    /// Number of the line before `rest`.
    number: usize,
}

impl<'a> Iterator for EnvLines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let ending = if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) };
        self.rest = &rest[ending..];
        self.number += 1;
        Some((self.number, line.strip_prefix(MARK).unwrap_or(line)))
    }
}

/// Variables that values can refer to.
struct Variables<'a> {
    environment: &'a [(OsString, OsString)],
    /// Set by earlier lines.
    lines: HashMap<String, String>,
}

impl Variables<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let set = self.environment.iter().find(|(n, _)| n == name);
        set.and_then(|(_, value)| value.to_str()).or(self.lines.get(name).map(String::as_str))
    }

    fn note(&mut self, name: &str, value: String) {
        let has_room = self.lines.len() < KNOWN_VALUES_MAX || self.lines.contains_key(name);
        if has_room && name.len() + value.len() <= KNOWN_VALUE_BYTES_MAX {
            self.lines.insert(name.to_owned(), value);
        }
    }
}

/// A line without leading white space and `export`.
fn after_export(line: &[u8]) -> &[u8] {
    let line = line.trim_ascii_start();
    match line.strip_prefix(b"export") {
        Some(rest) if rest.first().is_some_and(u8::is_ascii_whitespace) => rest.trim_ascii_start(),
        _ => line,
    }
}

fn is_own(line: &[u8]) -> bool {
    after_export(line).starts_with(VARIABLE_PREFIX.as_bytes())
}

/// The quote that opens a foreign value and is not closed on its line.
fn open_quote(line: &[u8]) -> Option<u8> {
    let line = after_export(line);
    let is_comment = line.starts_with(b"#");
    let at = line.iter().position(|byte| *byte == b'=').filter(|_| !is_comment)?;
    let value = line[at + 1..].trim_ascii_start();
    let quote = value.first().copied().filter(|byte| QUOTES.contains(byte))?;
    behind_quote(&value[1..], quote).is_none().then_some(quote)
}

/// The text after the first `quote`, if there is one.
fn behind_quote(text: &[u8], quote: u8) -> Option<&[u8]> {
    let mut is_escaped = false;
    let at = text.iter().position(|byte| {
        let closes = *byte == quote && !is_escaped;
        is_escaped = quote == b'"' && *byte == b'\\' && !is_escaped;
        closes
    })?;
    Some(&text[at + 1..])
}

/// The lines after a value that spans several lines: the next `quote` must be the last thing on its
/// line. Otherwise the opening quote was never closed.
fn closed<'a>(lines: &EnvLines<'a>, quote: u8) -> Option<EnvLines<'a>> {
    let mut ahead = lines.clone();
    while let Some((_, line)) = ahead.next() {
        if let Some(behind) = behind_quote(line, quote) {
            let behind = behind.trim_ascii_start();
            return (behind.is_empty() || behind.starts_with(b"#")).then_some(ahead);
        }
    }
    None
}

/// The variable name and value in a line.
fn assignment<'a>(line: &'a str, known: &Variables<'_>) -> Result<(&'a str, String), Slip> {
    let line = line.trim();
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim_start(),
        _ => line,
    };
    let (name, value) = line.split_once('=').ok_or(Slip::NoAssignment)?;
    let name = name.trim_end();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.is_empty()
        || name.starts_with(|c: char| c.is_ascii_digit())
        || !name.chars().all(is_name)
    {
        return Err(Slip::NoAssignment);
    }
    let value = value.trim_start();
    let value = if value.starts_with('#') { String::new() } else { unquoted(value, known)? };
    Ok((name, value))
}

/// Resolves quotes, escapes and references of a value.
fn unquoted(value: &str, known: &Variables<'_>) -> Result<String, Slip> {
    let mut text = String::with_capacity(value.len());
    let mut quote = None;
    let mut rest = value;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match (c, quote) {
            ('\'', Some('\'')) | ('"', Some('"')) => quote = None,
            (c, Some('\'')) => text.push(c),
            ('\'' | '"', None) => quote = Some(c),
            ('\\', _) => {
                let escaped = rest.chars().next().ok_or(Slip::Escape)?;
                text.push(match escaped {
                    '\\' | '\'' | '"' | '$' | ' ' => escaped,
                    'n' => '\n',
                    _ => return Err(Slip::Escape),
                });
                rest = &rest[escaped.len_utf8()..];
            }
            ('$', _) => {
                let (name, behind) = reference(rest).ok_or(Slip::Variable)?;
                text.push_str(known.value(name).ok_or(Slip::Variable)?);
                rest = behind;
            }
            (c, None) if c.is_whitespace() => {
                let rest = rest.trim_start();
                let is_over = rest.is_empty() || rest.starts_with('#');
                return if is_over { Ok(text) } else { Err(Slip::Trailing) };
            }
            (c, _) => text.push(c),
        }
    }
    if quote.is_some() { Err(Slip::OpenQuote) } else { Ok(text) }
}

/// The name after a `$`, and the rest.
fn reference(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len())),
    };
    Some((name, rest)).filter(|(name, _)| !name.is_empty())
}

/// The number of the first of our lines in UTF-16 text.
fn first_own_of_utf16(bytes: &[u8]) -> Option<usize> {
    let unit = if bytes.starts_with(b"\xff\xfe") { u16::from_le_bytes } else { u16::from_be_bytes };
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        // In UTF-32 every second unit is zero.
        .filter(|c| *c != '\0')
        .collect();
    let mut lines = EnvLines { rest: text.as_bytes(), number: 0 };
    lines.find(|(_, line)| is_own(line)).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Vec<(OsString, OsString)> {
        vec![("HOME_DIR".into(), "/me".into()), ("BASE".into(), "/environment".into())]
    }

    /// Variable names without the prefix, and their values.
    fn read(text: impl AsRef<[u8]>) -> Vec<(String, String)> {
        let own = own_lines(text.as_ref(), &environment()).unwrap();
        let short = |line: OwnLine| {
            (line.name.strip_prefix(VARIABLE_PREFIX).unwrap().to_owned(), line.value)
        };
        own.into_iter().map(short).collect()
    }

    fn refused(text: impl AsRef<[u8]>) -> (usize, Slip) {
        own_lines(text.as_ref(), &environment()).unwrap_err()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lines_of_others_do_not_matter_whatever_they_look_like() {
        for others in [
            "NAME=two words",
            "no assignment at all",
            "=",
            "1=2",
            "MOTD=it's \"fine",
            "OPEN=\"never closed",
            "OPEN='never closed",
            "OPEN=`never closed",
            "PRICE=$",
            "PATTERN=^\\d+$",
            "A=${UNSET:-x}",
            "A=$(date)",
            "KEY: value",
            "[section]",
            "{\"json\": true}",
            "export PLAIN",
            "export OTHER='a' 'b'",
            "CERT=\"-----BEGIN\nMIIB=\n-----END\"",
            "CERT='one\n# two\n\nthree' # a comment",
            "XAI_FACTORY_PORT=2",
            "ai_factory_port=2",
            "#AI_FACTORY_PORT=2",
            "# export AI_FACTORY_PORT=2",
            "cat <<END\nit's\nEND",
            "\0\u{1}\u{7f}",
            "",
        ] {
            let text = format!("{others}\nAI_FACTORY_PORT=1\n{others}\n");
            assert_eq!(read(&text), pairs(&[("PORT", "1")]), "{others}");
            assert_eq!(read(text.replace('\n', "\r\n")), pairs(&[("PORT", "1")]), "{others}");
        }
        let binary = b"X=\xff\xfe\n\xc3\nAI_FACTORY_PORT=1\nY=\xe4".to_vec();
        assert_eq!(read(binary), pairs(&[("PORT", "1")]));
        let long = format!("X={}\nAI_FACTORY_PORT=1", "x".repeat(1 << 20));
        assert_eq!(read(long), pairs(&[("PORT", "1")]));
    }

    #[test]
    fn our_lines_are_read_as_shells_read_them() {
        for (line, value) in [
            ("AI_FACTORY_NODE=east", "east"),
            ("  export\tAI_FACTORY_NODE = east  ", "east"),
            ("\u{feff}AI_FACTORY_NODE=east", "east"),
            ("AI_FACTORY_NODE=", ""),
            ("AI_FACTORY_NODE=# nothing", ""),
            ("AI_FACTORY_NODE=a # a comment", "a"),
            ("AI_FACTORY_NODE=a#b", "a#b"),
            ("AI_FACTORY_NODE=a=b==", "a=b=="),
            ("AI_FACTORY_NODE='a b' # it's", "a b"),
            ("AI_FACTORY_NODE=\"a \\\"b\\\" \\$c\"", "a \"b\" $c"),
            ("AI_FACTORY_NODE='$BASE \\n'", "$BASE \\n"),
            ("AI_FACTORY_NODE=a' b'\"c\"", "a bc"),
            ("AI_FACTORY_NODE=s\\ ix", "s ix"),
            ("AI_FACTORY_NODE=$HOME_DIR/x", "/me/x"),
            ("AI_FACTORY_NODE=\"${HOME_DIR}x\"", "/mex"),
            ("AI_FACTORY_NODE=ä", "ä"),
        ] {
            for ending in ["", "\n", "\r\n", "\r"] {
                assert_eq!(read(format!("{line}{ending}")), pairs(&[("NODE", value)]), "{line}");
            }
        }
    }

    #[test]
    fn a_variable_is_that_of_the_environment_or_else_of_an_earlier_line() {
        let text = "BASE=/file\nROOT=/srv\nDEEP=\"$ROOT/deep\"\nAI_FACTORY_A=$BASE\n\
                    AI_FACTORY_B=$DEEP/x\nAI_FACTORY_C=${AI_FACTORY_B}y\n";
        let expected = pairs(&[("A", "/environment"), ("B", "/srv/deep/x"), ("C", "/srv/deep/xy")]);
        assert_eq!(read(text), expected);
    }

    #[test]
    fn a_line_of_ours_that_is_broken_is_refused_by_its_number() {
        for (line, slip) in [
            ("AI_FACTORY_PORT", Slip::NoAssignment),
            ("export AI_FACTORY_PORT", Slip::NoAssignment),
            ("AI_FACTORY_PORT: 1", Slip::NoAssignment),
            ("AI_FACTORY_PO RT=1", Slip::NoAssignment),
            ("AI_FACTORY_NODE=\"a", Slip::OpenQuote),
            ("AI_FACTORY_NODE='a", Slip::OpenQuote),
            ("AI_FACTORY_NODE=two words", Slip::Trailing),
            ("AI_FACTORY_NODE='two' words", Slip::Trailing),
            ("AI_FACTORY_NODE=C:\\temp", Slip::Escape),
            ("AI_FACTORY_NODE=a\\", Slip::Escape),
            ("AI_FACTORY_NODE=$UNSET", Slip::Variable),
            ("AI_FACTORY_NODE=${UNSET", Slip::Variable),
            ("AI_FACTORY_NODE=pa$$word", Slip::Variable),
        ] {
            let text = format!("OPEN=\"x\n\nOTHER=two words\n{line}\nX=\"y\" z\n");
            assert_eq!(refused(&text), (4, slip), "{line}");
            assert_eq!(refused(text.replace('\n', "\r\n")), (4, slip), "{line}");
        }
        assert_eq!(refused(b"A=1\nAI_FACTORY_NODE=\xff\n"), (2, Slip::NotUtf8));
    }

    #[test]
    fn what_stands_in_a_value_of_others_is_theirs() {
        let theirs = "EXAMPLE=\"put this into .env:\nAI_FACTORY_PORT=2\n\"\nAI_FACTORY_PORT=1";
        assert_eq!(read(theirs), pairs(&[("PORT", "1")]));
        // A quote that is not the last thing on its line closes nothing: the first one was a typo.
        let slip = "OPEN=\"x\nAI_FACTORY_PORT=1\nOTHER=\"y\"\n";
        assert_eq!(read(slip), pairs(&[("PORT", "1")]));
    }

    #[test]
    fn utf_16_is_refused_where_a_line_of_it_is_ours() {
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let encoded = |text: &str| -> Vec<u8> {
                std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect()
            };
            let ours = encoded("A=1\r\nexport AI_FACTORY_PORT=1\r\n");
            assert_eq!(refused(ours), (2, Slip::OtherEncoding));
            assert_eq!(read(encoded("A=1\r\nB=2\r\n")), pairs(&[]));
        }
    }
}
