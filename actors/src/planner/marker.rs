//! List markers: bullets, numbers, letters, check boxes, `Step 2:`, in several scripts.

/// The style of a marker; a numbered list keeps one style.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Style {
    /// `-`, `*`, `+`: bullets at the beginning of a line only.
    Sign,
    /// `•` and other signs that are nothing but bullets.
    Bullet,
    /// `1.`
    NumberDot,
    /// `1)`
    NumberParen,
    /// `1:`, `1-`: only at the beginning of a line, because times and ranges look the same.
    NumberSign,
    /// `(1)`
    NumberFull,
    /// `a.`
    LetterDot,
    /// `a)`
    LetterParen,
    /// `(a)`
    LetterFull,
    /// `①`, `1️⃣`, `1、`, `Step 1:`: unmistakable anywhere.
    Plain,
}

impl Style {
    fn is_letter(self) -> bool {
        matches!(self, Self::LetterDot | Self::LetterParen | Self::LetterFull)
    }
}

/// A marker at the beginning of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Its style.
    pub(super) style: Style,
    /// Its number; letters count from `a` = 1, bullets are 0.
    pub(super) value: u32,
    /// Its number if its letter is a Roman one.
    pub(super) roman: Option<u32>,
    /// Its length in bytes.
    pub(super) len: usize,
}

/// The longest number that marks an item: longer ones are years.
const DIGITS_MAX: usize = 3;

