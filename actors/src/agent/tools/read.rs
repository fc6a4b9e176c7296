//! The tool `read_file`: lines of a text file. They come without numbers, so that what is read is
//! what `edit_file` looks for.

use ai_factory_schemas::turn::ToolOutcome;
use serde::Deserialize;

use super::{
    arguments,
    files::{self, file_name},
    terms::{ToolEnd, ToolTerms},
};
use crate::{
    agent::{
        fences::FencedWriter,
        results::RESULT_BYTES_MAX,
        tool_names::{READ_FILE, RUN},
    },
    deps::Deps,
    mask::{MASKED, Mask},
};

/// Lines that are shown, together, in bytes: the rest of a result is for what is said about them.
const LINES_BYTES_MAX: usize = RESULT_BYTES_MAX - 1024;
/// The longest line, in characters; a longer one is cut.
const LINE_CHARS_MAX: usize = 2_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadArguments {
    path: String,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    limit: Option<usize>,
}

/// Carries out a call of `read_file`.
pub(super) async fn perform(deps: &Deps, terms: &ToolTerms, arguments: &str) -> ToolEnd {
    let mask = &*deps.mask;
    let asked: ReadArguments = match arguments::read(READ_FILE, arguments) {
        Ok(asked) => asked,
        Err(fault) => return ToolEnd::sentence(ToolOutcome::Invalid, fault, mask),
    };
    let file = match files::file_at(&terms.files, &asked.path, mask) {
        Ok(file) => file,
        Err(end) => return *end,
    };
    match files::load(&*deps.journal, &asked.path, file).await {
        Ok(content) => part(&asked, &content, mask),
        Err(fault) => fault.end(&asked.path, FencedWriter::new(mask)),
    }
}

/// The end of a call on a file with this content.
fn part(asked: &ReadArguments, content: &[u8], mask: &Mask) -> ToolEnd {
    let mut text = FencedWriter::new(mask);
    let name = file_name(&text, &asked.path);
    let bytes = content.len();
    let Some(content) = files::as_text(content) else {
        text.say(format!("{name} is no text: {}, {bytes} bytes.", kind(content)));
        return ToolEnd::new(ToolOutcome::Done, text.finish());
    };
    let shown = text.shown(content);
    let lines: Vec<_> = shown.lines().collect();
    let first = asked.offset.unwrap_or(1).max(1);
    if lines.is_empty() {
        text.say(format!("{name} is empty."));
        return ToolEnd::new(ToolOutcome::Done, text.finish());
    }
    if first > lines.len() {
        text.say(format!("{name} has {} lines: there is no line {first}.", lines.len()));
        return ToolEnd::new(ToolOutcome::Failed, text.finish());
    }
    let (body, last) = fitting(&lines, first, asked.limit.unwrap_or(usize::MAX).max(1));
    let range = if first == 1 && last == lines.len() {
        format!("{last} lines")
    } else {
        format!("lines {first} to {last} of {}", lines.len())
    };
    text.say(format!("{name}, {range}, {bytes} bytes{}:", remarks(content, &shown)));
    text.shown_data(body);
    if last < lines.len() {
        text.say(format!("More follows: read on with \"offset\": {}.", last + 1));
    }
    ToolEnd::new(ToolOutcome::Done, text.finish())
}

/// The lines from `first` on that fit, and the number of the last one.
fn fitting(lines: &[&str], first: usize, count: usize) -> (String, usize) {
    let (mut body, mut last) = (String::new(), first);
    for (number, line) in (1..).zip(lines).skip(first - 1).take(count) {
        let line = cut(line);
        if number > first && body.len() + line.len() + 1 > LINES_BYTES_MAX {
            break;
        }
        body.push_str(&line);
        body.push('\n');
        last = number;
    }
    (body, last)
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS_MAX) {
        Some((end, _)) => {
            let more = line[end..].chars().count();
            format!("{}… [{more} more characters; `{RUN}` can show them]", &line[..end])
        }
        None => line.to_owned(),
    }
}

/// What the shown text does not tell.
fn remarks(content: &str, shown: &str) -> String {
    let mut remarks = String::new();
    if content.contains("\r\n") {
        remarks.push_str(", with line ends of Windows");
    }
    if shown.contains(MASKED) && !content.contains(MASKED) {
        remarks.push_str(", with ");
        remarks.push_str(MASKED);
        remarks.push_str(" in place of secrets: do not write the file anew, edit around them");
    }
    remarks
}

