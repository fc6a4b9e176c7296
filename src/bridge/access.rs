//! Access control: this server runs code, so web pages opened on the same machine must not reach
//! it.
//!
//! *Promises.* On loopback, `Host` must be a name of this server with its port, so that a foreign
//! name resolving to this machine (DNS rebinding) is refused. An `Origin` other than this server's
//! own is always refused, as are browser requests initiated by another site. Beyond loopback the
//! server does not listen without a token; any `Host` is accepted there, since no page knows the
//! token.
//!
//! *Limits.* The token is sent in clear text: beyond loopback, put a TLS proxy in front.

use std::net::{IpAddr, SocketAddr};

use ai_factory_schemas::problem::Problem;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};

use super::{
    answer::refusal,
    settings::{AccessToken, BridgeSettings},
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// An address that requires a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} can be reached from other machines, and whoever reaches this server runs code as you: listen on 127.0.0.1, \
     or set a token (AI_FACTORY_TOKEN) that clients send as `Authorization: Bearer TOKEN`"
)]
pub struct ListenRefused(pub IpAddr);

/// Checks whether the server may listen on `address`: beyond loopback only with a token.
pub fn check_listen_address(address: IpAddr, token: Option<&str>) -> Result<(), ListenRefused> {
    let has_token = token.is_some_and(|token| !token.trim().is_empty());
    if has_token || is_loopback(address) { Ok(()) } else { Err(ListenRefused(address)) }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The access rules of one server.
#[derive(Debug)]
pub struct AccessPolicy {
    /// The server's names, with its port; `None` accepts any name.
    names: Option<Vec<String>>,
    token: Option<AccessToken>,
    uri_bytes_max: usize,
    headers_max: usize,
}

impl AccessPolicy {
    /// The rules for a server that listens on `local`.
    pub fn new(local: SocketAddr, settings: &BridgeSettings) -> Result<Self, ListenRefused> {
        if settings.token.is_none() {
            check_listen_address(local.ip(), None)?;
        }
        Ok(Self {
            names: is_loopback(local.ip()).then(|| own_names(local)),
            token: settings.token.clone(),
            uri_bytes_max: settings.uri_bytes_max,
            headers_max: settings.headers_max,
        })
    }

    /// Admits a request, or says why not. An open route needs no token.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap, is_open: bool) -> Result<(), Problem> {
        self.check_size(uri, headers)?;
        let host = self.check_host(uri, headers)?;
        self.check_origin(host, headers)?;
        if is_open { Ok(()) } else { self.check_token(headers) }
    }

    /// Whether an admitted request may raise what a session spends: it came with the token, or from
    /// this machine.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        self.token.is_some() || peer.is_some_and(is_loopback)
    }

    fn check_size(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let uri_bytes = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
        if uri_bytes > self.uri_bytes_max {
            let sentence = format!("the address is too long: at most {} bytes", self.uri_bytes_max);
            return Err(refusal(StatusCode::URI_TOO_LONG, sentence));
        }
        if headers.len() > self.headers_max {
            let sentence = format!("too many headers: at most {}", self.headers_max);
            return Err(refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, sentence));
        }
        Ok(())
    }

    /// Checks the server name that the client uses. If the request URI is absolute (RFC 9112,
    /// 3.2.2), its authority must name this server, too.
    fn check_host<'a>(&self, uri: &Uri, headers: &'a HeaderMap) -> Result<&'a str, Problem> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Problem::bad_request("send one `Host` header"));
        };
        let host = host.to_str().unwrap_or_default();
        let named = uri.authority().is_none_or(|authority| self.is_own(authority.as_str()));
        if self.is_own(host) && named {
            return Ok(host);
        }
        let sentence = "`Host` is not a name of this server: use the address that it listens on";
        Err(refusal(StatusCode::FORBIDDEN, sentence))
    }

    fn is_own(&self, host: &str) -> bool {
        self.names
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case(host)))
    }

    fn check_origin(&self, host: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let is_own = |origin: &str| {
            let tls = origin.strip_prefix("https://").filter(|_| self.names.is_none());
            origin.strip_prefix("http://").or(tls).is_some_and(|named| match self.names {
                Some(_) => self.is_own(named),
                None => named.eq_ignore_ascii_case(host),
            })
        };
        let foreign = |value: &axum::http::HeaderValue| !value.to_str().is_ok_and(is_own);
        if headers.get_all(header::ORIGIN).iter().any(foreign) {
            let sentence = "`Origin` is not this server: a page of another site may not use it";
            return Err(refusal(StatusCode::FORBIDDEN, sentence));
        }
        let near =
            |value: &axum::http::HeaderValue| matches!(value.as_bytes(), b"same-origin" | b"none");
        if !headers.get_all(SEC_FETCH_SITE).iter().all(near) {
            let sentence =
                "a page of another site may not use this server: open its address yourself";
            return Err(refusal(StatusCode::FORBIDDEN, sentence));
        }
        Ok(())
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let is_right = match (given.next(), given.next()) {
            (Some(value), None) => bearer(value.as_bytes()).is_some_and(|given| token.is(given)),
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        let sentence =
            "send the header `Authorization: Bearer TOKEN` with the token of this server";
        Err(refusal(StatusCode::UNAUTHORIZED, sentence))
    }
}

