//! Tests against the published examples of `CommonMark`: which stretches are code.

use super::{code, markdown};

/// A number, a text, and the language and content of each code block in it.
type Example = (u32, &'static str, &'static [(&'static str, &'static str)]);

/// The examples of sections 4.4 (indented code blocks) and 4.5 (fenced code blocks) of the
/// `CommonMark` Spec 0.31.2 by John `MacFarlane` (CC BY-SA 4.0): number, text, and for each code
/// block of the published result the language and the content.
const EXAMPLES: &[Example] = &[
    (
        107,
        "    a simple\n      indented code block\n",
        &[("", "a simple\n  indented code block\n")],
    ),
    (108, "  - foo\n\n    bar\n", &[]),
    (109, "1.  foo\n\n    - bar\n", &[]),
    (110, "    <a/>\n    *hi*\n\n    - one\n", &[("", "<a/>\n*hi*\n\n- one\n")]),
    (
        111,
        "    chunk1\n\n    chunk2\n  \n \n \n    chunk3\n",
        &[("", "chunk1\n\nchunk2\n\n\n\nchunk3\n")],
    ),
    (112, "    chunk1\n      \n      chunk2\n", &[("", "chunk1\n  \n  chunk2\n")]),
    (113, "Foo\n    bar\n\n", &[]),
    (114, "    foo\nbar\n", &[("", "foo\n")]),
    (115, "# Heading\n    foo\nHeading\n------\n    foo\n----\n", &[("", "foo\n"), ("", "foo\n")]),
    (116, "        foo\n    bar\n", &[("", "    foo\nbar\n")]),
    (117, "\n    \n    foo\n    \n\n", &[("", "foo\n")]),
    (118, "    foo  \n", &[("", "foo  \n")]),
    (119, "```\n<\n >\n```\n", &[("", "<\n >\n")]),
    (120, "~~~\n<\n >\n~~~\n", &[("", "<\n >\n")]),
    (121, "``\nfoo\n``\n", &[]),
    (122, "```\naaa\n~~~\n```\n", &[("", "aaa\n~~~\n")]),
    (123, "~~~\naaa\n```\n~~~\n", &[("", "aaa\n```\n")]),
    (124, "````\naaa\n```\n``````\n", &[("", "aaa\n```\n")]),
    (125, "~~~~\naaa\n~~~\n~~~~\n", &[("", "aaa\n~~~\n")]),
    (126, "```\n", &[("", "")]),
    (127, "`````\n\n```\naaa\n", &[("", "\n```\naaa\n")]),
    (128, "> ```\n> aaa\n\nbbb\n", &[("", "aaa\n")]),
    (129, "```\n\n  \n```\n", &[("", "\n  \n")]),
    (130, "```\n```\n", &[("", "")]),
    (131, " ```\n aaa\naaa\n```\n", &[("", "aaa\naaa\n")]),
    (132, "  ```\naaa\n  aaa\naaa\n  ```\n", &[("", "aaa\naaa\naaa\n")]),
    (133, "   ```\n   aaa\n    aaa\n  aaa\n   ```\n", &[("", "aaa\n aaa\naaa\n")]),
    (134, "    ```\n    aaa\n    ```\n", &[("", "```\naaa\n```\n")]),
    (135, "```\naaa\n  ```\n", &[("", "aaa\n")]),
    (136, "   ```\naaa\n  ```\n", &[("", "aaa\n")]),
    (137, "```\naaa\n    ```\n", &[("", "aaa\n    ```\n")]),
    (138, "``` ```\naaa\n", &[]),
    (139, "~~~~~~\naaa\n~~~ ~~\n", &[("", "aaa\n~~~ ~~\n")]),
    (140, "foo\n```\nbar\n```\nbaz\n", &[("", "bar\n")]),
    (141, "foo\n---\n~~~\nbar\n~~~\n# baz\n", &[("", "bar\n")]),
    (
        142,
        "```ruby\ndef foo(x)\n  return 3\nend\n```\n",
        &[("ruby", "def foo(x)\n  return 3\nend\n")],
    ),
    (
        143,
        "~~~~    ruby startline=3 $%@#$\ndef foo(x)\n  return 3\nend\n~~~~~~~\n",
        &[("ruby", "def foo(x)\n  return 3\nend\n")],
    ),
    (144, "````;\n````\n", &[(";", "")]),
    (145, "``` aa ```\nfoo\n", &[]),
    (146, "~~~ aa ``` ~~~\nfoo\n~~~\n", &[("aa", "foo\n")]),
    (147, "```\n``` aaa\n```\n", &[("", "``` aaa\n")]),
];

#[test]
fn code_is_what_the_examples_of_commonmark_say_it_is() {
    for &(number, text, expected) in EXAMPLES {
        let page = markdown::read(text, text);
        let found: Vec<(&str, &str)> = page
            .blocks
            .iter()
            .map(|block| {
                let info = block.fence.as_ref().map_or("", |fence| fence.info.as_str());
                (info.split_whitespace().next().unwrap_or_default(), block.content.as_str())
            })
            .collect();
        assert_eq!(found, expected, "example {number}: {text:?}");
    }
}

#[test]
fn nothing_else_is_read_into_the_examples() {
    for &(number, text, expected) in EXAMPLES {
        let (page, spans) = code::scan(text);
        let blocks = spans
            .iter()
            .filter(|span| page.blocks.iter().any(|block| block.range.start == span.range.start));
        assert_eq!(blocks.count(), expected.len(), "example {number}: {text:?}");
        let runs = spans.iter().any(|span| span.code.is_some());
        let may_run = expected.iter().any(|(language, _)| *language == "ruby");
        assert!(!runs || may_run, "example {number}: {text:?}");
    }
}
