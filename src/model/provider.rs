//! The providers that are known by name.

use ai_factory_schemas::model::ModelProtocol;

/// A provider of models, or a server for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name, the part of a model's name before the first `/`.
    pub name: &'static str,
    /// The base of its API unless another one is set.
    pub url: &'static str,
    /// The protocol of its API.
    pub protocol: ModelProtocol,
    /// The environment variable that usually has its key; absent if it asks for none.
    pub key_variable: Option<&'static str>,
    /// The host that its usual key may be sent to; absent for servers that people run themselves.
    pub own_host: Option<&'static str>,
}

const fn hosted(
    name: &'static str,
    own_host: &'static str,
    url: &'static str,
    key_variable: &'static str,
) -> Provider {
    let (key_variable, own_host) = (Some(key_variable), Some(own_host));
    Provider { name, url, protocol: ModelProtocol::ChatCompletions, key_variable, own_host }
}

const fn local(name: &'static str, url: &'static str) -> Provider {
    let protocol = ModelProtocol::ChatCompletions;
    Provider { name, url, protocol, key_variable: None, own_host: None }
}

/// All providers.
pub const PROVIDERS: [Provider; 8] = [
    hosted("openai", "api.openai.com", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    Provider {
        protocol: ModelProtocol::Messages,
        ..hosted(
            "anthropic",
            "api.anthropic.com",
            "https://api.anthropic.com/v1",
            "ANTHROPIC_API_KEY",
        )
    },
    local("ollama", "http://127.0.0.1:11434/v1"),
    local("llamacpp", "http://127.0.0.1:8080/v1"),
    local("vllm", "http://127.0.0.1:8000/v1"),
    local("lmstudio", "http://127.0.0.1:1234/v1"),
    hosted("openrouter", "openrouter.ai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    hosted(
        "gemini",
        "generativelanguage.googleapis.com",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
    ),
];

/// The provider of that name.
pub(crate) fn provider(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

/// All names, for a person.
pub(crate) fn names() -> String {
    PROVIDERS.map(|provider| provider.name).join(", ")
}