/// The credentials after the scheme, which is case-insensitive (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn own_names(local: SocketAddr) -> Vec<String> {
    let address = match local.ip().to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned(), address];
    let port = local.port();
    let mut own: Vec<_> = names.iter().map(|name| format!("{name}:{port}")).collect();
    if port == 80 {
        own.extend(names);
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(local: &str, token: Option<&str>) -> AccessPolicy {
        let token = token.map(|token| AccessToken::new(token).unwrap());
        let settings = BridgeSettings { token, ..BridgeSettings::default() };
        AccessPolicy::new(local.parse().unwrap(), &settings).unwrap()
    }

    fn status(access: &AccessPolicy, uri: &str, headers: &[(&'static str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        access
            .check(&uri.parse().unwrap(), &map, false)
            .map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn nothing_listens_beyond_loopback_without_a_token() {
        for (address, token, allowed) in [
            ("127.0.0.1", None, true),
            ("127.8.8.8", None, true),
            ("::1", None, true),
            ("::ffff:127.0.0.1", None, true),
            ("0.0.0.0", None, false),
            ("::", None, false),
            ("192.168.1.2", None, false),
            ("192.168.1.2", Some(""), false),
            ("192.168.1.2", Some(" "), false),
            ("192.168.1.2", Some("secret"), true),
        ] {
            assert_eq!(
                check_listen_address(address.parse().unwrap(), token).is_ok(),
                allowed,
                "{address} {token:?}"
            );
        }
        let told = check_listen_address("0.0.0.0".parse().unwrap(), None).unwrap_err().to_string();
        assert!(told.contains("AI_FACTORY_TOKEN") && told.contains("127.0.0.1"), "{told}");
    }

    #[test]
    fn on_loopback_only_its_own_names_are_answered() {
        let access = access("127.0.0.1:8000", None);
        for (host, expected) in [
            ("127.0.0.1:8000", 200),
            ("LOCALHOST:8000", 200),
            ("[::1]:8000", 200),
            ("localhost", 403),
            ("localhost:8001", 403),
            ("localhost.:8000", 403),
            ("evil.example:8000", 403),
            ("127.0.0.1.evil.example:8000", 403),
            ("", 403),
        ] {
            assert_eq!(status(&access, "/", &[("host", host)]), expected, "{host}");
        }
        assert_eq!(status(&access, "/", &[]), 400);
        assert_eq!(
            status(&access, "/", &[("host", "localhost:8000"), ("host", "localhost:8000")]),
            400
        );
        let right = [("host", "localhost:8000")];
        assert_eq!(status(&access, "http://evil.example/", &right), 403);
        assert_eq!(status(&access, "http://localhost:8000/", &right), 200);
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let access = access("127.0.0.1:8000", None);
        let with = |name, value| status(&access, "/", &[("host", "localhost:8000"), (name, value)]);
        for (origin, expected) in [
            ("http://localhost:8000", 200),
            ("http://127.0.0.1:8000", 200),
            ("https://localhost:8000", 403),
            ("http://localhost:3000", 403),
            ("http://evil.example", 403),
            ("null", 403),
        ] {
            assert_eq!(with("origin", origin), expected, "{origin}");
        }
        for (site, expected) in [
            ("none", 200),
            ("same-origin", 200),
            ("same-site", 403),
            ("cross-site", 403),
            ("x", 403),
        ] {
            assert_eq!(with("sec-fetch-site", site), expected, "{site}");
        }
    }

    #[test]
    fn beyond_loopback_the_token_decides() {
        let access = access("192.168.1.2:8000", Some("secret"));
        let with = |more: &[(&'static str, &str)]| {
            let all: Vec<_> = [("host", "factory.example")].iter().chain(more).copied().collect();
            status(&access, "/", &all)
        };
        let right = ("authorization", "Bearer secret");
        assert_eq!(with(&[]), 401);
        assert_eq!(with(&[right]), 200);
        assert_eq!(with(&[("authorization", "bearer  secret ")]), 200);
        for wrong in
            ["Bearer", "Bearer ", "Bearer secre", "Bearer secrets", "Basic secret", "secret"]
        {
            assert_eq!(with(&[("authorization", wrong)]), 401, "{wrong}");
        }
        assert_eq!(with(&[right, right]), 401);
        assert_eq!(with(&[right, ("origin", "https://factory.example")]), 200);
        assert_eq!(with(&[right, ("origin", "https://evil.example")]), 403);
    }
}
