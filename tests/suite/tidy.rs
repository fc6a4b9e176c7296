//! The code checks itself: what clippy cannot see and a reviewer should not have to look for.
//!
//! Each rule reads files as text and answers with complaints that name file and line and say what
//! to do.
//!
//! *Limits.* The rules know how this code is written, not all of Rust: test code is what stands in
//! a `#[cfg(test)] mod … {` up to its closing brace in the first column, in a file declared by
//! `#[cfg(test)] mod …;`, or under `tests/` and `benches/`.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// The longest file, in lines. Longer ones have more than one idea in them.
const FILE_LINES_MAX: usize = 600;
/// The widest comment, in columns: that of the code (`rustfmt.toml`).
const COMMENT_COLUMNS_MAX: usize = 100;
/// Type names that may be defined more than once: associated types, whose names are their traits',
/// and the aliases and types beside them that have no other name.
const SHARED_TYPE_NAMES: [&str; 14] = [
    "Arguments",
    "Command",
    "Effect",
    "Err",
    "Error",
    "Event",
    "Item",
    "Msg",
    "Outcome",
    "Output",
    "Rejection",
    "Result",
    "State",
    "Value",
];
/// What a package may use of the others, beside the contract, the ports, and the packages that are
/// no adapters ([`TOOLS`]).
const NEIGHBOURS: [(&str, &[&str]); 5] = [
    ("src/agent_protocol", &["actors", "micro"]),
    ("src/client", &["nats"]),
    ("src/projection", &["search"]),
    ("actors", &[]),
    ("actors/ports", &[]),
];
/// Packages that implement no port: any adapter may use them.
const TOOLS: [&str; 7] = ["schemas", "ports", "fold", "https", "overlay", "retry", "tail"];
/// Put together here, so that this file does not break its own rules.
const UNFINISHED: [&str; 3] =
    [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("FIX", "ME")];
const HOMES: [&str; 3] = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
const IGNORE: &str = concat!("#[ign", "ore");
const SLEEP: &str = concat!("sle", "ep(");
const PANICS: [&str; 2] = [concat!(".unw", "rap()"), concat!(".exp", "ect(")];
const FORBID_UNSAFE: &str = "#![forbid(unsafe_code)]";

/// A source file.
pub(super) struct Source {
    /// From the top of the tree, with forward slashes.
    pub(super) path: String,
    text: String,
    /// Declared by `#[cfg(test)] mod …;`, or under `tests/` or `benches/`.
    is_test: bool,
}

/// A line of a source file.
pub(super) struct Line<'a> {
    /// From 1.
    number: usize,
    pub(super) text: &'a str,
    pub(super) is_test: bool,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let is_test = path.starts_with("tests/") || path.starts_with("benches/");
        Self { path: path.to_owned(), text: text.to_owned(), is_test }
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut inside = false;
        let mut announced = false;
        self.text.lines().zip(1..).map(move |(text, number)| {
            if announced && text.starts_with("mod ") && text.ends_with('{') {
                inside = true;
            }
            announced = text.trim() == "#[cfg(test)]";
            let line = Line { number, text, is_test: self.is_test || inside };
            if text == "}" {
                inside = false;
            }
            line
        })
    }

    /// The lines that are not comments as a whole.
    pub(super) fn code(&self) -> impl Iterator<Item = Line<'_>> {
        self.lines().filter(|line| !line.text.trim_start().starts_with("//"))
    }

    pub(super) fn complain(&self, line: &Line<'_>, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line.number)
    }

    /// The modules that this file declares for tests only.
    fn test_modules(&self) -> Vec<&str> {
        let lines: Vec<_> = self.text.lines().collect();
        lines
            .windows(2)
            .filter(|pair| pair[0].trim() == "#[cfg(test)]")
            .filter_map(|pair| pair[1].trim().strip_prefix("mod ")?.strip_suffix(';'))
            .collect()
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` whose name ends in `.{extension}`, in order.
fn files(dir: &str, extension: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut waiting = vec![top().join(dir)];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                sources.push(read(&path));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn read(path: &Path) -> Source {
    let parts: Vec<_> =
        path.strip_prefix(top()).unwrap().iter().map(|p| p.to_str().unwrap()).collect();
    Source::new(&parts.join("/"), &fs::read_to_string(path).unwrap())
}

/// Every Rust file of the workspace.
pub(super) fn rust() -> Vec<Source> {
    let dirs = ["src", "actors", "schemas/src", "tests", "benches"];
    let mut sources: Vec<_> = dirs.iter().flat_map(|dir| files(dir, "rs")).collect();
    let for_tests: HashSet<PathBuf> = sources
        .iter()
        .flat_map(|source| {
            let path = Path::new(&source.path);
            // Beside a `mod.rs`, and in the directory that is called as any other file.
            let dirs = [path.parent().unwrap().to_owned(), path.with_extension("")];
            let names = source.test_modules();
            names
                .into_iter()
                .flat_map(move |name| dirs.clone().map(|dir| dir.join(format!("{name}.rs"))))
        })
        .collect();
    for source in &mut sources {
        source.is_test |= for_tests.contains(Path::new(&source.path));
    }
    assert!(sources.len() > 100, "only {} files were found", sources.len());
    sources
}

pub(super) fn complaints(sources: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<_> = sources.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn opening(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{}:1: begin with `//! `: one sentence that says what this file is", source.path)]
}

