//! Workspaces in real jails: what goes in, what comes out, and trees that mean harm.
//!
//! Everything happens as root and as an ordinary user, at both levels that have jails.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ai_factory::sandbox::{JailSandbox, RunLimits, SandboxSettings};
use ai_factory_ports::sandbox::{
    ChangedFile, FileContents, Program, ProgramOutcome, ProgramWorkspace, Sandbox as _,
    SandboxError, WorkspaceOutcome,
};
use ai_factory_schemas::{
    run::EndedBy,
    text::BlobHash,
    workspace::{WorkspaceFile, WorkspaceLimits, WorkspaceManifest},
};

use super::inside::{self, Who};

/// Far more than any of these takes.
const AMPLE: Duration = Duration::from_mins(4);
const MIB: u64 = 1024 * 1024;

/// Contents in memory.
struct Contents(BTreeMap<BlobHash, Vec<u8>>);

#[async_trait::async_trait]
impl FileContents for Contents {
    async fn contents(&self, hashes: Vec<BlobHash>) -> Result<Vec<Vec<u8>>, String> {
        let content = |hash: BlobHash| {
            self.0.get(&hash).cloned().ok_or_else(|| format!("blob {hash} is missing"))
        };
        hashes.into_iter().map(content).collect()
    }
}

/// One level for one user.
struct Place {
    runtime: tokio::runtime::Runtime,
    sandbox: Arc<JailSandbox>,
    runs: PathBuf,
    dir: PathBuf,
    level: &'static str,
}

impl Place {
    fn new(level: &'static str, dir: &Path) -> Self {
        // Room for files that a workspace cannot hold.
        Self::with(level, dir, RunLimits { file_bytes: 2048 * MIB, ..RunLimits::default() })
    }

    fn with(level: &'static str, dir: &Path, limits: RunLimits) -> Self {
        let runs = dir.join("runs");
        // An interpreter in somebody's home is out of reach for a user of the run's own.
        let system = [("python", "/usr/bin/python3"), ("javascript", "/usr/bin/node")];
        let found = system.into_iter().filter(|(_, path)| Path::new(path).exists());
        let settings = SandboxSettings {
            guardian: std::env::var_os(crate::cli::PROGRAM).unwrap().into(),
            interpreters: found.map(|(name, path)| (name, path.into())).collect(),
            pool_members: 0,
            limits,
            ..SandboxSettings::new(&runs)
        };
        let sandbox = if level == "full" {
            JailSandbox::full(settings)
        } else {
            JailSandbox::reduced(settings)
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { runtime, sandbox, runs, dir: dir.to_owned(), level }
    }

    fn try_run(&self, program: Program) -> Result<ProgramOutcome, SandboxError> {
        self.runtime.block_on(async {
            let ran = tokio::time::timeout(AMPLE * 2, self.sandbox.run(program)).await;
            self.sandbox.drained().await;
            // At level `reduced` root has them below the directory of temporary files.
            for place in [self.runs.clone(), std::env::temp_dir().join("ai-factory-runs")] {
                let left = fs::read_dir(place).into_iter().flatten().count();
                assert_eq!(left, 0, "directories of runs are left");
            }
            ran.expect("the run ends")
        })
    }

    fn run(&self, program: Program) -> ProgramOutcome {
        self.try_run(program).unwrap()
    }

    /// Runs bash code on a small workspace, and answers what came of it.
    fn bash(&self, code: &str) -> WorkspaceOutcome {
        let ran = self.run(program("bash", code, &SMALL));
        assert_eq!(ran.exit_code, 0, "{code}: {ran:?}");
        ran.workspace.expect("an outcome of the workspace")
    }

    /// Runs bash code that makes the workspace unfit; answers why nothing is taken.
    fn refusal(&self, code: &str) -> String {
        self.bash(code).changes.expect_err(code)
    }
}

/// A file as a test names it: path, content, whether it can be executed.
type Given = (&'static str, &'static str, bool);

const SMALL: [Given; 3] =
    [("a.txt", "one\n", false), ("dir/b.txt", "two\n", false), ("run.sh", "echo ran\n", true)];

fn workspace(files: &[Given]) -> ProgramWorkspace {
    let mut contents = BTreeMap::new();
    let mut manifest = WorkspaceManifest::default();
    for (path, content, executable) in files {
        let (blob, bytes) = (BlobHash::of(content.as_bytes()), content.len() as u64);
        contents.insert(blob, content.as_bytes().to_vec());
        let file = WorkspaceFile { blob, bytes, executable: *executable };
        manifest.files.insert((*path).to_owned(), file);
    }
    ProgramWorkspace {
        files: Arc::new(manifest),
        contents: Arc::new(Contents(contents)),
        limits: WorkspaceLimits::default(),
        discard: false,
    }
}

fn program(language: &str, source: &str, files: &[Given]) -> Program {
    Program {
        language: language.to_owned(),
        source: source.to_owned(),
        stdin: None,
        files: Vec::new(),
        return_files: Vec::new(),
        wall_max: AMPLE,
        traceparent: None,
        cpu_max: None,
        workspace: Some(workspace(files)),
    }
}

/// Changes in short: `path=content`, with `*` before the content of a file that can be executed, or
/// `path` alone if it was deleted.
fn told(changes: &[ChangedFile]) -> Vec<String> {
    let one = |ChangedFile { path, file }: &ChangedFile| match file {
        Some(file) => {
            let mark = if file.executable { "*" } else { "" };
            format!("{path}={mark}{}", String::from_utf8_lossy(file.blob.bytes()).trim_end())
        }
        None => path.clone(),
    };
    changes.iter().map(one).collect()
}

fn taken(outcome: &WorkspaceOutcome) -> Vec<String> {
    told(outcome.changes.as_ref().expect("changes are taken"))
}

fn left_out(outcome: &WorkspaceOutcome) -> Vec<(&str, &str)> {
    outcome.left_out.iter().map(|it| (it.name.as_str(), it.reason.as_str())).collect()
}

/// One test for each of root and user at each level.
macro_rules! at_each_level {
    ($body:path: $($name:ident, $who:expr, $level:expr;)*) => {
        $(#[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            inside::run(test, $who, |dir| $body(&Place::new($level, dir)));
        })*
    };
}

