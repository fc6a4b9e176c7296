//! Whether a program in a language other than Python is complete, for fences that might close in
//! the middle of a line.

/// Whether nothing is open at the end of `source`: no quote, comment, here-document or bracket.
pub(super) fn is_closed(source: &str, language: &str) -> bool {
    match language {
        "bash" | "sh" => shell(source),
        "javascript" | "js" | "node" => script(source),
        // A program that cannot run does no harm.
        _ => true,
    }
}

fn shell(source: &str) -> bool {
    let mut here: Vec<(String, bool)> = Vec::new();
    let mut quote = None;
    let mut lines = source.split('\n');
    while let Some(line) = lines.next() {
        let mut before = ' ';
        let mut chars = line.char_indices();
        let mut continued = false;
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (None | Some('"'), '\\') => continued = chars.next().is_none(),
                (None, '\'' | '"') => quote = Some(c),
                // A comment extends to the end of its line: at the end of the source it is open.
                (None, '#') if before.is_whitespace() || before == ';' => {
                    if lines.clone().next().is_none() {
                        return false;
                    }
                    break;
                }
                (None, '<') if line[at..].starts_with("<<<") => {
                    chars.by_ref().take(2).for_each(drop);
                }
                (None, '<') if line[at..].starts_with("<<") => {
                    here.extend(delimiter(&line[at + 2..]));
                    chars.next();
                }
                _ => {}
            }
            before = c;
        }
        if continued && lines.clone().next().is_none() {
            return false;
        }
        if quote.is_none() {
            for (delimiter, indented) in here.drain(..) {
                let ends = |line: &str| {
                    let line = if indented { line.trim_start_matches('\t') } else { line };
                    line == delimiter
                };
                if !lines.any(ends) {
                    return false;
                }
            }
        }
    }
    quote.is_none() && here.is_empty()
}

/// The word that ends a here-document, from the text after its `<<`, and whether tabs may precede
/// it.
fn delimiter(text: &str) -> Option<(String, bool)> {
    let indented = text.starts_with('-');
    let text = text.trim_start_matches('-').trim_start_matches([' ', '\t']);
    let end = text
        .find(|c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | ')' | '>' | '<'))
        .unwrap_or(text.len());
    let word: String = text[..end].chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect();
    // `1 << 2` shifts.
    (word.starts_with(|c: char| c.is_alphabetic() || c == '_')).then_some((word, indented))
}

fn script(source: &str) -> bool {
    let mut open = 0_i32;
    let mut quote = None;
    let mut rest = source.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(_), '\\') => drop(rest.next()),
            (Some('\'' | '"'), '\n') => quote = None,
            (Some(mark), c) if c == mark => quote = None,
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '(' | '[' | '{') => open += 1,
            (None, ')' | ']' | '}') => open -= 1,
            (None, '/') if rest.as_str().starts_with('/') => {
                let Some(end) = rest.as_str().find('\n') else { return false };
                rest = rest.as_str()[end..].chars();
            }
            (None, '/') if rest.as_str().starts_with('*') => {
                let Some(end) = rest.as_str().find("*/") else { return false };
                rest = rest.as_str()[end + 2..].chars();
            }
            _ => {}
        }
    }
    quote.is_none() && open == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_told_from_what_is_closed() {
        for (language, source) in [
            ("bash", "echo a\n# wrap it in\necho \"it's\""),
            ("bash", "cat <<'EOF'\nit's\nEOF\necho $((1 << 2))"),
            ("sh", "cat <<-A; cat <<B\n\tA\nB\n"),
            ("bash", "cat <<< word"),
            ("bash", "echo it\\'s $#"),
            ("js", "f({a: [1]}) // it's\n/* ( */ 'a(' + `b${1}`"),
        ] {
            assert!(is_closed(source, language), "{source:?}");
        }
        for (language, source) in [
            ("bash", "echo a\n# wrap it in "),
            ("bash", "echo 'a"),
            ("bash", "cat <<EOF\nuse "),
            ("bash", "echo a \\"),
            ("js", "const a = `"),
            ("js", "f(() => {"),
            ("js", "f() // use "),
            ("js", "/* use "),
        ] {
            assert!(!is_closed(source, language), "{source:?}");
        }
    }
}
