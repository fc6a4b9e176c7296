//! Circles of imports: the modules of a package that import each other, directly or not.
//!
//! A file is a module, and a path in it that begins with `crate`, `self`, `super` or the name of a
//! child is an import of the module in which the path ends: of a parent, if the parent defines or
//! re-exports the item. Test code and comments do not count. Modules in a circle can only be read,
//! tested and moved together, so [`CIRCLES`] may only become shorter.
//!
//! *Limits.* The files are read as text, without expanding macros. A method call is no import.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

mod imports;

use imports::{Segments, declared, paths, tokens};

/// A circle that there is.
struct Circle {
    /// The folder of the package; `.` is the root package.
    package: &'static str,
    /// Its modules, in order; `lib` is the root of the package.
    modules: &'static [&'static str],
    /// What the modules share, and hence what would have to become a module of its own.
    why: &'static str,
}

/// Every circle of the workspace. A change that breaks one removes its entry, or shortens it.
const CIRCLES: &[Circle] = &[Circle {
    package: "src/sandbox",
    modules: &["jail::init", "jail::program", "jail::stage"],
    why: "stage one starts init, which starts the program with what stage one was told",
}];

/// The modules of a package, each with the modules that it imports.
type Graph = BTreeMap<Segments, BTreeSet<Segments>>;

/// The graph of the package whose root is the file `root`; `read` answers what is in a file.
fn graph(root: &str, read: &impl Fn(&str) -> Option<String>) -> Graph {
    let mut texts = BTreeMap::new();
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut waiting = vec![(Segments::new(), root.to_owned(), folder.to_owned())];
    while let Some((name, file, folder)) = waiting.pop() {
        let text = read(&file).unwrap_or_else(|| panic!("{file} is missing"));
        for child in declared(&tokens(&text)) {
            let inner = format!("{folder}/{child}");
            let files = [format!("{inner}.rs"), format!("{inner}/mod.rs")];
            let file = files.into_iter().find(|file| read(file).is_some());
            let file = file.unwrap_or_else(|| panic!("{inner}.rs is missing"));
            waiting.push(([&name[..], &[child]].concat(), file, inner));
        }
        texts.insert(name, text);
    }
    let imports = |name: &Segments, text: &String| {
        let paths = paths(&tokens(text)).into_iter();
        let imports = paths.filter_map(|(inline, path)| module(name, inline, &path, &texts));
        imports.filter(|other| other != name).collect()
    };
    texts.iter().map(|(name, text)| (name.clone(), imports(name, text))).collect()
}

/// The module of this package in which a path ends; `None` for a path into another package.
fn module<T>(
    here: &Segments,
    inline: Option<String>,
    path: &[String],
    modules: &BTreeMap<Segments, T>,
) -> Option<Segments> {
    let mut module = here.clone();
    let is_inline = inline.is_some();
    module.extend(inline);
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (module, rest) = (Segments::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while let Some((_, behind)) = rest.split_first().filter(|(first, _)| *first == "super")
            {
                module.pop();
                rest = behind;
            }
        }
        child => {
            let is_child =
                !is_inline && modules.contains_key(&[here, &[child.into()][..]].concat());
            if !is_child {
                return None;
            }
        }
    }
    for segment in rest {
        let inner = [&module[..], std::slice::from_ref(segment)].concat();
        if !modules.contains_key(&inner) {
            break;
        }
        module = inner;
    }
    // A path within an inline module.
    if !modules.contains_key(&module) {
        module.pop();
    }
    Some(module)
}

/// The modules that a module imports, directly or not.
fn reached<'a>(graph: &'a Graph, from: &Segments) -> BTreeSet<&'a Segments> {
    let (mut reached, mut waiting) = (BTreeSet::new(), vec![&graph[from]]);
    while let Some(imports) = waiting.pop() {
        waiting.extend(imports.iter().filter(|other| reached.insert(*other)).map(|o| &graph[o]));
    }
    reached
}

/// The name of a module in [`CIRCLES`].
fn name(module: &Segments) -> String {
    if module.is_empty() { "lib".to_owned() } else { module.join("::") }
}

/// The strongly connected components of more than one module.
fn circles(graph: &Graph) -> BTreeSet<Vec<String>> {
    let reached: BTreeMap<_, _> =
        graph.keys().map(|module| (module, reached(graph, module))).collect();
    let circle = |module: &Segments| {
        let all = reached[module].iter().filter(|other| reached[*other].contains(module));
        all.map(|other| name(other)).collect::<BTreeSet<_>>()
    };
    let circles = graph.keys().map(circle).filter(|circle| circle.len() > 1);
    circles.map(|circle| circle.into_iter().collect()).collect()
}

/// The folders of the workspace's packages, each with the root of its library.
fn packages() -> Vec<(String, String)> {
    let manifest = read("Cargo.toml").unwrap();
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let members = members.split('"').skip(1).step_by(2).map(str::to_owned);
    let root = |folder: String| {
        let manifest = read(&format!("{folder}/Cargo.toml")).unwrap();
        let is_flat = manifest.contains("[lib]\npath = \"lib.rs\"");
        let root = format!("{folder}/{}", if is_flat { "lib.rs" } else { "src/lib.rs" });
        (folder, root)
    };
    members.chain([".".to_owned()]).map(root).collect()
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()
}