at_each_level! {
    files_go_in_and_come_out:
    a_workspace_goes_in_and_comes_out_as_root_full, Who::Root, "full";
    a_workspace_goes_in_and_comes_out_as_root_reduced, Who::Root, "reduced";
    a_workspace_goes_in_and_comes_out_as_a_user_full, Who::User, "full";
    a_workspace_goes_in_and_comes_out_as_a_user_reduced, Who::User, "reduced";
}

at_each_level! {
    hostile_trees:
    a_hostile_tree_gets_a_clear_word_as_root_full, Who::Root, "full";
    a_hostile_tree_gets_a_clear_word_as_root_reduced, Who::Root, "reduced";
    a_hostile_tree_gets_a_clear_word_as_a_user_full, Who::User, "full";
    a_hostile_tree_gets_a_clear_word_as_a_user_reduced, Who::User, "reduced";
}

fn files_go_in_and_come_out(place: &Place) {
    bash_changes_files(place);
    modules_of_the_workspace_are_found(place);
    a_failed_run_changes_files_too(place);
    what_is_discarded_or_missing(place);
    large_workspaces(place);
    limits_of_a_program(place);
}

fn bash_changes_files(place: &Place) {
    let ran = place.run(program(
        "bash",
        "./run.sh; test ! -x a.txt && cat a.txt dir/b.txt; echo new > dir/new.txt; rm a.txt\n\
         echo three >> dir/b.txt; echo temporary > $(mktemp); echo home > ~/mine; ls ..",
        &SMALL,
    ));
    assert_eq!(ran.exit_code, 0, "{ran:?}");
    assert!(ran.stdout.text.starts_with("ran\none\ntwo\n"), "{ran:?}");
    assert!(ran.stdout.text.contains("main.sh"), "the program lies beside it: {ran:?}");
    let outcome = ran.workspace.unwrap();
    assert_eq!(taken(&outcome), ["a.txt", "dir/b.txt=two\nthree", "dir/new.txt=new"]);
    assert!(outcome.left_out.is_empty());
    assert_eq!(taken(&place.bash("cat a.txt > /dev/null; mkdir empty")), [""; 0]);
    assert_eq!(
        taken(&place.bash("mv dir other; cp run.sh a.sh")),
        ["a.sh=*echo ran", "dir/b.txt", "other/b.txt=two"]
    );
    assert_eq!(
        taken(&place.bash("rm -r ./*; mkdir a.txt; echo x > a.txt/x")),
        ["a.txt", "a.txt/x=x", "dir/b.txt", "run.sh"]
    );
    // Without a program that changes permissions: not everyone may.
    let made = place.bash("cp run.sh tool; cat a.txt > run.sh.new; mv run.sh.new run.sh");
    assert_eq!(taken(&made), ["run.sh=one", "tool=*echo ran"]);
}

