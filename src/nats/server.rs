//! A managed NATS server: a child process that starts and ends with the factory.
//!
//! *Promises.* It runs with the configuration in `nats.conf`, its store below the data directory.
//! It is restarted when it dies; when the factory ends, in whatever way, it ends.

use std::{
    collections::VecDeque,
    env, fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ai_factory_retry::Backoff;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{keeper::KEEP_ARGUMENT, streams::is_before};

/// The default configuration.
const CONFIG: &str = include_str!("../../nats.conf");
/// Its store directory, literally.
const CONFIG_STORE: &str = "store_dir: \"./data/nats\"";
/// Its option that older servers do not know, literally.
const CONFIG_SYNC: &str = "sync_interval: always";
/// The first version that knows the option.
const SYNC_SINCE: (u32, u32) = (2, 10);
/// How long the server may take to end before that is left to its keeper.
const END_MAX: Duration = Duration::from_secs(6);
/// The pause before the first restart; it doubles with each further one within [`STEADY`].
const RESTART_FIRST: Duration = Duration::from_millis(100);
/// The longest pause before a restart.
const RESTART_MAX: Duration = Duration::from_secs(10);
/// A server that ran this long is restarted without delay.
const STEADY: Duration = Duration::from_mins(1);
/// Timeout for a starting server to listen.
const START_MAX: Duration = Duration::from_secs(10);
/// Interval of the checks whether a starting server listens.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// Lines of its output that are shown when it does not start.
const LINES_SHOWN: usize = 3;

/// The server to start.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The program; a name without a slash is searched on the `PATH`.
    pub program: PathBuf,
    /// The configuration file; `None` for the built-in one.
    pub config: Option<PathBuf>,
    /// The directory of its store and of the built-in configuration.
    pub directory: PathBuf,
    /// The address on which it listens.
    pub address: SocketAddr,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is in use.
    #[error(
        "{0} is in use already: to use the NATS server there, leave `--start-nats` out; else choose another address with --nats"
    )]
    InUse(SocketAddr),
    /// Listening on the address is not possible.
    #[error("cannot listen on {address} ({reason}): choose an address of this machine with --nats")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The error.
        reason: io::Error,
    },
    /// The program cannot be started.
    #[error(
        "`{program}` cannot be started ({reason}): install nats-server (Debian: apt install nats-server; macOS: brew install nats-server), \
         or name the program with the setting `nats_server`"
    )]
    Program {
        /// The program.
        program: String,
        /// The error.
        reason: String,
    },
    /// The directory is unusable.
    #[error("{path} cannot be used for the NATS server: {reason}")]
    Directory {
        /// The directory.
        path: String,
        /// The error.
        reason: String,
    },
    /// The server ended at once.
    #[error("the NATS server does not start: {0}")]
    Ended(String),
}

/// The running server, and the task that restarts it.
pub struct NatsServer {
    keeping: JoinHandle<()>,
    ending: tokio::sync::oneshot::Sender<()>,
}

impl NatsServer {
    /// Starts the server and waits until it listens.
    pub async fn start(settings: ServerSettings) -> Result<Self, ServerError> {
        // Tested by binding the address: a server that starts beside another one reports it only in
        // its log.
        TcpListener::bind(settings.address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ServerError::InUse(settings.address),
            _ => ServerError::Address { address: settings.address, reason: error },
        })?;
        let (program, version) = find_program(&settings.program)?;
        let config = prepare(&settings, &version)?;
        let mut keeper = spawn(&program, &settings, &config)?;
        let lines = tokio::spawn(log_output(keeper.child.stderr.take()));
        let deadline = Instant::now() + START_MAX;
        while tokio::net::TcpStream::connect(settings.address).await.is_err() {
            let ended = !matches!(keeper.child.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                drop(keeper);
                let last = lines.await.unwrap_or_default();
                return Err(ServerError::Ended(last.join(" / ")));
            }
            sleep(LOOK_PERIOD).await;
        }
        tracing::info!(address = %settings.address, "the NATS server is up");
        let (ending, ended) = tokio::sync::oneshot::channel();
        let keeping = tokio::spawn(async move {
            tokio::select! {
                () = restart_forever(&mut keeper, &program, &settings, &config) => {}
                _ = ended => {}
            }
            drop(keeper.life_line.take());
            let _ = timeout(END_MAX, keeper.child.wait()).await;
        });
        Ok(Self { keeping, ending })
    }

    /// Ends the server and waits for its end.
    pub async fn stop(self) {
        let _ = self.ending.send(());
        let _ = self.keeping.await;
    }
}

/// A keeper with its lifeline, which waiting for the child would otherwise close.
struct KeeperProcess {
    child: Child,
    life_line: Option<ChildStdin>,
}

