//! Tests of Markdown goals: which code runs, and which steps a reader sees.

use ai_factory_schemas::plan::TaskType;
use proptest::prelude::*;

use super::{
    propose,
    table::{check, short},
};

/// The programs of `goal`: each language and source.
fn programs(goal: &str) -> Vec<(String, String)> {
    let plan = propose(goal, TaskType::General).unwrap();
    plan.steps
        .into_iter()
        .filter_map(|step| step.code)
        .map(|code| (code.language, code.source))
        .collect()
}

/// Checks that `goal` carries this one program.
#[track_caller]
fn runs(goal: &str, language: &str, source: &str) {
    assert_eq!(programs(goal), [(language.to_owned(), source.to_owned())], "{goal:?}");
}

/// Checks that `goal` carries no program.
#[track_caller]
fn runs_nothing(goal: &str) {
    assert_eq!(programs(goal), [], "{goal:?}");
}

/// Programs with lines that look like the end of their fence, in every language that runs here.
const PROGRAMS: &[(&str, &str)] = &[
    ("bash", "echo first\n# wrap it in ``` when posting\necho second\n"),
    ("bash", "cat <<'EOF'\n    ```\n    code\n    ```\nEOF\necho b\n"),
    ("bash", "echo '```' a\n``` text\n~~~\necho b\n"),
    ("bash", "cat <<EOF > a.md\n~~~python\nprint(1)\n~~~\nEOF\n"),
    ("sh", "printf '%s\\n' '```python' # ```\n    ```\n"),
    ("python", "def f():\n    \"\"\"Do it.\n\n    ```\n    f()\n    ```\n    \"\"\"\nprint(f())\n"),
    ("python", "# ```\nprint(1)  # ends in ```\n``` text\n"),
    ("python", "s = '''\n~~~\n````x\n'''\n\n\nprint(s)\n"),
    ("javascript", "// ``` and ~~~\nconsole.log(`a`)\n``` b\nconsole.log(2) // ```\n"),
    ("js", "const s = `\n    ```\n`;\nconsole.log(s)\n"),
];

#[test]
fn a_fence_ends_where_commonmark_says_and_nowhere_else() {
    for (language, source) in PROGRAMS {
        for goal in [
            format!("```{language}\n{source}```\n"),
            format!("Run it:\n```{language}\n{source}```\nThen stop."),
            format!("Run it:\n\n``` {language} title=\"x\"\n{source}```"),
            format!("````{language}\n{source}````  \n\nThen stop"),
            format!("Run it:\n\n{}\n\nThen stop", quoted(&format!("```{language}\n{source}```"))),
            format!("1. Run it:\n{}\n2. Stop", indented(&format!("```{language}\n{source}```"), 3)),
            format!("Run it:\n```{language}\n{source}```\n").replace('\n', "\r\n"),
            format!("\u{feff}```{language}\n{source}```\n"),
        ] {
            runs(&goal, language, source);
        }
    }
    let tilde = "Run:\n~~~bash\necho a\n```\necho b\n``` c\n~~~\nStop";
    runs(tilde, "bash", "echo a\n```\necho b\n``` c\n");
}

#[test]
fn a_fence_that_nothing_closes_lasts_to_the_end() {
    for (language, source) in [
        ("bash", "echo a\n# wrap it in ``` when posting\necho b\n"),
        ("bash", "cat <<A\n``` b\nA\necho c"),
        ("python", "s = '''\n``` x\n'''\nprint(s)"),
        ("js", "const s = `a\n    ```\n`;\nconsole.log(s) // use ``` here\n"),
        ("sh", "echo a\n    ```\necho b\n"),
    ] {
        runs(&format!("Run it:\n```{language}\n{source}"), language, source);
        runs(
            &format!(
                "- Run it:\n{}",
                indented(&format!("```{language}\n{source}"), 2).trim_end_matches('\n')
            ),
            language,
            source.trim_end_matches('\n'),
        );
    }
}

fn quoted(text: &str) -> String {
    text.lines().flat_map(|line| ["> ", line, "\n"]).collect()
}