fn modules_of_the_workspace_are_found(place: &Place) {
    let files = [
        ("main.py", "NAME = 'main of the workspace'\n", false),
        ("package/__init__.py", "", false),
        ("package/inner.py", "from package import other\nVALUE = other.VALUE\n", false),
        ("package/other.py", "VALUE = 42\n", false),
    ];
    let ran = place.run(program(
        "python",
        "import os, sys, main, package.inner\n\
         print(main.NAME, package.inner.VALUE, os.path.basename(__file__), sorted(os.listdir()))\n\
         print(os.path.realpath(os.path.dirname(__file__)) == os.path.realpath('..'))\n\
         open('main.py', 'a').write('MORE = 1\\n')",
        &files,
    ));
    assert_eq!(
        ran.stdout.text, "main of the workspace 42 main.py ['main.py', 'package']\nTrue\n",
        "{ran:?}"
    );
    let changed = taken(&ran.workspace.unwrap());
    assert_eq!(changed, ["main.py=NAME = 'main of the workspace'\nMORE = 1"]);
    let languages = place.runtime.block_on(place.sandbox.languages());
    if !languages.iter().any(|language| language.name == "javascript") {
        return;
    }
    let files = [
        ("main.js", "exports.name = 'main of the workspace'", false),
        ("lib/helper.js", "exports.value = require('../main').name", false),
        ("module.mjs", "export const value = 42", false),
        ("package.json", "{\"type\": \"commonjs\"}", false),
    ];
    let ran = place.run(program(
        "javascript",
        "const fs = require('fs');\n\
         fs.writeFileSync('out.txt', require('./lib/helper').value);\n\
         import('./module.mjs').then((it) => console.log(it.value, require.main === module, __dirname === process.cwd()));",
        &files,
    ));
    assert_eq!(ran.stdout.text, "42 true true\n", "{ran:?}");
    assert_eq!(taken(&ran.workspace.unwrap()), ["out.txt=main of the workspace"]);
    // Import statements in a program's own text: not every Node.js knows them there.
    let imports = |from: &str| format!("import * as it from '{from}';\nconsole.log(typeof it);");
    let known = Program { workspace: None, ..program("javascript", &imports("node:fs"), &[]) };
    if place.run(known).exit_code == 0 {
        let ran = place.run(program("javascript", &imports("./module.mjs"), &files));
        assert_eq!(ran.stdout.text, "object\n", "{ran:?}");
    }
}

fn a_failed_run_changes_files_too(place: &Place) {
    let ran = place.run(program("bash", "echo new > new; exit 3", &SMALL));
    assert_eq!(ran.exit_code, 3);
    assert_eq!(taken(&ran.workspace.unwrap()), ["new=new"]);
    let ran = place.run(program("bash", "echo new > new; kill -9 $$", &SMALL));
    assert_eq!(ran.ended_by, EndedBy::Signal);
    assert_eq!(taken(&ran.workspace.unwrap()), ["new=new"]);
    let endless = "open('new', 'w').write('new')\nwhile True: pass";
    let wall_max = Duration::from_secs(2);
    let ran = place.run(Program { wall_max, ..program("python", endless, &SMALL) });
    assert_eq!(ran.ended_by, EndedBy::Wall);
    assert_eq!(taken(&ran.workspace.unwrap()), ["new=new"]);
}

fn what_is_discarded_or_missing(place: &Place) {
    let mut asked = program("bash", "cat a.txt; echo new > new; rm a.txt", &SMALL);
    asked.workspace.as_mut().unwrap().discard = true;
    let ran = place.run(asked);
    assert_eq!((ran.stdout.text.as_str(), ran.workspace), ("one\n", None));

    // A content that no run had before: those of the last runs are kept.
    let mut asked = program("bash", "echo it ran", &[SMALL[0], ("lost.txt", "lost\n", false)]);
    asked.workspace.as_mut().unwrap().contents = Arc::new(Contents(BTreeMap::new()));
    let error = place.try_run(asked).unwrap_err().to_string();
    let blob = BlobHash::of(b"lost\n").to_string();
    assert!(error.contains(&blob), "{error}");

    for (path, words) in [
        ("../a", "must be a path below"),
        ("/a", "must be a path below"),
        ("a/.git/config", "version control"),
        ("a.txt/b", "a file and a directory"),
    ] {
        let asked = program("bash", "echo it ran", &[SMALL[0], (path, "x", false)]);
        let refused = place.sandbox.check(&asked).unwrap_err();
        assert!(matches!(refused, SandboxError::Refused(_)), "{refused}");
        assert!(refused.to_string().contains(words), "{path}: {refused}");
        assert_eq!(place.try_run(asked), Err(refused));
    }
}

