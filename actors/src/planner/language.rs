//! Words that name a language, and what they say about a block: that it is code, or that it is text.

/// Languages of programs. One that is missing here is still taken from the info string of a fence; the
/// list decides only where a word alone must be recognised (`python:` before or in inline code).
const PROGRAMS: &[&str] = &[
    "ada",
    "asm",
    "assembly",
    "awk",
    "bash",
    "bat",
    "batch",
    "c#",
    "c++",
    "clojure",
    "cobol",
    "cpp",
    "crystal",
    "cs",
    "csharp",
    "cxx",
    "dart",
    "elixir",
    "erlang",
    "f#",
    "fish",
    "fortran",
    "fsharp",
    "go",
    "golang",
    "groovy",
    "haskell",
    "java",
    "javascript",
    "js",
    "jsx",
    "julia",
    "kotlin",
    "ksh",
    "lisp",
    "lua",
    "matlab",
    "nim",
    "nodejs",
    "objective-c",
    "ocaml",
    "octave",
    "pascal",
    "perl",
    "php",
    "powershell",
    "prolog",
    "ps1",
    "py",
    "py3",
    "pwsh",
    "python",
    "python3",
    "racket",
    "rb",
    "ruby",
    "rs",
    "rust",
    "scala",
    "scheme",
    "sh",
    "shell",
    "solidity",
    "sql",
    "swift",
    "ts",
    "tsx",
    "typescript",
    "vb",
    "vba",
    "zig",
    "zsh",
];

/// What people write behind a fence for text that is no program: data, markup, output.
const TEXTS: &[&str] = &[
    "adoc",
    "ansi",
    "ascii",
    "asciidoc",
    "bibtex",
    "cfg",
    "conf",
    "config",
    "console",
    "css",
    "csv",
    "data",
    "diff",
    "docker",
    "dockerfile",
    "dot",
    "dotenv",
    "ebnf",
    "email",
    "env",
    "example",
    "gitignore",
    "graphql",
    "graphviz",
    "hcl",
    "htm",
    "html",
    "http",
    "ini",
    "input",
    "json",
    "json5",
    "jsonc",
    "jsonl",
    "latex",
    "less",
    "log",
    "logs",
    "markdown",
    "math",
    "md",
    "mdx",
    "mermaid",
    "ndjson",
    "nginx",
    "none",
    "out",
    "output",
    "patch",
    "plain",
    "plaintext",
    "plantuml",
    "prompt",
    "properties",
    "proto",
    "protobuf",
    "pycon",
    "pytb",
    "quote",
    "regex",
    "result",
    "rst",
    "sass",
    "scss",
    "shell-session",
    "shellsession",
    "stderr",
    "stdout",
    "svg",
    "terminal",
    "terraform",
    "tex",
    "text",
    "tf",
    "toml",
    "traceback",
    "tsv",
    "txt",
    "xml",
    "yaml",
    "yml",
];

/// What the info string of a fence says.
pub(super) enum Info {
    /// Nothing.
    Silent,
    /// That the block is data, markup or output.
    Text,
    /// That the block is a program in this language.
    Program(String),
}

/// Reads the first word of an info string: `Python title="x"`, `{.python}`, `rust,ignore`, `main.py`.
pub(super) fn read_info(info: &str) -> Info {
    let word = info
        .trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '{' | '.' | ':'))
        .split(|c: char| !c.is_alphanumeric() && !matches!(c, '+' | '#' | '-' | '_' | '.'))
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let word = match word.rsplit_once('.') {
        Some((_, extension)) if is_known(extension) => extension.to_owned(),
        _ => word,
    };
    if !word.chars().any(char::is_alphanumeric) {
        Info::Silent
    } else if TEXTS.contains(&word.as_str()) {
        Info::Text
    } else {
        Info::Program(canonical(word))
    }
}

/// Whether `word`, in lower case, is known to name a program's language.
pub(super) fn is_program(word: &str) -> bool {
    PROGRAMS.contains(&word)
}

/// Whether `word`, in lower case, means Python.
pub(super) fn is_python(word: &str) -> bool {
    matches!(word, "python" | "py" | "python3" | "py3")
}

fn is_known(word: &str) -> bool {
    is_program(word) || TEXTS.contains(&word)
}

/// The language as a plan names it: as the goal did, but for the version that Python has anyway.
pub(super) fn canonical(word: String) -> String {
    if matches!(word.as_str(), "python3" | "py3") { "python".to_owned() } else { word }
}

/// The language as a sentence names it.
pub(super) fn display(language: &str) -> &str {
    match language {
        "python" | "py" => "Python",
        "rust" | "rs" => "Rust",
        "javascript" | "js" => "JavaScript",
        "typescript" | "ts" => "TypeScript",
        "go" | "golang" => "Go",
        "bash" => "Bash",
        "sh" | "shell" => "shell",
        "sql" => "SQL",
        "ruby" | "rb" => "Ruby",
        "java" => "Java",
        "c" => "C",
        "cpp" | "c++" => "C++",
        "csharp" | "cs" | "c#" => "C#",
        "php" => "PHP",
        "perl" => "Perl",
        "lua" => "Lua",
        "kotlin" => "Kotlin",
        "swift" => "Swift",
        other => other,
    }
}
