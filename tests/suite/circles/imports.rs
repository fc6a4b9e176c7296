//! Reads the paths in a file as text.

/// The identifiers and signs of a source text, without comments, strings and test modules.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '\'' {
            character(rest)
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let length = end.unwrap_or(rest.len());
            tokens.push(&rest[..length]);
            length
        } else if rest.starts_with("::") {
            tokens.push("::");
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(&rest[..first.len_utf8()]);
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    without_tests(&tokens)
}

/// The length of the string literal at the beginning.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    text.len()
}

/// The length of the raw string literal at the beginning, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let body = ["br", "cr", "r"].into_iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let content = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content.find(&end).map_or(content.len(), |at| at + end.len());
    Some(text.len() - content.len() + length)
}

/// The length of the character literal, or of the quote of a lifetime, at the beginning.
fn character(text: &str) -> usize {
    let mut inner = text[1..].chars();
    match (inner.next(), inner.next()) {
        (Some('\\'), Some(escaped)) => {
            let from = 2 + escaped.len_utf8();
            text[from..].find('\'').map_or(text.len(), |end| from + end + 1)
        }
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 1,
    }
}

/// Leaves out each `#[cfg(test)] mod … { … }` and `#[cfg(test)] mod …;`.
fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at..].starts_with(&TEST) && tokens.get(at + TEST.len()) == Some(&"mod") {
            at += TEST.len() + 2;
            at = if tokens.get(at) == Some(&"{") { behind_block(tokens, at) } else { at + 1 };
        } else {
            kept.push(tokens[at]);
            at += 1;
        }
    }
    kept
}

/// The index behind the block that begins with the brace at `at`.
fn behind_block(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match *token {
            "{" => depth += 1,
            "}" if depth == 1 => return index + 1,
            "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// A path as written, or the name of a module: its segments.
pub(super) type Segments = Vec<String>;

/// The modules that a file declares in files of their own.
pub(super) fn declared(tokens: &[&str]) -> Vec<String> {
    let declared = tokens.windows(3).filter(|three| three[0] == "mod" && three[2] == ";");
    declared.map(|three| three[1].to_owned()).collect()
}

/// The paths in the use tree that begins at `at`, each behind `prefix`; returns what is behind it.
fn use_tree(tokens: &[&str], mut at: usize, prefix: &[String], paths: &mut Vec<Segments>) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match *token {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    at = use_tree(tokens, at, &path, paths);
                    at += usize::from(tokens.get(at) == Some(&","));
                }
                return at + 1;
            }
            "as" => at += 2,
            "::" | "*" => at += 1,
            "," | ";" | "}" => break,
            segment => {
                path.push(segment.to_owned());
                at += 1;
            }
        }
    }
    paths.push(path);
    at
}

/// Every path in a file, with the name of the inline module in which it stands.
pub(super) fn paths(tokens: &[&str]) -> Vec<(Option<String>, Segments)> {
    let (mut found, mut inline, mut at): (_, Option<(String, usize)>, _) = (Vec::new(), None, 0);
    while at < tokens.len() {
        if inline.as_ref().is_some_and(|(_, end)| at >= *end) {
            inline = None;
        }
        let here = inline.as_ref().map(|(name, _)| name.clone());
        match tokens[at] {
            "mod" if tokens.get(at + 2) == Some(&"{") => {
                inline = Some((tokens[at + 1].to_owned(), behind_block(tokens, at + 2)));
                at += 3;
            }
            // The path of a visibility.
            "pub" if tokens.get(at + 1) == Some(&"(") => {
                at += tokens[at..].iter().position(|token| *token == ")").unwrap_or_default() + 1;
            }
            // The lifetimes that a return type captures.
            "use" if tokens.get(at + 1) == Some(&"<") => at += 2,
            "use" => {
                let mut paths = Vec::new();
                at = use_tree(tokens, at + 1, &[], &mut paths);
                found.extend(paths.into_iter().map(|path| (here.clone(), path)));
            }
            first if first.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                let mut path = vec![first.to_owned()];
                let is_path = at == 0 || !["::", "."].contains(&tokens[at - 1]);
                at += 1;
                while let [colons, segment, ..] = tokens[at..]
                    && colons == "::"
                    && segment.starts_with(|c: char| c.is_alphabetic() || c == '_')
                {
                    path.push(segment.to_owned());
                    at += 2;
                }
                if is_path && path.len() > 1 {
                    found.push((here, path));
                }
            }
            _ => at += 1,
        }
    }
    found
}