fn indented(text: &str, by: usize) -> String {
    let line =
        |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{:by$}{line}\n", "") };
    text.lines().map(line).collect()
}

#[test]
fn odd_fences_are_understood_where_commonmark_finds_none_that_is_closed() {
    check(&[
        (
            "Sum: ```python\nprint(1)\n```\nThen: ```python\nprint(2)\n```",
            "Sum {python: print(1)\n} | Run the Python code {python: print(2)\n}",
        ),
        (
            "Sum: ```python\nprint(1)\n``` then: ```python\nprint(2)\n``` and stop",
            "Sum {python: print(1)\n} | Run the Python code {python: print(2)\n} | stop",
        ),
        (
            "Run: ```bash\necho a\n\n# b\necho c\n```\n\n- stop",
            "Run {bash: echo a\n\n# b\necho c\n} | stop",
        ),
        ("> Run: ```python\n> if 1:\n>     print(2)\n> ```", "Run {python: if 1:\n    print(2)\n}"),
        ("Run:\n```bash\necho a``` then stop", "Run {bash: echo a} | stop"),
        ("Run:\n```js\nconsole.log(`a`)```\nStop", "Run {js: console.log(`a`)} | Stop"),
        ("Run:\n```bash\necho a\n``` then stop", "Run {bash: echo a\n} | stop"),
        ("Run:\n~~~python print(1)~~~\nStop", "Run {python: print(1)} | Stop"),
        ("Run:\n```bash\ncat <<A\n``` b\nA\necho c", "Run {bash: cat <<A\n``` b\nA\necho c}"),
        ("Put it in ```bash\nand post it", "Put it in ```bash | post it"),
    ]);
}

#[test]
fn data_is_never_run() {
    for word in [
        "json",
        "text",
        "note",
        "application/json",
        "text/plain",
        "yaml",
        "toml",
        "diff",
        "output",
        "mermaid",
        "html",
        "xml",
        "csv",
        "log",
        "dockerfile",
        "makefile",
        "markdown",
        "{.json}",
        "data.json",
        "whatever",
        "doscon",
        "title=\"x\"",
    ] {
        for mark in ["```", "~~~"] {
            runs_nothing(&format!("Look:\n{mark}{word}\nprint(1)\n{mark}\nThen stop"));
        }
    }
    for goal in [
        "Look:\n\n    print(1)\n\nStop",
        "    ```python\n    print(1)\n    ```",
        "Look:\n\n    ```python\n    print(1)\n    ```\n",
        "Python:\n\n    print(1)\n",
        "- a\n\n      print(1)\n",
        "\t```bash\n\techo a\n\t```",
        "<!--\n```python\nprint(1)\n```\n-->",
        "Do it <!-- ```python\nprint(1)\n``` -->",
        "Do it <!--\n\n```bash\necho a\n```\n\n--> and stop",
        "<!-- python: print(1) --> Do it",
        "Do it <!-- `python: print(1)` -->",
        "> <!--\n> ```python\n> print(1)\n> ```\n> -->",
        "- a\n  <!--\n  ```sh\n  ls\n  ```\n  -->",
        "<pre>\n```python\nprint(1)\n```\n</pre>",
        "<div>\n```python\nprint(1)\n```\n</div>",
        "<div>\npython: print(1)\n</div>",
        "<script>\n\n```js\nalert(1)\n```\n</script>",
        "---\nrun: |\n  ```python\n  print(1)\n  ```\n---\nDo it",
        "| a |\n|---|\n| `python: print(1)` |",
    ] {
        runs_nothing(goal);
    }
}

