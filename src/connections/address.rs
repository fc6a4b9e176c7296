//! The NATS server and login of the settings. Precedence: flag, setting, context of the `nats`
//! command line.

use std::path::{Path, PathBuf};

use crate::{
    config::{Secret, Settings},
    nats::{CliContext, ConnectError, Login, NatsSettings, without_passwords},
};

/// The NATS server at `url`, or that of the settings, or that of their context; `None` if there is
/// none. `name` is the connection's name at the server.
pub fn nats_settings(
    settings: &Settings,
    url: Option<&str>,
    name: String,
) -> Result<Option<NatsSettings>, ConnectError> {
    let context = match settings.nats_context.as_str() {
        "" => None,
        file => Some(CliContext::load(Path::new(file))?),
    };
    let set = Some(settings.nats.as_str()).filter(|url| !url.is_empty());
    let of_context = context.as_ref().and_then(|context| context.url.as_deref());
    let Some(url) = url.or(set).or(of_context) else { return Ok(None) };
    let login = login(settings, context.as_ref().map(|context| context.login.clone()));
    let nats = NatsSettings { url: url.to_owned(), shown: without_passwords(url), login, name };
    nats.check()?;
    Ok(Some(nats))
}

/// The settings, completed from the context. If the settings have credentials of any kind, those of
/// the context are ignored.
fn login(settings: &Settings, context: Option<Login>) -> Login {
    let file = |path: &PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let secret = |secret: &Secret| secret.reveal().map(str::to_owned);
    let context = context.unwrap_or_default();
    let set = Login {
        credentials: file(&settings.nats_credentials),
        nkey: file(&settings.nats_nkey),
        user: text(&settings.nats_user),
        password: secret(&settings.nats_password),
        token: secret(&settings.nats_token),
        ca: file(&settings.nats_ca).or_else(|| context.ca.clone()),
        certificate: file(&settings.nats_certificate)
            .zip(file(&settings.nats_key))
            .or_else(|| context.certificate.clone()),
        tls_first: context.tls_first,
        inbox_prefix: text(&settings.nats_inbox_prefix).or_else(|| context.inbox_prefix.clone()),
    };
    let says_who = [&set.user, &set.token].into_iter().any(Option::is_some)
        || [&set.credentials, &set.nkey].into_iter().any(Option::is_some);
    if says_who {
        return set;
    }
    Login { ca: set.ca, certificate: set.certificate, inbox_prefix: set.inbox_prefix, ..context }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn settings(pairs: &[&str]) -> Settings {
        let set = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        config::load(&config::SettingsSources { set, ..config::SettingsSources::default() })
            .unwrap()
            .settings
    }

    fn found(settings: &Settings, url: Option<&str>) -> Option<NatsSettings> {
        nats_settings(settings, url, "test".to_owned()).unwrap()
    }

    #[test]
    fn a_flag_comes_before_a_setting_and_that_before_the_context() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("team.json");
        let text =
            r#"{"url":"nats://context:1","user":"them","password":"theirs","ca":"/context.pem"}"#;
        std::fs::write(&file, text).unwrap();
        let context = format!("nats_context={}", file.display());

        assert!(found(&settings(&[]), None).is_none());
        let all = found(&settings(&[&context]), None).unwrap();
        assert_eq!(
            (all.url.as_str(), all.login.user.as_deref()),
            ("nats://context:1", Some("them"))
        );
        let set = settings(&[&context, "nats=nats://set:1", "nats_token=t0ken"]);
        let both = found(&set, None).unwrap();
        assert_eq!(both.url, "nats://set:1");
        // Credentials come from one of them, the proof of the server's identity from either.
        assert_eq!((both.login.user, both.login.token.as_deref()), (None, Some("t0ken")));
        assert_eq!(both.login.ca.as_deref(), Some(Path::new("/context.pem")));
        assert_eq!(found(&set, Some("nats://flag:1")).unwrap().url, "nats://flag:1");
    }
}
