//! What a program finds beside it: its modules, packages and scripts, and nothing in place of what
//! is the language's own.

use super::{
    expected::{Expected, ends, prints},
    provided::Case,
};

/// A module that must not be loaded.
const TRAP: &str = "print('ESCAPE', __name__)";

fn with_files(name: &str, language: &str, code: &str, files: &[(&str, &str)]) -> Case {
    let mut case = Case::own(name, language, code);
    case.files = files
        .iter()
        .map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec()))
        .collect();
    case
}

/// Of every level that gives programs files.
pub(super) fn cases() -> Vec<(Case, Expected)> {
    let mut cases = python();
    cases.extend(javascript());
    cases.push((
        with_files(
            "bash: libraries and scripts",
            "bash",
            "source lib.sh; . ./in/lib.sh; ./x.sh; ./in/x.py; bash main.sh; echo $0",
            &[
                ("lib.sh", "echo lib"),
                ("in/lib.sh", "echo in"),
                ("x.sh", "#!/bin/sh\necho script"),
                ("in/x.py", "#!/usr/bin/env bash\necho inner"),
                ("main.sh", "echo main"),
            ],
        ),
        prints("lib\nin\nscript\ninner\nmain\nmain-1.sh\n"),
    ));
    cases.push((
        Case::own("bash: lines as on Windows", "bash", "if true; then\r\n  echo yes\r\nfi\r\n"),
        prints("yes\n"),
    ));
    cases.push((Case::own("bash by another name", "zsh", "echo $BASH"), prints("bash\n")));
    cases.push((Case::own("Python by its version", "python3.9", "print(4)"), prints("4\n")));
    cases
}

fn python() -> Vec<(Case, Expected)> {
    let modules = [
        ("helper.py", "V = 1"),
        ("pkg/__init__.py", "from .b import B\nfrom . import sub"),
        ("pkg/b.py", "B = 2"),
        ("pkg/sub/__init__.py", "from ..b import B\nX = B + 1"),
        ("ns/mod.py", "N = 4"),
        ("main.py", "M = 5"),
        ("json.py", TRAP),
        ("random.py", TRAP),
        ("csv.py", TRAP),
        ("string/__init__.py", TRAP),
        ("encodings/utf_8.py", TRAP),
        ("sitecustomize.py", TRAP),
        ("usercustomize.py", TRAP),
        ("__main__.py", TRAP),
        ("trap.pth", "import trap"),
        ("trap.py", TRAP),
    ];
    vec![
        (
            with_files(
                "modules and packages",
                "python",
                "import helper, json, random, csv, string, main, ns.mod, sys\nfrom pkg import B\n\
                 from pkg.sub import X\nprint(helper.V, B, X, ns.mod.N, main.M)\n\
                 print(__name__, __file__.rpartition('/')[2], sys.argv, json.dumps(string.digits))",
                &modules,
            ),
            prints("1 2 3 4 5\n__main__ main-1.py ['main-1.py'] \"0123456789\"\n"),
        ),
        (
            with_files(
                "modules that are installed come last",
                "python",
                "import pip, sys, os\nprint(pip.MINE, sys.path.index(os.getcwd()) > 0)",
                &[("pip.py", "MINE = 6")],
            ),
            prints("6 True\n"),
        ),
        (
            with_files(
                "a traceback shows the lines of all files, and nothing before them",
                "python",
                "import helper\nhelper.fail(0)  # here",
                &[("helper.py", "def fail(n):\n    return 1 / n  # there")],
            ),
            ends()
                .code(1)
                .says("Traceback (most recent call last):\n  File \"")
                .says("main.py\", line 2, in <module>\n    helper.fail(0)  # here")
                .says("helper.py\", line 2, in fail\n    return 1 / n  # there"),
        ),
        (
            with_files(
                "Pythons that it starts",
                "python",
                "import subprocess as s, sys\nfor words in (['x.py'], ['-m', 'pkg'], ['-c', 'import helper']):\n    \
                 print(s.run([sys.executable, *words], capture_output=True, text=True).stdout.strip())",
                &[
                    ("x.py", "import helper\nprint('x', helper.V)"),
                    ("pkg/__init__.py", ""),
                    ("pkg/__main__.py", "from . import mod\nprint(__name__, mod.__name__)"),
                    ("pkg/mod.py", ""),
                    ("helper.py", "V = 1\nprint('helped')"),
                ],
            ),
            prints("helped\nx 1\n__main__ pkg.mod\nhelped\n"),
        ),
        (
            Case::own(
                "classes and functions of the program itself",
                "python",
                "import pickle, inspect\nclass A:\n    def __init__(self): self.a = 1\n\
                 print(pickle.loads(pickle.dumps(A())).a, inspect.getsource(A).splitlines()[0])",
            ),
            prints("1 class A:\n"),
        ),
    ]
}

fn javascript() -> Vec<(Case, Expected)> {
    let files = [
        ("helper.js", "exports.h = 1"),
        ("data.json", "{\"d\": 2}"),
        ("lib/x.mjs", "export const x = 3; export default await Promise.resolve(4)"),
        ("node_modules/pkg/package.json", "{\"main\": \"in/dex.js\"}"),
        ("node_modules/pkg/in/dex.js", "module.exports = 5"),
        ("main.js", "exports.m = 6"),
        ("fs.js", "console.log('ESCAPE')"),
    ];
    let mut modern = files.to_vec();
    modern.push(("package.json", "{\"type\": \"module\"}"));
    vec![
        (
            with_files(
                "node: modules and packages",
                "node",
                "const fs = require('fs'), pkg = require('pkg'), {d} = require('./data');\n\
                 console.log(require('./helper').h, d, pkg, require('./main').m, require.main === module,\n\
                 require('path').basename(__filename), process.argv.length);\n\
                 import('./lib/x.mjs').then(m => console.log(m.x, m.default))",
                &files,
            ),
            prints("1 2 5 6 true main-1.js 2\n3 4\n"),
        ),
        (
            with_files(
                "node: a program that is a module",
                "node",
                "import four, {x} from './lib/x.mjs';\nimport pkg from 'pkg';\n\
                 console.log(x, four, pkg, await Promise.resolve(7))",
                &modern,
            ),
            prints("3 4 5 7\n"),
        ),
    ]
}

/// Of the level that has shared memory and sockets.
pub(super) fn processes() -> (Case, Expected) {
    let case = with_files(
        "pools of processes, however they are started",
        "python",
        "import helper, multiprocessing as m\ndef f(x): return x * helper.V\nif __name__ == '__main__':\n    \
         for how in ('fork', 'spawn'):\n        \
         with m.get_context(how).Pool(1) as pool: print(how, pool.map(f, range(3)))",
        &[("helper.py", "V = 2"), ("main.py", TRAP), ("json.py", TRAP)],
    );
    (case, prints("fork [0, 2, 4]\nspawn [0, 2, 4]\n"))
}