#[test]
fn the_names_of_languages_are_understood() {
    for (info, language) in [
        ("shell", "bash"),
        ("zsh", "bash"),
        ("bash", "bash"),
        ("ksh", "bash"),
        ("sh", "sh"),
        ("SH", "sh"),
        ("Shell", "bash"),
        ("bash-5.2", "bash"),
        ("python", "python"),
        ("Python3", "python"),
        ("python3.12", "python"),
        ("py3", "python"),
        ("py", "py"),
        ("ipython3", "python"),
        ("ipython", "python"),
        ("python title=\"x\"", "python"),
        ("{.python}", "python"),
        ("{python}", "python"),
        ("{#a .numberLines .python}", "python"),
        ("python {numberLines}", "python"),
        ("python:main.py", "python"),
        ("python=", "python"),
        ("main.py", "py"),
        ("src/run.sh", "sh"),
        ("text/x-python", "python"),
        ("language-python", "python"),
        ("python,ignore", "python"),
        ("js", "js"),
        ("node", "node"),
        ("nodejs", "javascript"),
        ("node20", "javascript"),
        ("mjs", "javascript"),
        ("JavaScript", "javascript"),
        ("ruby", "ruby"),
        ("go", "go"),
        ("rust", "rust"),
        ("c", "c"),
        ("C++", "c++"),
        ("c#", "c#"),
        ("r", "r"),
        ("ts", "ts"),
        ("python2.7", "python2.7"),
        ("fish", "fish"),
        ("powershell", "powershell"),
        ("perl", "perl"),
    ] {
        runs(&format!("Run:\n```{info}\nx = 1\n```\n"), language, "x = 1\n");
    }
}

#[test]
fn lines_behind_prompts_are_the_program() {
    for (info, content, program) in [
        ("console", "$ echo a\na\n$ echo b\nb\n", "echo a\necho b\n"),
        ("shell-session", "user@host:~$ pwd\n/home\nroot@host:/# ls\n", "pwd\nls\n"),
        ("bash-session", "$ cat <<EOF\n> a\n> EOF\na\n", "cat <<EOF\na\nEOF\n"),
        (
            "terminal",
            "$ for i in 1 2; do\n> echo $i\n> done\n1\n2\n",
            "for i in 1 2; do\necho $i\ndone\n",
        ),
        ("console", "$ npm run build\n> x@1.0 build\n> tsc\n", "npm run build\n"),
        ("console", "% ls\na\n 10% done\n", "ls\n"),
        ("console", "$ echo a \\\n  b\na b\n", "echo a \\\n  b\n"),
        ("console", "(venv) $ pip list\n# a comment\n", "pip list\n"),
    ] {
        runs(&format!("Run:\n```{info}\n{content}```\n"), "bash", program);
    }
    runs(
        "Run:\n```pycon\n>>> for i in range(2):\n...     print(i)\n...\n0\n1\n>>> print('a')\na\n```",
        "python",
        "for i in range(2):\n    print(i)\n\nprint('a')\n",
    );
    for (info, content) in [
        ("console", "hello\nworld\n"),
        ("console", "# a comment\nls\n"),
        ("terminal", "PS C:\\> dir\n"),
        ("console", "$ cat <<EOF\nnever closed\n"),
        ("pycon", "hello\n"),
        ("pycon", ">>> print(\n"),
    ] {
        runs_nothing(&format!("Look:\n```{info}\n{content}```\n"));
    }
}

#[test]
fn quotes_and_lists_leave_no_marks_in_code() {
    for goal in [
        "> ```python\n> if 1:\n>     print(2)\n> ```",
        ">```python\n> if 1:\n>     print(2)\n>```",
        "> > Run:\n> > ```python\n> > if 1:\n> >     print(2)\n> > ```\nlazy",
        "> - Run:\n>   ```python\n>   if 1:\n>       print(2)\n>   ```\n> - Stop",
        "- > ```python\n  > if 1:\n  >     print(2)\n  > ```",
        "  ```python\n  if 1:\n      print(2)\n  ```",
        "10. Run:\n    ```python\n    if 1:\n        print(2)\n    ```",
        "-\t```python\n\tif 1:\n\t    print(2)\n\t```",
    ] {
        runs(goal, "python", "if 1:\n    print(2)\n");
    }
    runs("> ```bash\n> echo a\n>\n> echo b\n> ```", "bash", "echo a\n\necho b\n");
    // The end of the quote ends its fence.
    runs("> ```bash\n> echo a\necho b", "bash", "echo a\n");
    check(&[
        ("> fetch the data\n> parse it\n>\n> - store it", "fetch the data | parse it | store it"),
        (
            "> Write a function that takes a list of whole numbers and returns\n> the sum of them.",
            "Write a function that takes a list of whole numbers and returns the sum of them",
        ),
        ("> Say it:\n> ```\n> Dear all\n> ```\n> Stop", "Say it\n```\nDear all\n``` | Stop"),
    ]);
}

