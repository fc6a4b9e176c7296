//! The world around a case: a factory with a secret, a directory with that secret, and listeners
//! that nobody may reach.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ai_factory_schemas::file::RunFile;
use serde_json::{Value, json};

use super::{expected::Expected, provided::Case};
use crate::{cli::program, ingress::Up};

/// What nothing that runs may ever see.
const SECRET: &str = "DBROW-1f7c0a52";
/// What is put before a program that proves nothing by itself.
const MARK: &str = "it ran";

/// The interpreter that everybody may start.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// Whether interpreters wait for their programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Each starts when it is needed.
    Cold,
    /// Some wait, locked down.
    Warm,
}

/// A factory in its world.
pub(super) struct Stage {
    up: Up,
    level: &'static str,
    dir: PathBuf,
    listeners: Listeners,
}

/// Those who hear when somebody reaches out of the sandbox.
struct Listeners {
    tcp: u16,
    udp: u16,
    name: String,
    heard: Arc<AtomicUsize>,
}

impl Listeners {
    fn at(socket: &Path) -> Self {
        let heard = Arc::new(AtomicUsize::new(0));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ports = [tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port()];
        // Such names belong to the network namespace; so does the port, which nobody else has.
        let name = format!("casebox-test-{}", ports[0]);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let unix = UnixListener::bind(socket).unwrap();
        fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
        for unix in [unix, UnixListener::bind_addr(&address).unwrap()] {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                for stream in unix.incoming() {
                    heard.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.unwrap().write_all(SECRET.as_bytes());
                }
            });
        }
        let count = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.unwrap().write_all(SECRET.as_bytes());
            }
        });
        let count = Arc::clone(&heard);
        std::thread::spawn(move || {
            while udp.recv(&mut [0; 16]).is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { tcp: ports[0], udp: ports[1], name, heard }
    }
}

impl Stage {
    /// Starts a factory in `dir`, with its secret and its listeners beside it.
    pub(super) fn set(dir: &Path, level: &'static str, start: Start, wall_ms_max: u64) -> Self {
        let socket = dir.join("docker.sock");
        let _ = fs::remove_file(&socket);
        let listeners = Listeners::at(&socket);
        fs::write(dir.join("secret.db"), SECRET).unwrap();
        let mut command = program(dir);
        // The only directory that can be written to.
        command.env("SECRET_TOKEN", SECRET).env("TMPDIR", dir);
        command.arg("--data-dir").arg(dir.join("data")).args(["up", "--port", "0"]);
        let members = if start == Start::Warm { 2 } else { 0 };
        let settings = [
            format!("run_wall_ms_max={wall_ms_max}"),
            format!("pool_members={members}"),
            format!("sandbox={level}"),
            // An interpreter in somebody's home is out of reach for a user of the run's own.
            format!("python={SYSTEM_PYTHON}"),
        ];
        // At level `full` the first on the path is found, wherever it is.
        let settings = &settings[..settings.len() - usize::from(level == "full")];
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let stage = Self { up: Up::launch(command), level, dir: dir.to_owned(), listeners };
        // The cases mean harm. Where they are not shut in, none may run.
        let (status, answer) = stage.run(&Case::own("a first one", "python", ""), "print(2+2)");
        let is_shut_in = answer["isolation"]["level"] == level;
        assert!(status == 200 && is_shut_in, "no sandbox: {status} {answer}");
        stage
    }

    /// A program with what it needs to know of the service filled in.
    fn filled(&self, text: &str) -> String {
        let at = |name: &str| self.dir.join(name).display().to_string();
        text.replace("{SERVICE_DB}", &at("secret.db"))
            .replace("{SERVICE_PID}", &self.up.pid().to_string())
            .replace("{SERVICE_SOCK}", &at("docker.sock"))
            .replace("{SERVICE_DIR}", &self.dir.display().to_string())
            .replace("{SECRET}", SECRET)
            .replace("18999", &self.listeners.tcp.to_string())
            .replace("18998", &self.listeners.udp.to_string())
            .replace("casebox-test", &self.listeners.name)
    }

