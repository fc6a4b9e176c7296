//! Which key goes where.
//!
//! *Promises.* The configured key goes to the configured scheme, host and port only. The key of a
//! provider's usual variable goes to that provider's own host only, over TLS. No key goes over
//! plain HTTP beyond this machine.

use std::collections::BTreeMap;

use ai_factory_ports::model::ModelError;
use ai_factory_schemas::model::{ModelEndpoint, ModelErrorClass};
use hyper::header::HeaderValue;
use url::{Host, Origin, Url};

use super::provider::{Provider, provider};

/// The keys.
#[derive(Default)]
pub(crate) struct Keys {
    /// The configured API.
    origin: Option<Origin>,
    configured: Option<String>,
    usual: BTreeMap<String, String>,
}

impl Keys {
    /// The configured key, which is for the API at `url` and of no use without one, and the usual
    /// ones by their variables.
    pub(crate) fn new(
        url: Option<&Url>,
        configured: Option<&str>,
        usual: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let trimmed = |key: &str| Some(key.trim().to_owned()).filter(|key| !key.is_empty());
        let configured = configured.and_then(trimmed);
        if configured.as_deref().is_some_and(|key| HeaderValue::from_str(key).is_err()) {
            return Err("`model_key` has characters that no key has: copy it again".to_owned());
        }
        let usual = usual.iter().filter_map(|(name, key)| Some((name.clone(), trimmed(key)?)));
        Ok(Self { origin: url.map(Url::origin), configured, usual: usual.collect() })
    }

    /// The key for an API; `None` if it needs none.
    pub(crate) fn key(
        &self,
        endpoint: &ModelEndpoint,
        url: &Url,
    ) -> Result<Option<&str>, ModelError> {
        if let Some(key) = self.configured.as_ref().filter(|_| self.is_configured(url)) {
            if url.scheme() != "https" && !is_loopback(url) {
                return Err(no_key(format!(
                    "the key for {} would travel in plain text: use an address with `https://`, or unset `model_key`",
                    endpoint.host()
                )));
            }
            return Ok(Some(key));
        }
        let Some((provider, variable)) = own(endpoint, url) else { return Ok(None) };
        match self.usual.get(variable) {
            Some(key) if HeaderValue::from_str(key).is_ok() => Ok(Some(key)),
            Some(_) => Err(no_key(format!(
                "{variable} has characters that no key has: copy the key of {} again",
                provider.name
            ))),
            None => Err(no_key(format!(
                "{} needs a key: set {variable}, or `model_key` or `model_key_file` beside `model` = `{}`",
                provider.name, endpoint.model
            ))),
        }
    }

    /// Whether the key for an API is known, if it needs one. What an API needs is not known if it
    /// is neither a provider's own, nor on this machine, nor configured.
    pub(crate) fn check(&self, endpoint: &ModelEndpoint, url: &Url) -> Result<(), ModelError> {
        let has_key = self.key(endpoint, url)?.is_some();
        if has_key || url.scheme() == "http" || is_loopback(url) || self.is_configured(url) {
            return Ok(());
        }
        Err(no_key(format!(
            "it is not known whether {} needs a key: set `model` to `{}` and `model_url` to {}, and `model_key` or \
             `model_key_file` if it needs one",
            endpoint.host(),
            endpoint.model,
            endpoint.url
        )))
    }

    fn is_configured(&self, url: &Url) -> bool {
        self.origin.as_ref() == Some(&url.origin())
    }

    /// Every key, so that it can be hidden wherever it appears.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.configured.iter().chain(self.usual.values()).map(String::as_str)
    }
}

fn no_key(reason: String) -> ModelError {
    ModelError::new(ModelErrorClass::Credentials, reason)
}

/// The provider and the variable of its key, if this is its own host.
pub(crate) fn own(
    endpoint: &ModelEndpoint,
    url: &Url,
) -> Option<(&'static Provider, &'static str)> {
    let provider = provider(endpoint.provider())?;
    let is_own = url.scheme() == "https"
        && url.port_or_known_default() == Some(443)
        && url.host_str() == Some(provider.own_host?);
    is_own.then_some((provider, provider.key_variable?))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::model::{ModelProtocol, ToolProtocol};

    use super::*;

    fn keys(configured: Option<(&str, &str)>) -> Keys {
        let usual = [("OPENAI_API_KEY", "usual-openai"), ("ANTHROPIC_API_KEY", "usual-anthropic")];
        let usual = usual.map(|(name, key)| (name.to_owned(), key.to_owned())).into();
        let key = configured.map(|(_, key)| key);
        let url = configured.map_or("https://api.openai.com/v1", |(url, _)| url);
        Keys::new(Some(&Url::parse(url).unwrap()), key, &usual).unwrap()
    }

    fn key(keys: &Keys, model: &str, url: &str) -> Result<Option<String>, ModelError> {
        let endpoint = ModelEndpoint {
            model: model.to_owned(),
            url: url.to_owned(),
            protocol: ModelProtocol::ChatCompletions,
            tools: ToolProtocol::Native,
        };
        let found = keys.key(&endpoint, &Url::parse(url).unwrap());
        found.map(|found| found.map(str::to_owned))
    }

    #[test]
    fn a_usual_key_goes_to_its_providers_own_host_only() {
        let keys = keys(None);
        let usual = Some("usual-openai".to_owned());
        assert_eq!(key(&keys, "openai/x", "https://api.openai.com/v1").unwrap(), usual);
        for url in [
            "https://api.openai.com.evil.example/v1",
            "https://evil.example/api.openai.com",
            "https://api.openai.com:8443/v1",
            "http://api.openai.com/v1",
            "http://127.0.0.1:1234/v1",
            "https://api.anthropic.com/v1",
        ] {
            assert_eq!(key(&keys, "openai/x", url).unwrap(), None, "{url}");
        }
        let error = key(&keys, "gemini/x", "https://generativelanguage.googleapis.com/v1beta");
        let error = error.unwrap_err();
        assert_eq!(error.class, ModelErrorClass::Credentials);
        assert!(error.reason.contains("GEMINI_API_KEY") && error.reason.contains("model_key"));
    }

    #[test]
    fn the_configured_key_goes_to_the_configured_host_only_and_never_in_plain_text_beyond_loopback()
    {
        let far = keys(Some(("https://models.example/v1", "configured")));
        let configured = Some("configured".to_owned());
        assert_eq!(key(&far, "openai/x", "https://models.example/other").unwrap(), configured);
        assert_eq!(key(&far, "openai/x", "https://models.example:444/v1").unwrap(), None);
        assert_eq!(key(&far, "openai/x", "http://models.example/v1").unwrap(), None);
        assert_eq!(
            key(&far, "openai/x", "https://api.openai.com/v1").unwrap().as_deref(),
            Some("usual-openai"),
            "the configured key is for another host"
        );
        for (url, fits) in [
            ("http://127.0.0.1:1/v1", true),
            ("http://[::1]:1/v1", true),
            ("http://localhost:1/v1", true),
            ("http://192.168.0.7:1/v1", false),
            ("http://localhost.example/v1", false),
        ] {
            let keys = keys(Some((url, "configured")));
            assert_eq!(key(&keys, "ollama/x", url).is_ok(), fits, "{url}");
        }
    }
}
