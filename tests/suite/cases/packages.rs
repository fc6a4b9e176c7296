//! Packages of a virtual environment and of a `node_modules`, used by programs in real jails.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::inside::{self, Who};
use crate::{cli::program, ingress::Up};

/// A virtual environment and a `node_modules`, each with one tiny package.
fn make_packages(dir: &Path) {
    let system = Path::new("/usr/bin/python3");
    let python = if system.exists() { system } else { Path::new("python3") };
    let mut command = Command::new(python);
    command.args(["-m", "venv", "--without-pip"]).arg(dir.join("venv"));
    let made = command.output().unwrap();
    assert!(made.status.success(), "no virtual environment: {made:?}");
    let library = fs::read_dir(dir.join("venv/lib")).unwrap().next().unwrap().unwrap().path();
    let write = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let site = library.join("site-packages");
    write(&site.join("tinykit.py"), "def word():\n    return 'from the environment'\n");
    write(&site.join("tinykit-1.2.dist-info/METADATA"), "");
    let package = dir.join("project/node_modules/tinybox");
    write(&package.join("package.json"), r#"{"version": "0.3.0", "main": "index.js"}"#);
    write(&package.join("index.js"), "exports.word = () => 'from the project';\n");
}

fn settings(dir: &Path, level: &str, members: usize) -> [String; 4] {
    [
        format!("python={}", dir.join("venv").display()),
        format!("node_modules={}", dir.join("project/node_modules").display()),
        format!("sandbox={level}"),
        format!("pool_members={members}"),
    ]
}

fn factory(dir: &Path, settings: &[String], arguments: &[&str]) -> Command {
    let mut command = program(dir);
    command.env("TMPDIR", dir).arg("--data-dir").arg(dir.join("data")).args(arguments);
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    command
}

/// Whether this machine has Node.js for everybody.
fn has_node() -> bool {
    ["/usr/bin/node", "/usr/local/bin/node"].iter().any(|path| Path::new(path).exists())
}

fn assert_packages_are_found(dir: &Path) {
    make_packages(dir);
    for (level, members) in [("full", 0), ("full", 1), ("reduced", 0), ("reduced", 1)] {
        let settings = settings(dir, level, members);
        let up = Up::launch(factory(dir, &settings, &["up", "--port", "0"]));
        let run = |language: &str, code: &str| -> Value {
            let asked = json!({ "language": language, "code": code });
            up.http.post_plain("/debugger/run", &asked).unwrap().1
        };
        let assert_prints = |language: &str, code: &str, wanted: &str| {
            let answer = run(language, code);
            let said = (answer["stdout"].as_str().unwrap().trim(), &answer["isolation"]["level"]);
            assert_eq!(said, (wanted, &json!(level)), "{language}, {members} wait: {answer}");
        };
        let python = "import tinykit; print(tinykit.word())";
        assert_prints("python", python, "from the environment");
        for name in ["python", "python3"] {
            assert_prints("bash", &format!("{name} -c '{python}'"), "from the environment");
        }
        let change = "import tinykit\ntry: open(tinykit.__file__, 'a')\n\
                      except OSError: print('refused')";
        assert_prints("python", change, "refused");
        if has_node() {
            let required = "console.log(require('tinybox').word())";
            assert_prints("javascript", required, "from the project");
            assert_prints("bash", &format!("node -e \"{required}\""), "from the project");
        }
        if has_node() && level == "full" {
            let imported = "import('tinybox').then((it) => console.log(it.default.word()))";
            assert_prints("javascript", imported, "from the project");
        }
        let failed = run("python", "import tinykit\n\ntinykit.words()\n");
        let diagnosis = &failed["diagnosis"];
        assert_eq!(diagnosis["kind"], "exception", "{failed}");
        let place = (&diagnosis["file"], &diagnosis["line"], &diagnosis["excerpt"][2]["text"]);
        assert_eq!(place, (&json!("main.py"), &json!(3), &json!("tinykit.words()")), "{failed}");
        drop(up);
    }
}

#[test]
fn programs_use_the_packages_that_the_settings_name_as_root() {
    let test =
        concat!(module_path!(), "::programs_use_the_packages_that_the_settings_name_as_root");
    inside::run(test, Who::Root, assert_packages_are_found);
}

#[test]
fn programs_use_the_packages_that_the_settings_name_as_a_user() {
    let test =
        concat!(module_path!(), "::programs_use_the_packages_that_the_settings_name_as_a_user");
    inside::run(test, Who::User, assert_packages_are_found);
}

#[test]
fn doctor_names_the_packages_and_a_wrong_path_stops_the_start() {
    let tmp = tempfile::tempdir().unwrap();
    make_packages(tmp.path());
    let ran = |settings: &[String], arguments: &[&str]| {
        let output = factory(tmp.path(), settings, arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (_, found) = ran(&settings(tmp.path(), "full", 0), &["doctor"]);
    for words in ["tinykit 1.2", "tinybox 0.3.0", "venv/bin/python"] {
        assert!(found.contains(words), "{words}: {found}");
    }
    let missing = ["python=/nonexistent/venv".to_owned()];
    let (code, said) = ran(&missing, &["up", "--port", "0"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`/nonexistent/venv`, which does not exist"), "{said}");
    let (_, found) = ran(&missing, &["doctor"]);
    assert!(found.contains("`/nonexistent/venv`, which does not exist"), "{found}");
}