/// The marker at the beginning of `text`. White space or the end must follow it, except for
/// unmistakable ones.
pub(super) fn read(text: &str) -> Option<Marker> {
    let marker = sign(text).or_else(|| labelled(text)).or_else(|| enumerated(text))?;
    let rest = &text[marker.len..];
    let tight = matches!(marker.style, Style::Bullet | Style::Plain)
        || matches!(marker.style, Style::NumberParen) && rest.starts_with(char::is_alphabetic)
        || marker.style == Style::NumberDot
            && rest.starts_with(|c: char| c.is_uppercase() || c.is_alphabetic() && !c.is_ascii());
    (tight || rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(marker)
}

fn sign(text: &str) -> Option<Marker> {
    let first = text.chars().next()?;
    let style = match first {
        '-' | '*' | '+' | '–' | '—' => Style::Sign,
        '•' | '‣' | '◦' | '▪' | '▫' | '●' | '○' | '■' | '□' | '➤' | '▶' | '➢' | '☐' | '☑'
        | '✅' | '✔' | '✓' => Style::Bullet,
        '①'..='⑳' => {
            let value = u32::from(first) - u32::from('①') + 1;
            return Some(Marker { style: Style::Plain, value, roman: None, len: first.len_utf8() });
        }
        _ => return None,
    };
    // The emoji form of a sign is the sign and a variation selector.
    let selector = text[first.len_utf8()..].starts_with('\u{fe0f}');
    let len = first.len_utf8() + if selector { '\u{fe0f}'.len_utf8() } else { 0 };
    Some(Marker { style, value: 0, roman: None, len })
}

/// `Step 1:`, `Step 2 -`, `Schritt 3.`
fn labelled(text: &str) -> Option<Marker> {
    const LABELS: &[&str] =
        &["step", "schritt", "étape", "etape", "paso", "passo", "stap", "шаг", "krok"];
    let end = text.find(|c: char| !c.is_alphabetic())?;
    let (word, rest) = text.split_at(end);
    if word.len() > 12 || !LABELS.contains(&word.to_lowercase().as_str()) {
        return None;
    }
    let spaces = rest.len() - rest.trim_start_matches([' ', '#']).len();
    let (value, digits) = number(&rest[spaces..]).or_else(|| numeral(&rest[spaces..]))?;
    let tail = &rest[spaces + digits..];
    let stop = tail.trim_start_matches(' ');
    let gap = tail.len() - stop.len();
    let sign =
        stop.chars().next().filter(|c| matches!(c, ':' | '.' | ')' | '-' | '–' | '—' | '：'))?;
    if !stop[sign.len_utf8()..].starts_with(char::is_whitespace) {
        return None;
    }
    let len = end + spaces + digits + gap + sign.len_utf8();
    Some(Marker { style: Style::Plain, value, roman: None, len })
}

/// Numbers and letters with a dot or parentheses, keycaps, `1、` and `一、`.
fn enumerated(text: &str) -> Option<Marker> {
    let (inner, open) = match text.chars().next()? {
        '(' => (&text[1..], 1),
        '（' => (&text['（'.len_utf8()..], '（'.len_utf8()),
        _ => (text, 0),
    };
    let (value, len, is_number) = match number(inner) {
        Some((value, len)) => (value, len, true),
        None => letter(inner).map(|(value, len)| (value, len, false))?,
    };
    let rest = &inner[len..];
    let roman = if is_number { None } else { roman(&inner[..len]) };
    let doubled = |first: &str, second: char| {
        rest.strip_prefix(first).is_some_and(|it| {
            it.strip_prefix(second)
                .is_some_and(|it| it.is_empty() || it.starts_with(char::is_whitespace))
        })
    };
    if open == 0 && is_number && rest.starts_with("\u{fe0f}\u{20e3}") {
        let len = len + "\u{fe0f}\u{20e3}".len();
        return Some(Marker { style: Style::Plain, value, roman: None, len });
    }
    let closer = rest.chars().next()?;
    let style = match (closer, open > 0, is_number) {
        (')' | '）', true, true) => Style::NumberFull,
        (')' | '）', true, false) => Style::LetterFull,
        (')' | '）', false, true) => Style::NumberParen,
        (')' | '）', false, false) => Style::LetterParen,
        ('.' | '．', false, true) => Style::NumberDot,
        ('.', false, false) => Style::LetterDot,
        (':' | '-', false, true) => Style::NumberSign,
        ('、', false, true) => Style::Plain,
        _ => return None,
    };
    let len = open + len + closer.len_utf8();
    // `1.)` and `(1).`
    if open == 0 && doubled(".", ')') {
        let style = if is_number { Style::NumberParen } else { Style::LetterParen };
        return Some(Marker { style, value, roman, len: len + 1 });
    }
    let stop = open > 0 && doubled(")", '.');
    Some(Marker { style, value, roman, len: len + usize::from(stop) })
}

/// The number at the beginning of `text`, and its length in bytes.
fn number(text: &str) -> Option<(u32, usize)> {
    if let Some(at) =
        text.chars().next().and_then(|c| "一二三四五六七八九十".chars().position(|it| it == c))
    {
        let next_is_comma = text.chars().nth(1) == Some('、');
        return next_is_comma.then(|| (u32::try_from(at).unwrap_or(0) + 1, '一'.len_utf8()));
    }
    let (mut value, mut len, mut digits) = (0, 0, 0);
    for c in text.chars() {
        let Some(digit) = digit(c) else { break };
        digits += 1;
        if digits > DIGITS_MAX {
            return None;
        }
        value = value * 10 + digit;
        len += c.len_utf8();
    }
    (digits > 0).then_some((value, len))
}

/// The English numeral at the beginning of `text`, and its length in bytes.
fn numeral(text: &str) -> Option<(u32, usize)> {
    const NUMERALS: &[&str] =
        &["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let len = text.bytes().take("seven".len() + 1).take_while(u8::is_ascii_alphabetic).count();
    let word = text.get(..len)?;
    (1..)
        .zip(NUMERALS)
        .find(|(_, numeral)| word.eq_ignore_ascii_case(numeral))
        .map(|(value, _)| (value, len))
}

fn digit(c: char) -> Option<u32> {
    // The zeros of the decimal systems likely in goals.
    const ZEROS: &[char] =
        &['0', '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{e50}', '\u{ff10}'];
    ZEROS
        .iter()
        .find_map(|zero| u32::from(c).checked_sub(u32::from(*zero)).filter(|digit| *digit < 10))
}

/// A single letter, or a small Roman number of at least two.
fn letter(text: &str) -> Option<(u32, usize)> {
    let len = text.bytes().take(ROMAN_BYTES_MAX + 1).take_while(u8::is_ascii_alphabetic).count();
    let word = text.get(..len)?;
    if let [byte] = word.as_bytes() {
        return Some((u32::from(byte.to_ascii_lowercase() - b'a') + 1, 1));
    }
    let uniform = word.bytes().all(|byte| byte.is_ascii_lowercase())
        || word.bytes().all(|byte| byte.is_ascii_uppercase());
    roman(word).filter(|_| uniform).map(|value| (value, len))
}

/// The longest Roman number that marks an item, `xxxviii`, in bytes.
const ROMAN_BYTES_MAX: usize = 7;

/// The value of `word` as a Roman number below forty, in either case.
pub(super) fn roman(word: &str) -> Option<u32> {
    const UNITS: [&str; 10] = ["", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix"];
    let word = word.to_ascii_lowercase();
    (1_u8..40)
        .find(|value| {
            let (tens, units) = (usize::from(value / 10), usize::from(value % 10));
            word.strip_prefix(&"xxx"[..tens]) == Some(UNITS[units])
        })
        .map(u32::from)
}

/// The meaning of a list's letters: `b.` is an initial unless there is an `a.`, and `i)` is 1 if
/// there is an `ii)`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lists {
    letters: bool,
    roman: bool,
}

impl Lists {
    /// The letter lists whose markers begin `lines`.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        const MARKS: [&str; 4] = ["a", "b", "i", "ii"];
        let mut seen: Vec<(Style, &str)> = Vec::new();
        for line in lines {
            let line = line.trim_start();
            let Some(marker) = read(line).filter(|marker| marker.style.is_letter()) else {
                continue;
            };
            let word = line.trim_start_matches(['(', '（']);
            let word = word.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
            let known = MARKS.iter().find(|known| word.eq_ignore_ascii_case(known));
            if let Some(known) = known
                && !seen.contains(&(marker.style, known))
            {
                seen.push((marker.style, known));
            }
        }
        let both = |first: &str, second: &str| {
            seen.iter().any(|(style, word)| *word == first && seen.contains(&(*style, second)))
        };
        Self { letters: both("a", "b"), roman: both("i", "ii") && !both("a", "b") }
    }

    /// The same plus lists written on one line: `(i) fetch (ii) parse`.
    pub(super) fn and_in_lines(self, text: &str) -> Self {
        let words = text.split_whitespace().filter(|word| word.ends_with([')', '）']));
        Self { roman: self.roman || Self::of(words).roman, ..self }
    }

    /// The marker at the beginning of `text`.
    pub(super) fn read(self, text: &str) -> Option<Marker> {
        let marker = read(text)?;
        if !marker.style.is_letter() {
            return Some(marker);
        }
        if marker.style == Style::LetterDot && !self.letters && !self.roman {
            return None;
        }
        match marker.roman {
            Some(value) if self.roman => Some(Marker { value, ..marker }),
            _ if self.roman && marker.style == Style::LetterDot => None,
            _ => Some(marker),
        }
    }
}

/// Whether `text` begins like a list item of `CommonMark`.
pub(super) fn is_common(text: &str) -> bool {
    text.starts_with(['-', '+', '*']) || text.starts_with(|c: char| c.is_ascii_digit())
}

/// A check box at the beginning of `text`: whether it is ticked, and its length in bytes.
pub(super) fn check_box(text: &str) -> Option<(bool, usize)> {
    if let Some(first) = text.chars().next()
        && matches!(first, '☐' | '☑' | '✅' | '✔' | '✓')
    {
        return Some((first != '☐', first.len_utf8()));
    }
    let inner = text.strip_prefix('[')?;
    let (mark, len) = match inner.chars().next()? {
        ']' => (' ', 0),
        mark => (mark, mark.len_utf8()),
    };
    let done = match mark {
        ' ' => false,
        'x' | 'X' | '✓' | '✔' | '*' => true,
        _ => return None,
    };
    let rest = inner[len..].strip_prefix(']')?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some((done, len + 2))
}