fn length(source: &Source) -> Vec<String> {
    match source.text.lines().count() {
        lines if lines > FILE_LINES_MAX => {
            vec![format!(
                "{}:{lines}: longer than {FILE_LINES_MAX} lines: give its second idea a file",
                source.path
            )]
        }
        _ => Vec::new(),
    }
}

fn width(source: &Source) -> Vec<String> {
    source
        .lines()
        .filter(|line| {
            let text = line.text.trim_start();
            text.starts_with("//") && line.text.chars().count() > COMMENT_COLUMNS_MAX
        })
        .map(|line| {
            let what = format!("a comment wider than {COMMENT_COLUMNS_MAX} columns: wrap it");
            source.complain(&line, &what)
        })
        .collect()
}

/// The names of the types that a file defines outside its tests.
fn type_names(source: &Source) -> Vec<String> {
    source
        .code()
        .filter(|line| !line.is_test)
        .filter_map(|line| {
            let text = line.text.trim_start();
            let text = match text.strip_prefix("pub") {
                Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
                Some(rest) => rest.trim_start(),
                None => text,
            };
            let (kind, rest) = text.split_once(' ')?;
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            let is_type = matches!(kind, "struct" | "enum" | "trait" | "type");
            (is_type && name.starts_with(char::is_uppercase)).then_some(name)
        })
        .collect()
}

fn panics(source: &Source) -> Vec<String> {
    source
        .code()
        .filter(|line| !line.is_test && PANICS.iter().any(|panic| line.text.contains(panic)))
        .map(|line| source.complain(&line, "answer with an error in place of a panic"))
        .collect()
}

/// Python's `time.sleep(` is allowed: it is what the programs do that the tests run. Benchmarks may
/// rest.
fn sleeps(source: &Source) -> Vec<String> {
    if source.path.starts_with("benches/") {
        return Vec::new();
    }
    source
        .code()
        .filter(|line| {
            line.is_test && line.text.replace(&format!("time.{SLEEP}"), "").contains(SLEEP)
        })
        .map(|line| source.complain(&line, "wait for an event, or pause tokio's time"))
        .collect()
}

fn ignored(source: &Source) -> Vec<String> {
    source
        .code()
        .filter(|line| line.text.contains(IGNORE))
        .map(|line| source.complain(&line, "repair the test, or remove it"))
        .collect()
}

/// The packages of this workspace that the `Cargo.toml` in `folder` names, without `ai-factory-`.
fn siblings(manifest: &str) -> Vec<&str> {
    let names = manifest.lines().filter_map(|line| line.strip_prefix("ai-factory-"));
    names.filter_map(|rest| rest.split_once(['.', ' ']).map(|(name, _)| name)).collect()
}

/// The packages that `folder` uses and should not.
fn strangers<'a>(folder: &str, manifest: &'a str) -> Vec<&'a str> {
    let allowed = NEIGHBOURS.iter().find(|(name, _)| *name == folder).map_or(&[][..], |(_, to)| to);
    let mut names = siblings(manifest);
    names.retain(|name| !TOOLS.contains(name) && !allowed.contains(name));
    names
}

fn unfinished(source: &Source) -> Vec<String> {
    source
        .lines()
        .filter(|line| UNFINISHED.iter().any(|word| line.text.contains(word)))
        .map(|line| {
            source.complain(&line, "finish it, or say what is missing in the documentation")
        })
        .collect()
}

fn homes(source: &Source) -> Vec<String> {
    source
        .lines()
        .filter(|line| HOMES.iter().any(|home| line.text.contains(home)))
        .map(|line| source.complain(&line, "name no home directory: it exists on one machine only"))
        .collect()
}

fn safety(source: &Source) -> Vec<String> {
    if source.text.lines().any(|line| line == FORBID_UNSAFE) {
        return Vec::new();
    }
    vec![format!("{}:1: the root of a crate has `{FORBID_UNSAFE}`", source.path)]
}

#[test]
fn every_file_says_first_what_it_is() {
    complaints(&rust(), opening);
}

#[test]
fn no_file_is_too_long() {
    complaints(&rust(), length);
}

#[test]
fn no_comment_is_wider_than_the_code() {
    complaints(&rust(), width);
}

