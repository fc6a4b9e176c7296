//! The login at a NATS server, and the proof of the server's identity.
//!
//! *Promises.* No secret is shown, neither by `Debug` nor in an error. An unusable file is reported
//! before any connection is made.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use ai_factory_schemas::encoding::decode_text;
use async_nats::{ConnectOptions, ServerAddr};

use super::error::ConnectError;

/// Credentials. The first of these that is set is used: credentials, nkey, user and password,
/// token; otherwise what the address contains.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// A credentials file (`.creds`): a JWT and its seed.
    pub credentials: Option<PathBuf>,
    /// A file with the seed of an nkey.
    pub nkey: Option<PathBuf>,
    /// A user.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// A token.
    pub token: Option<String>,
    /// Root certificates (PEM) for the server, in addition to the system's.
    pub ca: Option<PathBuf>,
    /// A client certificate (PEM), for a server that requires one, with its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins before the server's first message, which some servers require.
    pub tls_first: bool,
    /// The prefix of reply subjects, where permissions prescribe one.
    pub inbox_prefix: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

fn unusable(path: &Path, reason: impl fmt::Display) -> ConnectError {
    ConnectError::File { path: path.display().to_string(), reason: reason.to_string() }
}

fn readable(path: &Path) -> Result<PathBuf, ConnectError> {
    fs::File::open(path).map_err(|error| unusable(path, error))?;
    Ok(path.to_owned())
}

impl Login {
    /// Adds the login to the options.
    pub(super) async fn apply(
        &self,
        mut options: ConnectOptions,
        addresses: &[ServerAddr],
    ) -> Result<ConnectOptions, ConnectError> {
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(readable(ca)?).require_tls(true);
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(readable(certificate)?, readable(key)?);
        }
        if self.tls_first {
            options = options.tls_first();
        }
        if let Some(prefix) = &self.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        // The client reads the login from the options only, not from the address.
        let in_address =
            addresses.iter().find_map(|address| Some((address.username()?, address.password())));
        Ok(match self {
            Self { credentials: Some(path), .. } => {
                options.credentials_file(path).await.map_err(|error| unusable(path, error))?
            }
            Self { nkey: Some(path), .. } => {
                let seed = fs::read(path).map_err(|error| unusable(path, error))?;
                let seed = decode_text(seed).map_err(|error| unusable(path, error))?;
                let seed = seed.split_ascii_whitespace().find(|word| word.starts_with("SU"));
                let seed = seed.ok_or_else(|| unusable(path, "it holds no nkey seed (SU…)"))?;
                options.nkey(seed.to_owned())
            }
            Self { user: Some(user), password, .. } => {
                options.user_and_password(user.clone(), password.clone().unwrap_or_default())
            }
            Self { token: Some(token), .. } => options.token(token.clone()),
            _ => match in_address {
                Some((user, Some(password))) => {
                    options.user_and_password(user.to_owned(), password.to_owned())
                }
                Some((token, None)) => options.token(token.to_owned()),
                None => options,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let login = Login {
            user: Some("me".to_owned()),
            password: Some("s3cret".to_owned()),
            token: Some("t0ken".to_owned()),
            ..Login::default()
        };
        let shown = format!("{login:?}");
        assert!(shown.contains("me") && !shown.contains("s3cret") && !shown.contains("t0ken"));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.nk");
        fs::write(&empty, "nothing here\n").unwrap();
        let missing = dir.path().join("missing.pem");
        for login in [
            Login { nkey: Some(empty.clone()), ..Login::default() },
            Login { nkey: Some(missing.clone()), ..Login::default() },
            Login { ca: Some(missing.clone()), ..Login::default() },
            Login { certificate: Some((missing.clone(), missing.clone())), ..Login::default() },
            Login { credentials: Some(missing.clone()), ..Login::default() },
        ] {
            let refused = login.apply(ConnectOptions::new(), &[]).await.err().unwrap();
            assert!(matches!(refused, ConnectError::File { .. }), "{login:?}");
            assert!(refused.to_string().contains(dir.path().to_str().unwrap()), "{refused}");
        }
    }
}
