//! Requests and replies as bytes of HTTP/1.1.

use std::{collections::HashMap, fmt::Write as _, io};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::Semaphore,
};

use super::{
    ModelRequest,
    frames::frames,
    reply::{Kind, Reply},
};

/// The request of a connection; `None` if it is closed before there is one.
pub(super) async fn read(from: &mut OwnedReadHalf) -> Option<ModelRequest> {
    let mut from = BufReader::new(from);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: HashMap<_, _> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let bytes = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; bytes];
    from.read_exact(&mut body).await.ok()?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).unwrap()
    };
    let mut words = lines[0].split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    Some(ModelRequest {
        method,
        path,
        headers,
        body,
        bytes,
    })
}

/// Returns when the caller has hung up.
pub(super) async fn closed(from: &mut OwnedReadHalf) {
    while from.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
}

/// Writes the reply; whether the caller took all of it.
pub(super) async fn write(
    to: &mut OwnedWriteHalf,
    reply: &Reply,
    request: &ModelRequest,
    go_on: &Semaphore,
) -> bool {
    if reply.stalled {
        go_on.acquire().await.unwrap().forget();
    }
    let (parts, stall_before, broken) = match &reply.kind {
        Kind::HangUp => return true,
        Kind::Status {
            status,
            headers,
            body,
        } => {
            let headers = headers
                .iter()
                .fold(String::new(), |mut all, (name, value)| {
                    write!(all, "{name}: {value}\r\n").unwrap();
                    all
                });
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 {headers}transfer-encoding: chunked\r\n\r\n"
            );
            if to.write_all(head.as_bytes()).await.is_err() {
                return false;
            }
            (vec![body.clone().into_bytes()], None, false)
        }
        kind => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
                        connection: close\r\ntransfer-encoding: chunked\r\n\r\n";
            if to.write_all(head.as_bytes()).await.is_err() {
                return false;
            }
            match kind {
                Kind::Answer(answer) => {
                    let (frames, broken) = frames(answer, request);
                    (frames, answer.stall_before, broken)
                }
                Kind::Stream(bytes) => (vec![bytes.clone()], None, false),
                Kind::Status { .. } | Kind::HangUp => unreachable!(),
            }
        }
    };
    let parts = match reply.pieces {
        Some(bytes) => parts.concat().chunks(bytes).map(<[u8]>::to_vec).collect(),
        None => parts,
    };
    for (number, part) in parts.iter().enumerate() {
        if stall_before == Some(number) {
            go_on.acquire().await.unwrap().forget();
        }
        if chunk(to, part).await.is_err() {
            return false;
        }
    }
    broken || to.write_all(b"0\r\n\r\n").await.is_ok()
}

async fn chunk(to: &mut OwnedWriteHalf, part: &[u8]) -> io::Result<()> {
    if part.is_empty() {
        return Ok(());
    }
    let mut bytes = format!("{:x}\r\n", part.len()).into_bytes();
    bytes.extend_from_slice(part);
    bytes.extend_from_slice(b"\r\n");
    to.write_all(&bytes).await?;
    // Others get their turn: a caller may hang up.
    tokio::task::yield_now().await;
    Ok(())
}
