//! Settings of the model, and the endpoint that they mean.

use std::{collections::BTreeMap, time::Duration};

use ai_factory_schemas::model::{ModelEndpoint, ModelProtocol, ToolProtocol};
use url::Url;

use super::{
    key_policy::Keys,
    provider::{self, Provider},
};

/// Begins the name of a model that is a recording.
const RECORDING: &str = "recording:";
/// The name that stands for no model.
const NO_MODEL: &str = "none";

/// Settings of the model. Holds keys, and is therefore never shown.
#[derive(Clone)]
pub struct ModelSettings {
    /// `PROVIDER/NAME` or `recording:FILE`; empty or `none` for no model.
    pub model: String,
    /// The base of the API; absent for the provider's usual one. Its path may be left out.
    pub url: Option<String>,
    /// The key for the API at [`Self::url`], or at the provider's usual address.
    pub key: Option<String>,
    /// The values of [`Provider::key_variable`] by their variables, as far as they are set.
    pub usual_keys: BTreeMap<String, String>,
    /// How the model calls tools; absent for the API's own tool calls.
    pub tools: Option<ToolProtocol>,
    /// Time limit of a connection's set-up, TLS included.
    pub connect_max: Duration,
    /// Time limit from the request to the first byte of the answer's content.
    pub first_byte_max: Duration,
    /// Time limit between two parts of an answer.
    pub idle_max: Duration,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            model: String::new(),
            url: None,
            key: None,
            usual_keys: BTreeMap::new(),
            tools: None,
            connect_max: Duration::from_secs(10),
            first_byte_max: Duration::from_mins(2),
            idle_max: Duration::from_mins(1),
        }
    }
}

/// What the settings mean.
pub(crate) struct Resolved {
    /// The model; `None` for none.
    pub(crate) endpoint: Option<ModelEndpoint>,
    /// The keys.
    pub(crate) keys: Keys,
}

/// Reads the settings. An error is a sentence for a person.
pub(crate) fn resolve(settings: &ModelSettings) -> Result<Resolved, String> {
    let model = settings.model.trim();
    if is_none(model) {
        return Ok(Resolved { endpoint: None, keys: other_keys(settings)? });
    }
    let tools = settings.tools.unwrap_or_default();
    if model.starts_with(RECORDING) {
        recording_of(model)?;
        let endpoint = ModelEndpoint {
            model: model.to_owned(),
            url: String::new(),
            protocol: ModelProtocol::Recording,
            tools,
        };
        return Ok(Resolved { endpoint: Some(endpoint), keys: other_keys(settings)? });
    }
    let provider = known_provider(model)?;
    let url = base(settings.url.as_deref().unwrap_or(provider.url), provider)?;
    let keys = Keys::new(Some(&url), settings.key.as_deref(), &settings.usual_keys)?;
    let endpoint = ModelEndpoint {
        model: model.to_owned(),
        url: url.as_str().trim_end_matches('/').to_owned(),
        protocol: provider.protocol,
        tools,
    };
    Ok(Resolved { endpoint: Some(endpoint), keys })
}

/// The keys for models that sessions recorded, where no API is configured: the configured key has a
/// host only if `model_url` says one.
fn other_keys(settings: &ModelSettings) -> Result<Keys, String> {
    let url = settings.url.as_deref().and_then(|url| Url::parse(url).ok());
    Keys::new(
        url.as_ref().filter(|url| url.has_host()),
        settings.key.as_deref(),
        &settings.usual_keys,
    )
}

/// The file of a recording, by the name of its model. An error is a sentence for a person.
pub(crate) fn recording_of(model: &str) -> Result<&str, String> {
    let file = model.strip_prefix(RECORDING).filter(|file| !file.is_empty());
    file.ok_or_else(|| format!("the model `{model}` lacks its file: write `recording:FILE`"))
}

/// Whether the name stands for no model.
pub(crate) fn is_none(model: &str) -> bool {
    model.is_empty() || model == NO_MODEL
}

