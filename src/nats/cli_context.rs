//! Contexts of the `nats` command line: a server with its login, under a name.
//!
//! A context is a JSON file `nats/context/NAME.json` in the user's configuration directory (see
//! `nats context --help` and the package `jsm.go/natscontext`). Unknown fields are ignored; a known
//! field that is not supported is refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ai_factory_schemas::encoding::decode_text;
use serde::Deserialize;

use super::{error::ConnectError, login::Login};

/// The fields of a context. An empty text means none.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContextFile {
    url: String,
    token: String,
    user: String,
    password: String,
    creds: String,
    nkey: String,
    cert: String,
    key: String,
    ca: String,
    tls_first: bool,
    inbox_prefix: String,
    socks_proxy: String,
    nsc: String,
    user_jwt: String,
}

/// A parsed context.
#[derive(Clone, Debug)]
pub struct CliContext {
    /// The servers, separated by commas.
    pub url: Option<String>,
    /// The login there.
    pub login: Login,
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

impl CliContext {
    /// Reads the file of a context.
    pub fn load(path: &Path) -> Result<Self, ConnectError> {
        let refused = |reason: String| {
            let others = names_beside(path);
            let others = if others.is_empty() { "there are none".to_owned() } else { others };
            let path = path.display().to_string();
            ConnectError::Context { path, reason, others }
        };
        let bytes = fs::read(path).map_err(|error| refused(error.to_string()))?;
        let text = decode_text(bytes).map_err(|error| refused(error.to_string()))?;
        let fields: ContextFile =
            serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        let beyond = [
            ("socks_proxy", &fields.socks_proxy),
            ("nsc", &fields.nsc),
            ("user_jwt", &fields.user_jwt),
        ];
        if let Some((field, _)) = beyond.into_iter().find(|(_, value)| non_empty(value).is_some()) {
            return Err(refused(format!("it has a `{field}`, which is not supported here")));
        }
        let path = |text: &str| non_empty(text).map(PathBuf::from);
        Ok(Self {
            url: non_empty(&fields.url),
            login: Login {
                credentials: path(&fields.creds),
                nkey: path(&fields.nkey),
                user: non_empty(&fields.user),
                password: non_empty(&fields.password),
                token: non_empty(&fields.token),
                ca: path(&fields.ca),
                certificate: path(&fields.cert).zip(path(&fields.key)),
                tls_first: fields.tls_first,
                inbox_prefix: non_empty(&fields.inbox_prefix),
            },
        })
    }
}

/// The names of the contexts in the same directory.
fn names_beside(path: &Path) -> String {
    let entries = path.parent().and_then(|directory| fs::read_dir(directory).ok());
    let mut names: Vec<_> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_json = path.extension().is_some_and(|extension| extension == "json");
            is_json.then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))?
        })
        .collect();
    names.sort();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(dir: &Path, name: &str) -> PathBuf {
        dir.join("nats/context").join(format!("{name}.json"))
    }

    fn written(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = file_of(dir.path(), name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_context_as_the_nats_command_line_writes_it_is_understood() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"description":"x","url":"nats://a:1,nats://b:2","socks_proxy":"","token":"",
            "user":"me","password":"s3cret","creds":"","nkey":"","cert":"/c.pem","key":"/k.pem","ca":"/ca.pem","nsc":"",
            "jetstream_domain":"","inbox_prefix":"_INBOX_me","user_jwt":"","color_scheme":"","tls_first":true}"#;
        let context = CliContext::load(&written(&dir, "team", text)).unwrap();
        assert_eq!(context.url.as_deref(), Some("nats://a:1,nats://b:2"));
        let expected = Login {
            user: Some("me".to_owned()),
            password: Some("s3cret".to_owned()),
            ca: Some("/ca.pem".into()),
            certificate: Some(("/c.pem".into(), "/k.pem".into())),
            tls_first: true,
            inbox_prefix: Some("_INBOX_me".to_owned()),
            ..Login::default()
        };
        assert_eq!(context.login, expected);
    }

    #[test]
    fn a_context_that_cannot_be_used_is_refused_with_those_that_there_are() {
        let dir = tempfile::tempdir().unwrap();
        written(&dir, "home", "{}");
        let proxied = written(&dir, "proxied", r#"{"socks_proxy":"socks5://x"}"#);
        let broken = written(&dir, "broken", "{");
        for path in [file_of(dir.path(), "missing"), proxied, broken] {
            let refused = CliContext::load(&path).unwrap_err().to_string();
            assert!(refused.contains("broken, home, proxied"), "{refused}");
        }
        assert!(CliContext::load(&file_of(dir.path(), "home")).unwrap().url.is_none());
    }
}