#[test]
fn modules_import_each_other_in_no_circle_that_is_not_listed() {
    let packages = packages();
    assert!(packages.len() > 15, "only {} packages were found", packages.len());
    let mut complaints = Vec::new();
    let is_known = |package: &str| packages.iter().any(|(folder, _)| folder == package);
    for circle in CIRCLES.iter().filter(|circle| !is_known(circle.package)) {
        complaints.push(format!("{}: no such package: remove its entries", circle.package));
    }
    let mut seen = 0;
    for (package, root) in &packages {
        let graph = graph(root, &read);
        seen += graph.len();
        let found = circles(&graph);
        let listed = CIRCLES.iter().filter(|circle| circle.package == package);
        let listed: BTreeSet<Vec<String>> = listed
            .map(|circle| circle.modules.iter().map(|module| (*module).to_owned()).collect())
            .collect();
        for circle in found.difference(&listed) {
            let imports = edges(&graph, circle).join("\n    ");
            complaints.push(format!(
                "{package}: a circle that is not listed: {circle:?}; move what the modules share into a \
                 module of its own, or list the circle if it became smaller:\n    {imports}"
            ));
        }
        for circle in listed.difference(&found) {
            complaints.push(format!("{package}: no such circle any more: remove {circle:?}"));
        }
    }
    assert!(seen > 300, "only {seen} modules were found");
    assert!(CIRCLES.iter().all(|circle| circle.why.len() > 20));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The imports within a circle, for the message.
fn edges(graph: &Graph, circle: &[String]) -> Vec<String> {
    let within = graph.iter().filter(|(module, _)| circle.contains(&name(module)));
    within
        .map(|(module, imports)| {
            let imports: Vec<_> =
                imports.iter().map(name).filter(|other| circle.contains(other)).collect();
            format!("{} imports {}", name(module), imports.join(", "))
        })
        .collect()
}

/// Name and text of each file of a package.
type PackageFiles = &'static [(&'static str, &'static str)];
/// The modules of each circle.
type Circles = &'static [&'static [&'static str]];

#[test]
fn a_circle_is_found_however_the_modules_are_imported() {
    let cases: &[(PackageFiles, Circles)] = &[
        // Each imports the other, by any kind of path.
        (
            &[("lib", "mod a; mod b;"), ("a", "use super::b::B;"), ("b", "use crate::a;")],
            &[&["a", "b"]],
        ),
        (
            &[
                ("lib", "mod a; mod b;"),
                ("a", "use crate::{b::{self, B}};"),
                ("b", "fn f() { super::a::g() }"),
            ],
            &[&["a", "b"]],
        ),
        // What a parent defines or re-exports is the parent's.
        (&[("lib", "mod a;\nuse a::A;"), ("a", "use super::{Root};")], &[&["a", "lib"]]),
        (&[("lib", "mod a;\npub use a::A;"), ("a", "use crate::A;")], &[&["a", "lib"]]),
        (&[("lib", "mod a;\nfn f() { a::g() }"), ("a", "use super::*;")], &[&["a", "lib"]]),
        (
            &[("lib", "mod a;"), ("a", "mod b; use b::B;"), ("a/b", "use super::A;")],
            &[&["a", "a::b"]],
        ),
        // A declaration is no import, and neither is what stands in tests, comments and strings.
        (&[("lib", "mod a;"), ("a", "use super::Root;")], &[]),
        (
            &[
                ("lib", "mod a; use a::A;"),
                ("a", "// use super::Root;\nconst A: &str = \"super::Root\";"),
            ],
            &[],
        ),
        (
            &[
                ("lib", "mod a; use a::A;"),
                ("a", "#[cfg(test)]\nmod tests {\n    use super::super::*;\n}\n"),
            ],
            &[],
        ),
        (
            &[
                ("lib", "mod a; use a::A;"),
                ("a", "pub(super) struct A; fn f() { x.super_::<'a'>() }"),
            ],
            &[],
        ),
        // The parent of a module in the file is the file.
        (&[("lib", "mod a; use a::A;"), ("a", "mod plain {\n    use super::B;\n}\n")], &[]),
        (
            &[("lib", "mod a; use a::A;"), ("a", "mod plain {\n    use super::super::B;\n}\n")],
            &[&["a", "lib"]],
        ),
        // Two circles; and three modules in one.
        (
            &[
                ("lib", "mod a; mod b; mod c; mod d;"),
                ("a", "use super::b;"),
                ("b", "use super::{a, c};"),
                ("c", "use super::d;"),
                ("d", "use super::c;"),
            ],
            &[&["a", "b"], &["c", "d"]],
        ),
        (
            &[
                ("lib", "mod a; mod b; mod c;"),
                ("a", "use super::b;"),
                ("b", "use super::c;"),
                ("c", "use super::a;"),
            ],
            &[&["a", "b", "c"]],
        ),
    ];
    for (number, (files, expected)) in cases.iter().enumerate() {
        let read = |file: &str| {
            let found = files.iter().find(|(name, _)| format!("x/{name}.rs") == file);
            found.map(|(_, text)| (*text).to_owned())
        };
        let found = circles(&graph("x/lib.rs", &read));
        let expected: BTreeSet<Vec<String>> = expected
            .iter()
            .map(|circle| circle.iter().map(|module| (*module).to_owned()).collect())
            .collect();
        assert_eq!(found, expected, "case {number}");
    }
}
