//! Why no connection to a NATS server is possible.

/// Why no connection is possible.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is invalid.
    #[error("`{url}` is not a NATS address ({reason}): write it as nats://127.0.0.1:4222")]
    Address {
        /// As given, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that the connection needs is unusable: credentials, a seed, a certificate.
    #[error("`{path}`, which the connection to NATS needs, cannot be used: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The context of the `nats` command line is unusable.
    #[error("the nats context `{path}` cannot be used: {reason}; contexts there: {others}")]
    Context {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
        /// The names of the existing contexts.
        others: String,
    },
    /// The server refuses the connection.
    #[error(
        "the NATS server at {url} refuses the connection ({reason}): give user and password in the address, \
         nats://USER:PASSWORD@HOST, or with settings such as `nats_credentials`, `nats_nkey`, `nats_ca`, or name a context of \
         the nats command line with --context"
    )]
    Refused {
        /// The address, without a password.
        url: String,
        /// The server's reason.
        reason: String,
    },
}
