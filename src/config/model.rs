//! The settings of models: their values beyond plain texts and numbers, and the keys that users
//! keep in the environment for providers.

use std::{collections::BTreeMap, ffi::OsString};

use ai_factory_schemas::model::TokenPrices;
use serde::{Deserialize, Deserializer};

use super::{
    decimal::{MONEY_DECIMALS, TEMPERATURE_DECIMALS, scaled},
    secret::Secret,
};
use crate::model::PROVIDERS;

/// The highest temperature, in thousandths.
const TEMPERATURE_MILLI_MAX: u64 = 2_000;
/// The beginning of a model that is a recording.
pub const RECORDING_PREFIX: &str = "recording:";
/// The word for no model, in requests and on the command line.
pub const NO_MODEL: &str = "none";
/// Maximum length of a model's name, its provider included, in bytes.
const MODEL_BYTES_MAX: usize = 256;

/// How tool calls are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelTools {
    /// With the API's own tool calls, unless the server says that the model has none.
    Auto,
    /// With the API's own tool calls.
    Native,
    /// As fenced blocks in the text.
    Text,
}

impl<'de> Deserialize<'de> for ModelTools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "text" => Ok(Self::Text),
            _ => Err(serde::de::Error::custom(format!("`{word}` is no way to call tools"))),
        }
    }
}

/// The keys of providers, by the variables that their own tools use. Each is for the provider's own
/// host only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderKeys(BTreeMap<&'static str, Secret>);

impl ProviderKeys {
    /// Those in an environment.
    pub(super) fn of(environment: &[(OsString, OsString)]) -> Self {
        let value = |variable: &str| {
            let found = environment.iter().find(|(name, _)| name == variable)?;
            found.1.to_str().map(str::trim).filter(|text| !text.is_empty())
        };
        let variables = PROVIDERS.iter().filter_map(|provider| provider.key_variable);
        Self(variables.filter_map(|name| Some((name, Secret::new(value(name)?)))).collect())
    }

    /// All keys, by their variables.
    pub fn by_variable(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().filter_map(|(name, key)| Some((*name, key.reveal()?)))
    }
}

/// Whether a text names a model: provider and name, or a recording.
pub(super) fn is_model(text: &str) -> bool {
    if text.len() > MODEL_BYTES_MAX {
        return false;
    }
    if let Some(file) = text.strip_prefix(RECORDING_PREFIX) {
        return !file.is_empty() && !file.contains('\0');
    }
    let is_provider = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    text.split_once('/').is_some_and(|(provider, name)| {
        !provider.is_empty()
            && provider.chars().all(is_provider)
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_graphic())
    })
}

/// A temperature in thousandths, or nothing.
pub(super) fn temperature(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    scaled(text, TEMPERATURE_DECIMALS)
        .filter(|milli| *milli <= TEMPERATURE_MILLI_MAX)
        .and_then(|milli| u32::try_from(milli).ok())
        .map(Some)
        .ok_or_else(|| format!("`{text}` is no temperature"))
}

/// An amount of money in millionths, or nothing.
pub(super) fn money(text: &str) -> Result<Option<u64>, String> {
    match text {
        "" => Ok(None),
        text => {
            scaled(text, MONEY_DECIMALS).map(Some).ok_or_else(|| format!("`{text}` is no amount"))
        }
    }
}

/// A whole number, or nothing.
pub(super) fn seed(text: &str) -> Result<Option<u64>, String> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("`{text}` is no whole number")),
    }
}

/// Prices such as `input=3,output=15`, or nothing.
pub(super) fn prices(text: &str) -> Result<Option<TokenPrices>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut read: BTreeMap<&str, u64> = BTreeMap::new();
    for pair in text.split(',') {
        let (kind, price) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is no price"))?;
        let (kind, price) = (kind.trim(), price.trim());
        if !["input", "output", "cache_read", "cache_write"].contains(&kind) {
            return Err(format!("`{kind}` is no kind of tokens"));
        }
        let price =
            scaled(price, MONEY_DECIMALS).ok_or_else(|| format!("`{price}` is no amount"))?;
        if read.insert(kind, price).is_some() {
            return Err(format!("`{kind}` has two prices"));
        }
    }
    let required = |kind: &str| {
        read.get(kind).copied().ok_or_else(|| format!("the price of `{kind}` is missing"))
    };
    Ok(Some(TokenPrices {
        input: required("input")?,
        output: required("output")?,
        cache_read: read.get("cache_read").copied(),
        cache_write: read.get("cache_write").copied(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_a_provider_and_a_name_or_is_a_recording() {
        for good in [
            "ollama/qwen3:8b",
            "openrouter/anthropic/claude-sonnet-4.5",
            "openai/gpt-5",
            "recording:calls of today.json",
        ] {
            assert!(is_model(good), "{good}");
        }
        for bad in ["", "none", "qwen3", "/x", "ollama/", "Ollama/x", "a/b c", "recording:"] {
            assert!(!is_model(bad), "{bad}");
        }
    }

    #[test]
    fn prices_are_per_million_tokens_and_exact() {
        let full = prices("input=3, output=15,cache_read=0.3,cache_write=3.75").unwrap().unwrap();
        assert_eq!((full.input, full.output), (3_000_000, 15_000_000));
        assert_eq!((full.cache_read, full.cache_write), (Some(300_000), Some(3_750_000)));
        let plain = prices("output=0.6,input=0.15").unwrap().unwrap();
        assert_eq!((plain.input, plain.cache_read), (150_000, None));
        assert_eq!(prices(""), Ok(None));
        for bad in
            ["3", "input=3", "input=3,output=x", "input=3,output=1,output=2", "in=1,output=1"]
        {
            assert!(prices(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_temperature_is_at_most_two_and_has_thousandths() {
        assert_eq!(temperature(""), Ok(None));
        assert_eq!(temperature("0.125"), Ok(Some(125)));
        for bad in ["2.001", "-1", "0.1234", "hot"] {
            assert!(temperature(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_providers_key_is_read_from_its_own_variable_and_never_shown() {
        let environment = [
            ("OPENAI_API_KEY".into(), "sk-canary-1234".into()),
            ("ANTHROPIC_API_KEY".into(), " ".into()),
        ];
        let keys = ProviderKeys::of(&environment);
        let found: Vec<_> = keys.by_variable().collect();
        assert_eq!(found, [("OPENAI_API_KEY", "sk-canary-1234")]);
        assert!(!format!("{keys:?}").contains("canary"));
    }
}
