//! Many connections, on a system that allows a process few open files.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
};

use serde_json::json;

use super::Up;
use crate::support::process::{PATIENCE, TestHome};

/// How many open files are allowed.
const FILES: usize = 100;
/// How many streams of events there may be.
const STREAMS: usize = 64;

/// A place whose program may open [`FILES`] files; more where it asks for more and `hard` is not
/// set.
fn home(directory: &tempfile::TempDir, hard: bool) -> TestHome {
    let flags = if hard { "-n" } else { "-S -n" };
    let limited = format!("ulimit {flags} {FILES} && exec \"$@\"");
    let starter = ["sh", "-c", &limited, "sh"].map(str::to_owned).to_vec();
    let data = directory.path().join("data");
    TestHome::started_by(starter, data.clone(), data)
}

/// A connection on which this was asked and the beginning of an answer has come.
fn answered(up: &Up, path: &str) -> TcpStream {
    let address = up.http.base.strip_prefix("http://").unwrap();
    let mut line = TcpStream::connect(address).unwrap();
    line.set_read_timeout(Some(PATIENCE)).unwrap();
    line.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    let mut status = [0; 12];
    line.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    line
}

/// Whether the other side has not closed it.
fn is_open(mut line: &TcpStream) -> bool {
    line.set_nonblocking(true).unwrap();
    loop {
        match line.read(&mut [0; 1024]) {
            Ok(1..) => {}
            Ok(0) => return false,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn many_connections_take_no_file_from_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(&home(&directory, false), &[]);
    let streams: Vec<_> = (0..STREAMS).map(|_| answered(&up, "/events")).collect();
    let idle: Vec<_> = (0..FILES).map(|_| answered(&up, "/livez")).collect();
    let code = json!({ "code": "print(6 * 7)" });
    let (status, ran) = up.http.post("/debugger/run", "k", &code).unwrap();
    assert_eq!((status, &ran["stdout"]), (200, &json!("42\n")), "{ran}");
    assert!(idle.iter().chain(&streams).all(is_open));
    up.terminate();
}

#[test]
fn where_no_file_is_left_the_longest_idle_connections_make_room() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(&home(&directory, true), &[]);
    let mut idle = Vec::new();
    for number in 0..2 * FILES {
        idle.push(answered(&up, "/livez"));
        // Room is made for one at a time, from the oldest on.
        assert!(idle.iter().rev().take(10).all(is_open), "{number}");
    }
    assert!(!is_open(&idle[0]));
    up.terminate();
}