    /// Runs a program, answers status and body.
    pub(super) fn run(&self, case: &Case, code: &str) -> (u16, Value) {
        let files: Vec<_> =
            case.files.iter().map(|(name, bytes)| RunFile::new(name.clone(), bytes)).collect();
        let mut asked = json!({ "language": case.language(), "code": code, "files": files });
        asked["return_files"] = json!(case.return_files);
        if let Some(stdin) = &case.stdin {
            asked["stdin"] = json!(stdin);
        }
        self.up.http.post_plain("/debugger/run", &asked).unwrap()
    }

    /// Runs a case and says what is wrong with what came of it.
    pub(super) fn play(&self, case: &Case, expected: &Expected) -> Option<String> {
        let mut code = self.filled(case.code());
        if expected.marked {
            let mark = match case.language() {
                "node" | "javascript" => format!("console.log('{MARK}')\n"),
                "bash" => format!("echo '{MARK}'\n"),
                _ => format!("print('{MARK}',flush=True)\n"),
            };
            code.insert_str(0, &mark);
        }
        let (status, answer) = self.run(case, &code);
        let fault = self.judge(status, &answer, expected).err()?;
        let mut shown = answer.to_string();
        shown.truncate(shown.floor_char_boundary(3_000));
        Some(format!("{}: {fault}\n    {status} {shown}", case.title()))
    }

    fn judge(&self, status: u16, answer: &Value, expected: &Expected) -> Result<(), String> {
        let text = |name: &str| answer[name].as_str().unwrap_or_default();
        let (stdout, stderr) = (text("stdout"), text("stderr"));
        let ensure = |holds: bool, fault: &str| if holds { Ok(()) } else { Err(fault.to_owned()) };
        let heard = self.listeners.heard.swap(0, Ordering::SeqCst);
        ensure(heard == 0, "a listener outside was reached")?;
        ensure(!answer.to_string().contains(SECRET), "the secret came out")?;
        if expected.may_be_refused && (400..500).contains(&status) {
            return Ok(());
        }
        ensure(status == 200, "it was not run")?;
        ensure(!stdout.contains("ESCAPE"), "it got out")?;
        ensure(!expected.marked || stdout.starts_with(MARK), "nothing shows that it ran")?;
        for wanted in &expected.prints {
            ensure(stdout.contains(wanted), &format!("it did not print {wanted:?}"))?;
        }
        for wanted in &expected.says {
            ensure(stderr.contains(wanted), &format!("it did not say {wanted:?}"))?;
        }
        let (ended_by, code) = (text("ended_by"), answer["exit_code"].as_i64());
        ensure(expected.ended_by.contains(&ended_by), &format!("ended by {ended_by}"))?;
        let is_right = expected.exit_code.is_none_or(|right| code == Some(right.into()));
        ensure(is_right, &format!("exit code {code:?} instead of {:?}", expected.exit_code))?;
        let ms = answer["duration_ms"].as_u64().unwrap_or(u64::MAX);
        ensure(ms <= expected.ms_max, &format!("it took {ms} ms"))?;
        let level = &answer["isolation"]["level"];
        ensure(level == self.level, &format!("isolation {level}"))?;
        let names_in = |field: &str| -> Vec<_> {
            let files = answer[field].as_array().map_or(&[][..], Vec::as_slice);
            files.iter().filter_map(|file| file["name"].as_str()).collect()
        };
        for (field, wanted) in [("files", &expected.files), ("files_left_out", &expected.left_out)]
        {
            let found = names_in(field);
            let is_right = wanted.as_ref().is_none_or(|wanted| found == *wanted);
            ensure(is_right, &format!("{found:?} are the {field}"))?;
        }
        Ok(())
    }

    /// Ends the factory in order, and expects that nothing of it is left in this process namespace.
    pub(super) fn clear(self) {
        self.up.terminate();
        let left = running_here();
        assert!(left.is_empty(), "left running: {left:?}");
    }
}

/// The commands of all processes of this process namespace, but for its first and the test.
pub(super) fn running_here() -> Vec<String> {
    let me = std::process::id();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != 1 && *pid != me)
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default())
        // Those that ended and were handed to process 1 have none.
        .filter(|command| !command.is_empty())
        .collect()
}