/// As many and as large files as there may be, and the usual room beside them.
fn large_workspaces(place: &Place) {
    let mut given = workspace(&[]);
    let limits = given.limits;
    let mut contents = BTreeMap::new();
    let files = Arc::make_mut(&mut given.files);
    let bytes_each = usize::try_from(limits.bytes_max).unwrap() / limits.files_max;
    for number in 0..limits.files_max {
        let mut content = number.to_string().into_bytes();
        content.resize(bytes_each, b' ');
        let blob = BlobHash::of(&content);
        let file = WorkspaceFile { blob, bytes: bytes_each as u64, executable: false };
        files.files.insert(format!("{number}/file"), file);
        contents.insert(blob, content);
    }
    given.contents = Arc::new(Contents(contents));
    let code = "head -c 60M /dev/zero > ../more && rm ../more; ls | wc -l; echo -n 0 > 0/file";
    let ran = place.run(Program { workspace: Some(given), ..program("bash", code, &[]) });
    assert_eq!(ran.stdout.text, format!("{}\n", limits.files_max), "{ran:?}");
    assert_eq!(taken(&ran.workspace.unwrap()), ["0/file=0"]);
}

fn limits_of_a_program(place: &Place) {
    // Less than any interpreter takes.
    let limits = RunLimits { cpu_s: 0, ..RunLimits::default() };
    let strict = Place::with(place.level, &place.dir, limits);
    let burn = "import time\nwhile time.process_time() < 0.2: pass\nprint('burnt')";
    let ran = strict.run(program("python", burn, &SMALL));
    assert_eq!(ran.ended_by, EndedBy::Cpu, "{ran:?}");
    assert_eq!(ran.stdout.text, "", "{ran:?}");
    for workspace in [Some(workspace(&SMALL)), None] {
        let cpu_max = Some(Duration::from_mins(5));
        let ran = strict.run(Program { cpu_max, workspace, ..program("python", burn, &[]) });
        assert_eq!((ran.stdout.text.as_str(), ran.exit_code), ("burnt\n", 0), "{ran:?}");
        assert_eq!(ran.isolation.unwrap().limits["cpu_s"], 300);
    }
    let asked = Program { return_files: vec!["*.txt".to_owned()], ..program("bash", ":", &SMALL) };
    assert_eq!(place.run(asked).files[0].name, "a.txt");
}

fn hostile_trees(place: &Place) {
    changes_that_hide(place);
    things_that_are_no_files(place);
    trees_without_permissions(place);
    caches_and_environments(place);
    trees_that_do_not_fit(place);
    trees_that_move(place);
}

/// What a run changes is seen though size and times are as before, and no later run on the same
/// files sees it.
fn changes_that_hide(place: &Place) {
    let code = "import mmap, os\n\
                before = os.stat('a.txt')\n\
                with open('a.txt', 'r+b') as file:\n\
                \x20   shared = mmap.mmap(file.fileno(), 0)\n\
                \x20   shared[0:3] = b'ONE'\n\
                \x20   shared.close()\n\
                try: os.utime('a.txt', ns=(before.st_atime_ns, before.st_mtime_ns))\n\
                except PermissionError: pass\n";
    for _ in 0..2 {
        let ran = place.run(program("python", code, &SMALL));
        assert_eq!(ran.exit_code, 0, "{ran:?}");
        assert_eq!(taken(&ran.workspace.unwrap()), ["a.txt=ONE"]);
    }
    let ran = place.run(program("bash", "cat a.txt", &SMALL));
    assert_eq!(ran.stdout.text, "one\n", "{ran:?}");
}

fn things_that_are_no_files(place: &Place) {
    let outcome = place.bash(
        "ln -s /etc/passwd link; ln -s .. dir/up; ln -s a.txt inner; mkfifo pipe; mknod device c 1 3 2> /dev/null\n\
         echo x > $'caf\\xe9'; echo x > $'new\\nline'; mkdir $'\\xff'; echo x > $'\\xff/in'; rm dir/b.txt; ln -s ../a.txt dir/b.txt\n\
         ln a.txt hard; true",
    );
    assert_eq!(taken(&outcome), ["hard=one"]);
    assert_eq!(
        left_out(&outcome),
        [
            ("dir/b.txt", "it is a symbolic link: it stays as it went in"),
            ("caf\\xe9", "its name is not UTF-8"),
            ("dir/up", "it is a symbolic link"),
            ("inner", "it is a symbolic link"),
            ("link", "it is a symbolic link"),
            ("new\\nline", "its name has control characters"),
            ("pipe", "it is a named pipe, not a regular file"),
            ("\\xff", "its name is not UTF-8"),
        ]
    );
    // Hard links to files of the machine cannot be made; at most to what the run itself has.
    let outcome = place.bash("ln /etc/hostname stolen 2> /dev/null; ln ../main.sh own; true");
    assert_eq!(outcome.changes.unwrap().len(), 1);
}