#[test]
fn line_breaks_in_programs_are_left_alone() {
    let source = "s = 'a\u{2028}b\u{2029}c\u{85}d\re'\nprint(s)\u{85}\n";
    for goal in [
        format!("Run:\n```python\n{source}```\n"),
        format!("Run:\r\n```python\r\n{}```\r\n", source.replace('\n', "\r\n")),
        format!("> ```python\n> {}\n> ```", source.trim_end_matches('\n').replace('\n', "\n> ")),
        format!("Run: ```python\n{source}```\n"),
    ] {
        runs(&goal, "python", source);
    }
    runs(
        "```bash\necho a\u{85}\n```\u{85}\necho b\n```",
        "bash",
        "echo a\u{85}\n```\u{85}\necho b\n",
    );
    runs("Run `python: print('a\u{2028}b')`", "python", "print('a\u{2028}b')");
    check(&[(
        "fetch\rparse\u{2028}store\u{2029}- print\u{85}2) stop",
        "fetch | parse | store | print | stop",
    )]);
}

#[test]
fn steps_are_what_a_reader_sees() {
    check(&[
        ("Release\n-------\n\n- tag it\n- push it", "tag it | push it"),
        ("Release\n=\ntag it\n\nNotes\n---\nwrite them", "tag it | write them"),
        ("fetch it\nparse it\n---\nstore it", "fetch it | parse it | store it"),
        ("Fetch it.\n---\nStore it.", "Fetch it | Store it"),
        ("---\ntitle: Plan\ntags: [a, b]\n---\n\nFetch it. Store it.", "Fetch it | Store it"),
        ("+++\ntitle = \"Plan\"\n+++\nFetch it", "Fetch it"),
        ("---\n\nfetch it\n\n---\n\nstore it", "fetch it | store it"),
        (
            "Enter these:\n\n| name | age |\n|------|-----|\n| Ann  | 3   |\n\nThen stop",
            "Enter these\n| name | age |\n|------|-----|\n| Ann  | 3   | | stop",
        ),
        ("Enter:\n\na | b\n-|-\n1 | 2\nThen stop", "Enter\na | b\n-|-\n1 | 2 | stop"),
        (
            "Read [the guide][1]. Do it.\n\n[1]: https://a.example/x \"Guide\"\n[2]: ./b.md",
            "Read [the guide][1] | Do it",
        ),
        ("i. fetch\nii. parse\niii. store\niv. print", "fetch | parse | store | print"),
        ("I. Fetch\nII. Parse\nIII. Store\nIV. Print", "Fetch | Parse | Store | Print"),
        ("i) fetch\nii) parse", "fetch | parse"),
        ("(i) fetch, (ii) parse and (iii) store", "fetch | parse | store"),
        ("(1). Fetch\n(2). Parse", "Fetch | Parse"),
        ("1.) Fetch\n2.) Parse", "Fetch | Parse"),
        ("J. Smith anrufen", "J. Smith anrufen"),
        ("Write to J. Smith. Talk with A. B. Jones.", "Write to J. Smith | Talk with A. B. Jones"),
        ("Walk from A to B. Measure it.", "Walk from A to B | Measure it"),
        ("Explain Fig. A and Tab. B2. See vol. IV.", "Explain Fig. A and Tab. B2 | See vol. IV"),
        ("Read p. 12 and S. 7, then No. 5 and Nr. 3", "Read p. 12 and S. 7 | No. 5 and Nr. 3"),
        ("(1). Fetch it. See (2). Then stop", "Fetch it | See (2) | stop"),
        ("IV. Quartal prüfen", "IV. Quartal prüfen"),
        ("Erkläre v. Chr. und 44 n. Chr. kurz", "Erkläre v. Chr. und 44 n. Chr. kurz"),
        ("Am 1.1. ruhen. Am 2. arbeiten", "Am 1.1. ruhen | Am 2. arbeiten"),
        ("> [!NOTE]\n> Be careful", "Be careful"),
        ("4. Juni ist Feiertag", "4. Juni ist Feiertag"),
        ("1. Mai: Grillen\n3. Oktober: Wandern", "1. Mai: Grillen | 3. Oktober: Wandern"),
        ("1. Januar auswerten\n2. Februar auswerten", "Januar auswerten | Februar auswerten"),
        ("Bis 4. Juni fertig. Dann ruhen.", "Bis 4. Juni fertig | ruhen"),
        ("Feiere am 1. Mai und am 3. Oktober", "Feiere am 1. Mai und am 3. Oktober"),
        ("Viens le 1er mai. Puis pars.", "Viens le 1er mai | pars"),
        (
            "Erkläre Friedrich II. von Preußen, z. B. kurz",
            "Erkläre Friedrich II. von Preußen, z. B. kurz",
        ),
        ("Do it <!-- not this; then that -->. Stop.", "Do it | Stop"),
        ("<!-- a\n\nb -->\n\nDo it\n\n<!-- c -->", "Do it"),
        (
            "Do it\n<details>\n<summary>More</summary>\n\n- stop\n\n</details>",
            "Do it | More | stop",
        ),
        ("Look:\n\n    a. Then b; c\n\nStop", "Look\na. Then b; c | Stop"),
        ("## Run `cargo test`\n\nfix it", "fix it"),
    ]);
    assert_eq!(short("<!-- nothing -->"), "<!-- nothing -->");
}

