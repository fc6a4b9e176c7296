//! The content of a file as the body of an answer: an actor is asked for it in parts.
//!
//! *Promises.* One part is held at a time, and the next one is asked for when the client has taken
//! it. A file that changes meanwhile breaks the answer off: a complete body is the content that the
//! `ETag` names. A browser saves the file and never shows it: it was made by a program.

use std::{io, sync::Arc, time::Duration};

use ai_factory_ports::{
    bus::{Headers, Message},
    request_reply,
};
use ai_factory_schemas::{
    answer::SessionFilePart, problem::Problem, subject::Subject, workspace::WorkspaceFile,
};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::stream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::{
    body::BYTES,
    forward::{RouteForwarder, encode, headers},
    query,
    state::HttpState,
};

/// What RFC 8187 (section 3.2.1) does not allow as it is in the value of a header's parameter.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The file that a request asks for, or 304 if the client has it.
pub async fn answer(
    state: Arc<HttpState>,
    forwarder: &RouteForwarder,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let fields = query::fields(forwarder.route, parts.uri.path(), query)?;
    let name = fields.get("path").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let disposition = disposition(name.unwrap_or_default());
    let headers = headers(&state, &parts, None);
    let (subject, answer_max) = (forwarder.subject.clone(), forwarder.answer_max);
    let source = FileSource { state, subject, answer_max, headers, fields };
    let (file, first) = source.part(0).await?;
    let tag = format!("\"{}\"", file.blob);
    let mut response = if has_tag(&parts.headers, &tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(content(source, file, first));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BYTES));
        headers.insert(header::CONTENT_LENGTH, file.bytes.into());
        headers.insert(header::CONTENT_DISPOSITION, disposition?);
        response
    };
    let tag = HeaderValue::try_from(tag).map_err(|_| malformed())?;
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// The whole content, of which the first part is here already.
fn content(source: FileSource, file: WorkspaceFile, first: Bytes) -> Body {
    let parts =
        stream::try_unfold((source, 0, Some(first)), move |(source, offset, ready)| async move {
            if offset >= file.bytes {
                return Ok::<_, io::Error>(None);
            }
            let part = match ready {
                Some(part) => part,
                None => source.next_part(&file, offset).await?,
            };
            let end = offset + part.len() as u64;
            Ok(Some((part, (source, end, None))))
        });
    Body::from_stream(parts)
}

/// The file as the actor has it.
struct FileSource {
    state: Arc<HttpState>,
    subject: Subject,
    answer_max: Duration,
    headers: Headers,
    fields: Map<String, Value>,
}

impl FileSource {
    /// The file, and the part of its content from `offset` on: never empty before its end.
    async fn part(&self, offset: u64) -> Result<(WorkspaceFile, Bytes), Problem> {
        let mut fields = self.fields.clone();
        fields.insert("offset".to_owned(), offset.into());
        let mut message = Message::new(self.subject.clone(), encode(&fields)?);
        message.headers = self.headers.clone();
        let answered = request_reply::ask(&*self.state.bridge.bus, message, self.answer_max);
        let part: SessionFilePart =
            serde_json::from_slice(&answered.await?).map_err(|_| malformed())?;
        let bytes = BASE64_STANDARD.decode(&part.content_base64).map_err(|_| malformed())?;
        let left = part.file.bytes.checked_sub(offset).ok_or_else(malformed)?;
        let fits = bytes.len() as u64 <= left && (left == 0 || !bytes.is_empty());
        if part.offset != offset || !fits {
            return Err(malformed());
        }
        Ok((part.file, bytes.into()))
    }

    /// A later part of the file.
    async fn next_part(&self, file: &WorkspaceFile, offset: u64) -> io::Result<Bytes> {
        match self.part(offset).await {
            Ok((now, part)) if (now.blob, now.bytes) == (file.blob, file.bytes) => Ok(part),
            Ok(_) => Err(io::Error::other("the file changed while it was sent")),
            Err(problem) => Err(io::Error::other(problem)),
        }
    }
}

fn malformed() -> Problem {
    Problem::internal("the file could not be read: its parts do not fit")
}

/// Whether the client has the file with this tag (RFC 9110, 13.1.2).
fn has_tag(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = tags.filter_map(|value| value.to_str().ok()).flat_map(|tags| tags.split(','));
    tags.any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    })
}

/// The header that makes a browser save a file under this name (RFC 6266).
fn disposition(name: &str) -> Result<HeaderValue, Problem> {
    let name = utf8_percent_encode(name, ESCAPED);
    HeaderValue::try_from(format!("attachment; filename*=UTF-8''{name}")).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_header_has_no_character_with_a_meaning_there() {
        for (name, told) in [
            ("shop.txt", "shop.txt"),
            ("a b.txt", "a%20b.txt"),
            ("\"; filename=\"x.exe", "%22%3B%20filename%3D%22x.exe"),
            ("100%'*(1).tar.gz", "100%25%27%2A%281%29.tar.gz"),
            ("größe €.csv", "gr%C3%B6%C3%9Fe%20%E2%82%AC.csv"),
            ("a\r\nSet-Cookie: x", "a%0D%0ASet-Cookie%3A%20x"),
        ] {
            let told = format!("attachment; filename*=UTF-8''{told}");
            assert_eq!(disposition(name).unwrap(), told.as_str(), "{name}");
        }
    }

    #[test]
    fn a_tag_is_found_in_a_list_of_tags() {
        for (given, has) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("a", false),
            ("\"aa\"", false),
            ("", false),
        ] {
            let headers = [(header::IF_NONE_MATCH, HeaderValue::from_static(given))];
            assert_eq!(has_tag(&headers.into_iter().collect(), "\"a\""), has, "{given}");
        }
    }
}