#[test]
fn a_type_name_has_one_meaning() {
    let mut defined: HashMap<String, Vec<String>> = HashMap::new();
    let sources = rust().into_iter().filter(|source| !source.is_test);
    for source in sources.filter(|source| !source.path.starts_with("benches/")) {
        for name in type_names(&source) {
            defined.entry(name).or_default().push(source.path.clone());
        }
    }
    assert!(defined.len() > 300, "only {} types were found", defined.len());
    defined.retain(|name, paths| paths.len() > 1 && !SHARED_TYPE_NAMES.contains(&name.as_str()));
    assert!(defined.is_empty(), "names that do not identify a type: {defined:#?}");
}

#[test]
fn nothing_outside_tests_panics_on_an_error() {
    complaints(&rust(), panics);
}

#[test]
fn no_test_waits_for_time_to_pass() {
    complaints(&rust(), sleeps);
}

#[test]
fn no_test_is_left_out() {
    complaints(&rust(), ignored);
}

#[test]
fn no_adapter_knows_another() {
    let manifests = files("src", "toml").into_iter().chain(files("actors", "toml"));
    let mut seen = 0;
    for manifest in manifests {
        let folder = manifest.path.trim_end_matches("/Cargo.toml");
        let found = strangers(folder, &manifest.text);
        assert!(
            found.is_empty(),
            "{}: {found:?}: an adapter knows only the ports: join it to others in src/wiring.rs",
            manifest.path
        );
        seen += 1;
    }
    assert!(seen > 12, "only {seen} packages were found");
    let uses_another =
        "[dependencies]\nai-factory-journal.workspace = true\nai-factory-ports.workspace = true\n";
    assert_eq!(strangers("src/bus", uses_another), ["journal"]);
    assert_eq!(strangers("src/client", "ai-factory-nats.workspace = true\n"), [""; 0]);
}

#[test]
fn nothing_is_left_for_later_without_saying_so() {
    complaints(&rust(), unfinished);
}

#[test]
fn no_file_names_somebodys_home() {
    complaints(&rust(), homes);
    complaints(&files("docs", "md"), homes);
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let mut roots = rust();
    roots.retain(|source| {
        let path = source.path.as_str();
        path.ends_with("/lib.rs") || path.ends_with("src/main.rs") || path.contains("src/bin/")
    });
    assert!(roots.len() > 15, "only {} roots of crates were found", roots.len());
    complaints(&roots, safety);
}

#[test]
fn each_rule_complains_of_what_it_is_there_for() {
    type Rule = fn(&Source) -> Vec<String>;
    let in_tests = format!("#[cfg(test)]\nmod tests {{\n    x{};\n}}\n", PANICS[0]);
    let outside = format!("{in_tests}fn f() {{ x{} }}\n", PANICS[0]);
    let cases: &[(Rule, &str, String, usize)] = &[
        (opening, "src/a.rs", "use std::fs;\n".to_owned(), 1),
        (opening, "src/a.rs", "//! What it is.\n".to_owned(), 0),
        (length, "src/a.rs", "x\n".repeat(FILE_LINES_MAX + 1), 1),
        (length, "src/a.rs", "x\n".repeat(FILE_LINES_MAX), 0),
        (width, "src/a.rs", format!("    // {}\n", "x".repeat(COMMENT_COLUMNS_MAX)), 1),
        (width, "src/a.rs", format!("let x = \"{}\";\n", "x".repeat(COMMENT_COLUMNS_MAX)), 0),
        (panics, "src/a.rs", in_tests.clone(), 0),
        (panics, "src/a.rs", outside, 1),
        (panics, "tests/a.rs", format!("x{};\n", PANICS[0]), 0),
        (sleeps, "tests/a.rs", format!("tokio::time::{SLEEP}x).await;\n"), 1),
        (sleeps, "tests/a.rs", format!("\"time.{SLEEP}60)\"\n"), 0),
        (sleeps, "src/a.rs", format!("tokio::time::{SLEEP}x).await;\n"), 0),
        (ignored, "src/a.rs", format!("{IGNORE}]\n"), 1),
        (unfinished, "src/a.rs", format!("{}()\n", UNFINISHED[0]), 1),
        (homes, "src/a.rs", format!("\"{}me\"\n", HOMES[0]), 1),
        (safety, "src/lib.rs", "//! A crate.\n".to_owned(), 1),
    ];
    for (number, (rule, path, text, found)) in cases.iter().enumerate() {
        let complaints = rule(&Source::new(path, text));
        assert_eq!(complaints.len(), *found, "case {number}: {complaints:?}");
        assert!(complaints.iter().all(|text| text.starts_with(path)), "{complaints:?}");
    }
    let declaring = Source::new("src/a/mod.rs", "#[cfg(test)]\nmod walk;\nmod other;\n");
    assert_eq!(declaring.test_modules(), ["walk"]);
}