/// Lines of a program, with those that end fences, quotes and items elsewhere.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let odd = prop::sample::select(
        &[
            "",
            "```",
            "~~~",
            "    ```",
            "``` x",
            "```python",
            "x ```",
            "> a",
            "- b",
            "1. c",
            "# d",
            "<!--",
            "-->",
            "---",
            "===",
            "\t",
            "  ",
            "| a |",
            "<div>",
            "[a]: b/c",
            "$ d",
            "\u{2028}",
            "é\r",
            "&amp;",
            "\\",
        ][..],
    );
    let line = prop_oneof![odd.prop_map(str::to_owned), "[ -~]{0,12}", "\\PC{0,8}"];
    let line = line.prop_filter("a NUL is refused, a CRLF is an LF", |line| {
        !line.contains(['\0', '\n']) && !line.ends_with('\r')
    });
    prop::collection::vec(line, 1..12)
}

proptest! {
    #[test]
    fn a_program_comes_out_of_its_fence_byte_for_byte(lines in lines(), marks in 13..20_usize, tilde: bool, by in 0..4_usize, depth in 0..4_usize) {
        let program = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
        prop_assume!(!program.trim().is_empty());
        let fence = if tilde { "~" } else { "`" }.repeat(marks);
        let block = format!("{fence}bash\n{program}{fence}\n");
        let prefix = "> ".repeat(depth);
        let each = |first: &str, next: &str| {
            let lines = block.split_inclusive('\n').enumerate();
            lines.flat_map(|(at, line)| [if at == 0 { first } else { next }, line]).collect::<String>()
        };
        let margin = " ".repeat(by);
        for goal in [
            block.clone(),
            format!("Run it:\n{block}Then stop."),
            each(&margin, &margin),
            each(&prefix, &prefix),
            each("- ", "  "),
            each("10) ", "    "),
            each(&format!("{prefix}1. "), &format!("{prefix}   ")),
            format!("- Run it:\n\n{}", each("  ", "  ")),
            block.replace('\n', "\r\n"),
        ] {
            prop_assert_eq!(programs(&goal), [("bash".to_owned(), program.clone())], "{:?}", goal);
        }
    }
}