fn trees_without_permissions(place: &Place) {
    let outcome = place.bash(
        "umask 777; echo secret > unreadable; mkdir closed; umask 022; rm a.txt; mkdir -p x/y; echo in > x/y/f\n\
         chmod 0 x/y x . .. 2> /dev/null; true",
    );
    assert_eq!(taken(&outcome), ["a.txt", "unreadable=secret", "x/y/f=in"]);
}

fn caches_and_environments(place: &Place) {
    let outcome = place.bash(
        "for d in .git __pycache__ .pytest_cache .mypy_cache .ruff_cache node_modules .venv dir/.git env; do\n\
         mkdir -p $d/in; echo x > $d/in/file; done; echo x > env/pyvenv.cfg; echo x > m.pyc; echo y > kept.py\n\
         echo x > dir/pyvenv.cfg; rm dir/b.txt",
    );
    // A directory of files that went in does not become a virtual environment by its mark.
    assert_eq!(taken(&outcome), ["dir/b.txt", "kept.py=y"]);
    let [environment] = &outcome.left_out[..] else { panic!("{:?}", outcome.left_out) };
    assert_eq!(environment.name, "env");
    // Nothing in a directory with too long a path could be named, and it refuses nothing else.
    let outcome = place.bash("mkdir -p $(printf '%0100d/%0100d/%0100d' 0 0 0); echo x > new");
    assert_eq!(taken(&outcome), ["new=x"]);
    assert!(outcome.left_out[0].reason.contains("too long: at most 255 bytes"));
}

fn trees_that_do_not_fit(place: &Place) {
    for (code, words) in [
        ("truncate -s 1G big; rm a.txt", "\"big\" has 1073741824 bytes: at most 3145728 each"),
        (
            "for n in 1 2 3 4 5 6 7 8 9; do head -c 3M /dev/zero > big$n; done",
            "more than 25165824 bytes",
        ),
        ("head -c 3145729 /dev/zero > a.txt", "at most 3145728 each"),
    ] {
        let refusal = place.refusal(code);
        assert!(refusal.contains(words), "{code}: {refusal}");
    }
    let many = "seq 10000 | xargs touch 2> /dev/null; true";
    assert!(place.refusal(many).contains("more than 2000 files"));
    if place.level == "full" {
        let outcome = place.bash("rm a.txt; cat /dev/zero > ../full; echo x > new; true");
        // The file was made, and nothing could be written to it.
        assert_eq!(taken(&outcome), ["a.txt", "new="]);
    }
}

fn trees_that_move(place: &Place) {
    for code in [
        "mv ../work ../other",
        "mv ../work ../other; mkdir ../work; echo x > ../work/x",
        "rm -rf ../work",
        "mv ../work ../other; ln -s /usr ../work",
    ] {
        let refusal = place.refusal(code);
        assert!(refusal.contains("removed or replaced the directory"), "{code}: {refusal}");
    }
    // A process that goes on renaming when the program has ended is ended before the listing.
    let outcome = place.bash(
        "(trap '' HUP TERM; while :; do mv dir other; mv other dir; done) > /dev/null 2>&1 &\n\
         sleep 0.1; echo x > x",
    );
    let known: BTreeSet<_> =
        ["dir/b.txt", "other/b.txt=two", "x=x"].into_iter().map(str::to_owned).collect();
    let changed: BTreeSet<_> = taken(&outcome).into_iter().collect();
    assert!(changed.len() % 2 == 1 && changed.is_subset(&known), "{changed:?}");
}

#[test]
fn a_process_level_refuses_workspaces_with_a_remedy() {
    let sandbox = ai_factory::sandbox::ProcessSandbox::new(SandboxSettings::new("/nonexistent"));
    let refused = sandbox.check(&program("python", "1", &SMALL)).unwrap_err().to_string();
    assert!(refused.contains("set `sandbox` to `full`"), "{refused}");
}
