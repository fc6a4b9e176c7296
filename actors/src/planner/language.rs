//! Language names, and what they make of a block: a program, a transcript or data.

use super::prompts::PromptStyle;

/// Names of programming languages without another meaning in a sentence (`python:`), separated by
/// blanks. Any word of an info string that is neither here nor in [`SHORT_PROGRAMS`] means data.
const PROGRAMS: &str = "\
    ada applescript asm assembly autohotkey autoit awk bash bat batch batchfile c# c++ \
    circuitpython cjs clojure clojurescript cobol coffeescript common-lisp cpp cpython crystal \
    cs csh csharp cxx cython dart delphi dosbatch ecmascript elisp elixir emacs-lisp erlang \
    f# fish fortran fsharp gawk glsl go golang groovy haskell hlsl ipython java javascript \
    javascriptreact jruby js jsx julia jython kotlin ksh lisp livescript lua matlab micropython \
    mjs mksh modula-2 nim nodejs objc objective-c objective-cpp objectivec ocaml octave pascal \
    perl php plsql powershell prolog ps1 purescript pwsh py pypy pypy3 python qbasic racket rb \
    reasonml rescript rs ruby rust scala scheme sh shell solidity sparql sql swift systemverilog \
    tcl tcsh ts tsql tsx typescript typescriptreact vb vb.net vba vbscript verilog vhdl \
    visual-basic wgsl zig zsh";

/// Further names, abbreviations and file extensions, which count only in an info string.
const SHORT_PROGRAMS: &str = "\
    abap ads agda ahk ansi-c apex apl ash ballerina bas befunge brainfuck c cairo cc chapel cjsx cl \
    clj cljs cmake cmd cob coffee coq cts cu cuda cypher d dash eiffel el elm erl es6 ex exs f f77 \
    f90 f95 fennel forth freebasic fs fsx gd gdscript gleam gnuplot h haxe hh hpp hs hx hxx \
    idris isabelle janet jl jq kt kts lean lhs llvm lsp mips ml mli mm mojo mts mysql nasm nix \
    node nu nushell oberon odin opencl pas phtml pl pm pony postgresql psm1 pyw pyx r raku rebol \
    rexx rkt sas sc scm scpt sed simula smalltalk sol spss sqlite st stan starlark stata sv tk v \
    vala vbs vhd vim viml vimscript vyper wasm wat xquery xslt yul";

/// Transcripts of a shell.
const SHELL_SESSIONS: &str = "bash-console bash-session command-line commandline console sh-console \
    sh-session shell-console shell-session shellsession term terminal tty zsh-session";

/// Transcripts of a Python interpreter.
const PYTHON_SESSIONS: &str =
    "doctest ipython-console py-repl pycon pyrepl python-console python-repl python-session";

/// The meaning of a fence's info string.
pub(super) enum InfoString {
    /// The fence has none.
    Silent,
    /// The block is data, markup or output.
    Text,
    /// The block is a program in this language.
    Program(String),
    /// The block is a transcript: programs after prompts, and their output.
    Prompts(PromptStyle),
}

/// Reads the first word of an info string: `Python title="x"`, `rust,ignore`, `main.py`,
/// `text/x-python`; or the first class or word between braces that names a program: `{.python}`,
/// `{#a .numberLines .py}`.
pub(super) fn read_info(info: &str) -> InfoString {
    let info = info.trim_start_matches(|c: char| c.is_whitespace() || c == ':');
    let Some(attributes) = info.strip_prefix('{') else { return read_word(info) };
    let mut names = attributes
        .split(|c: char| c.is_whitespace() || matches!(c, '}' | ','))
        .filter_map(|name| {
            let name = name.strip_prefix('.').unwrap_or(name);
            (!name.is_empty() && !name.contains(['=', '#'])).then(|| read_word(name))
        });
    let Some(first) = names.next() else { return InfoString::Silent };
    std::iter::once(first)
        .chain(names)
        .find(|name| !matches!(name, InfoString::Text))
        .unwrap_or(InfoString::Text)
}

fn read_word(info: &str) -> InfoString {
    let end = |c: char| !c.is_alphanumeric() && !matches!(c, '+' | '#' | '-' | '_' | '.' | '/');
    let word = info.trim_start_matches('.').split(end).next().unwrap_or_default().to_lowercase();
    // `text/x-python` and `src/main.py`, `language-python`.
    let word = word
        .rsplit_once('/')
        .map_or(word.as_str(), |(_, name)| name.strip_prefix("x-").unwrap_or(name));
    let word = ["language-", "lang-"].iter().find_map(|it| word.strip_prefix(it)).unwrap_or(word);
    let word = match word.rsplit_once('.') {
        Some((_, ending)) if is_named(ending) => ending,
        _ => word,
    };
    if !word.contains(char::is_alphanumeric) {
        InfoString::Silent
    } else if holds(SHELL_SESSIONS, word) {
        InfoString::Prompts(PromptStyle::Shell)
    } else if holds(PYTHON_SESSIONS, word) {
        InfoString::Prompts(PromptStyle::Python)
    } else if is_named(word) {
        InfoString::Program(canonical(word.to_owned()))
    } else {
        InfoString::Text
    }
}

/// Whether `word`, in lower case, names a programming language and nothing else, with or without a
/// version.
pub(super) fn is_program(word: &str) -> bool {
    holds(PROGRAMS, word) || holds(PROGRAMS, versioned(word).0)
}

/// Whether `word`, in lower case, means the Python of the sandbox.
pub(super) fn is_python(word: &str) -> bool {
    matches!(canonical(word.to_owned()).as_str(), "python" | "py")
}

fn is_named(word: &str) -> bool {
    is_program(word) || holds(SHORT_PROGRAMS, word) || word == "node" || versioned(word).0 == "node"
}

fn holds(names: &str, word: &str) -> bool {
    names.split(' ').any(|name| name == word)
}

/// A name and the version after it: `python3.12`, `bash-5.2`, `node20`.
fn versioned(word: &str) -> (&str, &str) {
    let name = word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    (name.trim_end_matches(['-', '_']), &word[name.len()..])
}

/// The language in a plan: as in the goal, except for names and versions of languages that run
/// here.
pub(super) fn canonical(word: String) -> String {
    let (name, version) = versioned(&word);
    let here = match name {
        "py" if version.is_empty() => return word,
        "python" | "py" | "ipython" | "cpython"
            if version.is_empty() || version.starts_with('3') =>
        {
            "python"
        }
        "bash" | "shell" | "zsh" | "ksh" | "mksh" | "dash" | "ash" => "bash",
        "nodejs" | "mjs" | "cjs" | "ecmascript" | "javascript" => "javascript",
        "node" if !version.is_empty() => "javascript",
        _ if word == "es6" => "javascript",
        _ => return word,
    };
    here.to_owned()
}

/// The language in a sentence.
pub(super) fn display(language: &str) -> &str {
    match language {
        "python" | "py" => "Python",
        "rust" | "rs" => "Rust",
        "javascript" | "js" | "node" => "JavaScript",
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