/// Whether a model could have this name. An error is a sentence for a person.
pub(crate) fn check_name(model: &str) -> Result<(), String> {
    if model.starts_with(RECORDING) {
        return Ok(());
    }
    known_provider(model).map(|_| ())
}

fn known_provider(model: &str) -> Result<&'static Provider, String> {
    let parts = model.split_once('/').filter(|(_, name)| !name.trim().is_empty());
    let (named, _) = parts.ok_or_else(|| {
        format!(
            "`{model}` is not the name of a model: write PROVIDER/NAME, such as `ollama/qwen3`, with one of the \
             providers {}, or `recording:FILE`",
            provider::names()
        )
    })?;
    provider::provider(named).ok_or_else(|| {
        format!(
            "`{named}` in the model `{model}` is no provider: the providers are {}; a server that speaks chat \
             completions is reached as `openai/NAME` with `model_url`",
            provider::names()
        )
    })
}

/// The base of an API, with the provider's usual path if it has none.
fn base(text: &str, provider: &Provider) -> Result<Url, String> {
    let shown = text.split('@').next_back().unwrap_or_default();
    let unusable = |reason: &str| format!("`model_url` cannot be used ({shown}): {reason}");
    let mut url = Url::parse(text).map_err(|error| unusable(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(unusable("it has to begin with `https://` or `http://` and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unusable("a user or a password does not belong there: set `model_key`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(unusable("leave out everything from `?` or `#` on"));
    }
    if url.path() == "/" {
        let usual = Url::parse(provider.url).map_err(|error| error.to_string())?;
        url.set_path(usual.path());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(model: &str) -> ModelSettings {
        ModelSettings {
            model: model.to_owned(),
            key: Some("a-key".to_owned()),
            ..ModelSettings::default()
        }
    }

    fn refused(settings: &ModelSettings) -> String {
        resolve(settings).map(|resolved| resolved.endpoint).expect_err("it is refused")
    }

    #[test]
    fn a_model_is_found_by_its_provider_and_a_missing_path_is_added() {
        for (model, url, expected, protocol) in [
            ("openai/x", None, "https://api.openai.com/v1", ModelProtocol::ChatCompletions),
            ("anthropic/x", None, "https://api.anthropic.com/v1", ModelProtocol::Messages),
            (
                "gemini/x",
                None,
                "https://generativelanguage.googleapis.com/v1beta/openai",
                ModelProtocol::ChatCompletions,
            ),
            (
                "ollama/a/b:7b",
                Some("http://localhost:1/"),
                "http://localhost:1/v1",
                ModelProtocol::ChatCompletions,
            ),
            (
                "vllm/x",
                Some("https://h.example/api/"),
                "https://h.example/api",
                ModelProtocol::ChatCompletions,
            ),
        ] {
            let settings = ModelSettings { url: url.map(str::to_owned), ..settings(model) };
            let endpoint = resolve(&settings).map(|found| found.endpoint).unwrap().unwrap();
            assert_eq!((&*endpoint.url, endpoint.protocol), (expected, protocol), "{model}");
        }
        assert!(resolve(&settings("")).unwrap().endpoint.is_none());
        assert!(resolve(&settings("none")).unwrap().endpoint.is_none());
    }

    #[test]
    fn a_bad_name_or_address_is_refused_with_what_to_do() {
        for model in ["gpt", "openai/", "nobody/x", "/x"] {
            let said = refused(&settings(model));
            assert!(said.contains("openai, anthropic, ollama, llamacpp, vllm"), "{said}");
        }
        assert!(refused(&settings("recording:")).contains("recording:FILE"));
        for (url, part) in [
            ("127.0.0.1:80", "cannot be used"),
            ("ftp://h.example", "https://"),
            ("https://me:s3cret@h.example", "model_key"),
            ("https://h.example/v1?x=1", "`?`"),
        ] {
            let settings = ModelSettings { url: Some(url.to_owned()), ..settings("openai/x") };
            let said = refused(&settings);
            assert!(said.contains(part) && !said.contains("s3cret"), "{said}");
        }
    }
}
