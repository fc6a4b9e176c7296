//! Reads a request's body: JSON or a file's bytes, by its media type, bounded in size and time.

use std::{future::poll_fn, pin::Pin};

use ai_factory_ports::body::without_byte_order_mark;
use ai_factory_schemas::{problem::Problem, quote::quoted};
use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;

use super::{
    answer::{problem, refusal},
    settings::{BridgeSettings, DISCARDED_BYTES_MAX},
};

/// The media type of JSON.
pub const JSON: &str = "application/json";
/// The media type of a file's bytes.
pub const BYTES: &str = "application/octet-stream";

/// Refuses a body that is not declared as this media type. A page of another site cannot declare
/// either of the two without a CORS preflight.
pub fn expect_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = said.and_then(|said| said.split(';').next()).unwrap_or_default();
    if media_type.trim().eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let sentence = format!("send the header `Content-Type: {expected}`");
    Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence))
}

/// Refuses a body with a content coding; none is supported (RFC 9110, 15.5.16 and 12.5.3).
pub fn refuse_coding(headers: &HeaderMap) -> Option<Response> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let coding = codings.find(|coding| {
        let coding = coding.trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    })?;
    let shown = quoted(String::from_utf8_lossy(coding).trim());
    let sentence =
        format!("the content coding `{shown}` is not supported: send the body without one");
    let mut response = problem(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
    response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Some(response)
}

/// The whole body of JSON, without a byte order mark.
pub async fn read_json(
    headers: &HeaderMap,
    body: Body,
    settings: &BridgeSettings,
) -> Result<Bytes, Problem> {
    let body = read(headers, body, settings.body_bytes_max, settings).await?;
    Ok(body.slice_ref(without_byte_order_mark(&body)))
}

/// The whole body as it was sent, at most `bytes_max`.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    settings: &BridgeSettings,
) -> Result<Bytes, Problem> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    // The body is not read if its sender waits for `100 Continue` or sends far too much.
    let asks_first = headers.contains_key(header::EXPECT);
    if declared > bytes_max && (asks_first || declared > DISCARDED_BYTES_MAX) {
        return Err(too_large(bytes_max));
    }
    let gathering = tokio::time::timeout(settings.body_read_max, gather(body, bytes_max));
    gathering.await.unwrap_or_else(|_| {
        let millis = settings.body_read_max.as_millis();
        let sentence = format!("the body did not arrive within {millis} ms: send it faster");
        Err(refusal(StatusCode::REQUEST_TIMEOUT, sentence))
    })
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::too_large(format!("the body is too large: at most {bytes_max} bytes"))
}

/// Collects the body; one that arrives in one piece, as most do, is not copied.
async fn gather(mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let (mut first, mut all, mut bytes) = (Bytes::new(), Vec::new(), 0);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Problem::bad_request("the body ended early"))?;
        let Ok(piece) = frame.into_data() else { continue };
        bytes += piece.len();
        if bytes > DISCARDED_BYTES_MAX.max(bytes_max) {
            break;
        }
        if bytes > bytes_max {
            all = Vec::new();
        } else if first.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&piece);
        }
    }
    match bytes {
        bytes if bytes > bytes_max => Err(too_large(bytes_max)),
        _ if all.is_empty() => Ok(first),
        _ => Ok(all.into()),
    }
}
