//! Connections of the program's HTTP clients, with TLS for `https` addresses.
//!
//! *Promises.* TLS is configured for the client that asks: no default of the process changes. No
//! proxy of the environment is used.

#![forbid(unsafe_code)]

use std::{error::Error, io, sync::Arc};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No trusted root certificates: neither the system's nor others.
    #[error("no trusted root certificates: {0}")]
    NobodyTrusted(String),
    /// It cannot be set up.
    #[error("{0}")]
    Setup(String),
}

/// The system's root certificates, and these beside them.
///
/// # Errors
/// If there are none.
pub async fn trusted_roots(
    more: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<RootCertStore, TlsError> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(found.certs);
    trusted.add_parsable_certificates(more);
    if trusted.is_empty() {
        let reason = found
            .errors
            .first()
            .map_or_else(|| "the system has no root certificates".to_owned(), ToString::to_string);
        return Err(TlsError::NobodyTrusted(reason));
    }
    Ok(trusted)
}

/// Connects to `http` and `https` addresses over HTTP/1.1; `trusted` counts for the latter.
///
/// # Errors
/// If TLS cannot be set up.
pub fn connector(trusted: RootCertStore) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

/// The root cause of a failure.
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    loop {
        // An `io::Error` does not return the error wrapped in it as its source, but that error's
        // source.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| cause.source()) {
            Some(deeper) => cause = deeper,
            None => return cause,
        }
    }
}

/// Why the server's certificate was refused, if the root cause of a failure is that.
pub fn refused_certificate(cause: &(dyn Error + 'static)) -> Option<String> {
    match cause.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(reason)) => Some(reason.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_cause_is_found_within_io_errors_too() {
        let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let wrapped = io::Error::other(io::Error::other(refused));
        let cause = root_cause(&wrapped);
        assert!(refused_certificate(cause).is_some_and(|reason| !reason.is_empty()));
        let other = io::Error::other("gone");
        assert_eq!(root_cause(&other).to_string(), "gone");
        assert!(refused_certificate(root_cause(&other)).is_none());
    }
}
