//! Parsing of NATS server addresses.
//!
//! *Promises.* Refuses every address to which no connection is possible: an absent server is
//! retried without limit, and so a typing error would be.

use ai_factory_schemas::quote::quoted;
use async_nats::ServerAddr;

use super::error::ConnectError;

/// The supported schemes: plain, and over TLS.
const SCHEMES: [&str; 2] = ["nats", "tls"];

/// One or more addresses separated by commas; `shown` is the same without passwords.
pub(super) fn addresses(urls: &str, shown: &str) -> Result<Vec<ServerAddr>, ConnectError> {
    let refused = |reason| ConnectError::Address { url: quoted(shown), reason };
    urls.split(',').map(|one| address(one.trim()).map_err(refused)).collect()
}

fn address(text: &str) -> Result<ServerAddr, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if let Some(scheme) = scheme
        && !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
    {
        return Err(format!("its scheme is `{}`, not nats or tls", quoted(scheme)));
    }
    let with_scheme = scheme.map_or_else(|| format!("nats://{text}"), |_| text.to_owned());
    let address: ServerAddr =
        with_scheme.parse().map_err(|error: std::io::Error| error.to_string())?;
    let url = address.clone().into_inner();
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it has no host".to_owned());
    }
    match (scheme, url.port()) {
        (_, Some(0)) => Err("0 is not a port".to_owned()),
        // A word alone is more often a misplaced flag value than a host.
        (None, None) => Err("it has neither a scheme nor a port".to_owned()),
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(urls: &str) -> Result<Vec<(String, u16)>, ConnectError> {
        let addresses = addresses(urls, urls)?;
        Ok(addresses.iter().map(|one| (one.host().to_owned(), one.port())).collect())
    }

    #[test]
    fn an_address_has_a_scheme_or_a_port() {
        for (urls, expected) in [
            ("nats://127.0.0.1:4222", vec![("127.0.0.1", 4222)]),
            ("nats://queue", vec![("queue", 4222)]),
            ("TLS://queue.example", vec![("queue.example", 4222)]),
            ("localhost:4223", vec![("localhost", 4223)]),
            ("me:secret@queue:1", vec![("queue", 1)]),
            ("[::1]:4222, nats://b", vec![("::1", 4222), ("b", 4222)]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(host, port)| (host.to_owned(), port)).collect();
            assert_eq!(read(urls).unwrap(), expected, "{urls}");
        }
    }

    #[test]
    fn what_can_never_be_connected_to_is_refused() {
        for urls in [
            "foo",
            "127.0.0.1",
            "me:secret@queue",
            "http://127.0.0.1:4222",
            "ws://127.0.0.1:4222",
            "nats:/127.0.0.1:4222",
            "nats://",
            "nats://:4222",
            "nats://a:99999",
            "nats://a:0",
            "nats://a b",
            "",
            "nats://a,",
        ] {
            let refused = read(urls).unwrap_err();
            assert!(matches!(refused, ConnectError::Address { .. }), "{urls}");
            assert!(refused.to_string().contains("nats://127.0.0.1:4222"), "{refused}");
        }
    }
}