/// Restarts the server whenever it ends.
async fn restart_forever(
    keeper: &mut KeeperProcess,
    program: &Path,
    settings: &ServerSettings,
    config: &Path,
) {
    let mut backoff = Backoff::new(RESTART_FIRST, RESTART_MAX);
    let mut started = Instant::now();
    loop {
        let status = keeper.child.wait().await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        tracing::error!(status, "the NATS server ended; restarting it");
        if started.elapsed() > STEADY {
            backoff.reset();
        }
        sleep(backoff.next_pause()).await;
        started = Instant::now();
        match spawn(program, settings, config) {
            Ok(mut again) => {
                tokio::spawn(log_output(again.child.stderr.take()));
                *keeper = again;
            }
            Err(error) => tracing::error!(%error, "the NATS server cannot be restarted"),
        }
    }
}

/// The built-in configuration with its store in `directory`, for a server with this version text.
pub fn built_in_config(directory: &Path, version: &str) -> String {
    // A JSON string is a valid string in the configuration.
    let quoted = serde_json::Value::from(directory.to_string_lossy()).to_string();
    let config = CONFIG.replace(CONFIG_STORE, &format!("store_dir: {quoted}"));
    if syncs_always(version) { config } else { config.replace(CONFIG_SYNC, "") }
}

/// Whether a server can sync every message.
fn syncs_always(version: &str) -> bool {
    let number = version.rsplit(['v', ' ']).next().unwrap_or_default();
    !is_before(number, SYNC_SINCE)
}

/// Creates the directory and the configuration in it; returns the configuration's path.
fn prepare(settings: &ServerSettings, version: &str) -> Result<PathBuf, ServerError> {
    let refused = |error: io::Error| ServerError::Directory {
        path: settings.directory.display().to_string(),
        reason: error.to_string(),
    };
    fs::create_dir_all(&settings.directory).map_err(refused)?;
    if let Some(config) = &settings.config {
        return Ok(config.clone());
    }
    let config = settings.directory.join("nats.conf");
    fs::write(&config, built_in_config(&settings.directory, version)).map_err(refused)?;
    if !syncs_always(version) {
        tracing::warn!(
            version,
            "this nats-server cannot sync every message (2.10 can): what it acknowledged in the last two minutes may be \
             lost in a power failure"
        );
    }
    Ok(config)
}

/// The program's path, because the keeper does not search the `PATH`.
fn resolve_program(program: &Path) -> Result<PathBuf, ServerError> {
    let missing = |reason: &str| ServerError::Program {
        program: program.display().to_string(),
        reason: reason.to_owned(),
    };
    if program.components().count() > 1 {
        return if program.is_file() {
            Ok(program.to_owned())
        } else {
            Err(missing("no such file"))
        };
    }
    #[expect(clippy::disallowed_methods, reason = "where programs are found on this machine")]
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| missing("it is not on the PATH"))
}

/// The program that would be started, and its version text.
pub fn find_program(program: &Path) -> Result<(PathBuf, String), ServerError> {
    let path = resolve_program(program)?;
    let refused = |reason| ServerError::Program { program: path.display().to_string(), reason };
    let asked = std::process::Command::new(&path).arg("--version").stdin(Stdio::null()).output();
    let answer = asked.map_err(|error| refused(error.to_string()))?;
    if !answer.status.success() {
        return Err(refused(format!("`--version` ends with {}", answer.status)));
    }
    let version = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    Ok((path, version))
}

fn spawn(
    program: &Path,
    settings: &ServerSettings,
    config: &Path,
) -> Result<KeeperProcess, ServerError> {
    let refused = |error: io::Error| ServerError::Program {
        program: program.display().to_string(),
        reason: error.to_string(),
    };
    let mut child = Command::new(env::current_exe().map_err(refused)?)
        .arg(KEEP_ARGUMENT)
        .arg(program)
        .arg("--config")
        .arg(config)
        .arg("--addr")
        .arg(settings.address.ip().to_string())
        .arg("--port")
        .arg(settings.address.port().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(refused)?;
    let life_line = child.stdin.take();
    Ok(KeeperProcess { child, life_line })
}

/// Logs the server's output; returns its last lines at the end.
async fn log_output(stderr: Option<impl AsyncRead + Unpin>) -> Vec<String> {
    let mut last = VecDeque::new();
    let Some(stderr) = stderr else { return Vec::new() };
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::debug!(line, "from nats-server");
        last.push_back(line);
        if last.len() > LINES_SHOWN {
            last.pop_front();
        }
    }
    last.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_configuration_keeps_its_store_where_it_is_told() {
        let config = built_in_config(Path::new("/data \"x\"/nats"), "nats-server: v2.10.0");
        assert_eq!(config.matches(r#"store_dir: "/data \"x\"/nats""#).count(), 1);
        assert!(!config.contains(CONFIG_STORE));
    }

    #[test]
    fn an_older_server_is_not_told_what_it_does_not_know() {
        let has_sync = |version| {
            let config = built_in_config(Path::new("/data"), version);
            config.lines().any(|line| line.trim() == CONFIG_SYNC)
        };
        assert!(has_sync("nats-server: v2.15.1") && has_sync("nats-server: v2.10.0-beta.1"));
        assert!(!has_sync("nats-server: v2.9.10"));
    }
}