/// What data that is no text looks like.
fn kind(content: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 10] = [
        (b"\x89PNG\r\n", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"%PDF-", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive, or a document in one"),
        (b"\x1f\x8b", "data compressed by gzip"),
        (b"\x7fELF", "a program"),
        (b"SQLite format 3\0", "a database of SQLite"),
        (b"\xff\xfe", "text in UTF-16"),
        (b"\xfe\xff", "text in UTF-16"),
    ];
    let known = KNOWN.into_iter().find(|(mark, _)| content.starts_with(mark));
    known.map_or("binary data", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(content: &[u8], arguments: &Value) -> ToolEnd {
        let mut arguments = arguments.clone();
        arguments["path"] = "a.txt".into();
        let asked: ReadArguments = arguments::read(READ_FILE, &arguments.to_string()).unwrap();
        part(&asked, content, &Mask::new(vec!["a known secret".to_owned()]))
    }

    fn told(content: &[u8], arguments: &Value) -> String {
        read(content, arguments).text.into_string()
    }

    #[test]
    fn lines_come_as_they_are_from_an_offset_on() {
        let content = b"one\n\ttwo  \nthree";
        let all = told(content, &json!({}));
        assert!(all.starts_with("`a.txt`, 3 lines, 16 bytes:\n[data "), "{all}");
        assert!(all.contains("]\none\n\ttwo  \nthree\n[end "), "{all}");
        assert!(!all.contains("More follows"));
        let some = told(content, &json!({ "offset": 2, "limit": 1 }));
        assert!(some.starts_with("`a.txt`, lines 2 to 2 of 3, 16 bytes:\n"), "{some}");
        assert!(some.ends_with("More follows: read on with \"offset\": 3.\n"), "{some}");
        assert!(some.contains("]\n\ttwo  \n[end "), "{some}");
        for odd in [json!({ "offset": 0, "limit": 0 }), json!({ "offset": null, "limit": 1 })] {
            assert!(told(content, &odd).contains("lines 1 to 1 of 3"));
        }
        let beyond = read(content, &json!({ "offset": 4 }));
        assert_eq!(beyond.outcome, ToolOutcome::Failed);
        assert!(beyond.text.as_str().contains("has 3 lines: there is no line 4"));
        assert!(told(b"", &json!({})).contains("is empty"));
        assert!(told(content, &json!({ "offset": usize::MAX })).contains("there is no line"));
    }

    #[test]
    fn what_is_read_fits_a_result_and_the_rest_is_where_it_is_said_to_be() {
        let content: String = (1..=5_000).map(|n| format!("line {n}\n")).collect();
        let (mut next, mut seen) = (1, 0);
        while next <= 5_000 {
            let text = told(content.as_bytes(), &json!({ "offset": next }));
            assert!(text.len() <= RESULT_BYTES_MAX, "{}", text.len());
            assert!(text.contains(&format!("]\nline {next}\n")));
            seen += text.matches("\nline ").count();
            let on = text.split_once("\"offset\": ").map(|(_, rest)| rest.trim_end_matches(".\n"));
            next = on.map_or(5_001, |on| on.parse().unwrap());
        }
        assert_eq!(seen, 5_000);
        let long = told("ü".repeat(100_000).as_bytes(), &json!({}));
        assert!(long.len() <= RESULT_BYTES_MAX && long.contains("98000 more characters"), "{long}");
    }

    #[test]
    fn data_that_is_no_text_is_told_by_size_and_type() {
        for (content, words) in [
            (&b"\x89PNG\r\n\x1a\n"[..], "a PNG image, 8 bytes"),
            (b"SQLite format 3\0abc", "a database of SQLite"),
            (b"a\0b", "binary data, 3 bytes"),
            (b"\xff\xfea\0", "text in UTF-16"),
            (b"\xc3", "binary data"),
        ] {
            let text = told(content, &json!({}));
            assert!(text.contains(words) && !text.contains("[data"), "{text}");
        }
    }

    #[test]
    fn secrets_are_masked_before_lines_are_taken_and_the_answer_warns() {
        let content = b"x\na known secret\ny\n";
        let text = told(content, &json!({ "offset": 2, "limit": 1 }));
        assert!(
            text.contains("\n[masked]\n") && text.contains("do not write the file anew"),
            "{text}"
        );
        assert!(!told(b"[masked]\n", &json!({})).contains("do not write"));
        assert!(told(b"a\r\nb\r\n", &json!({})).contains("with line ends of Windows"));
    }
}
