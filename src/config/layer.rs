//! One layer of settings: the values of one source, each with the source's name.

use std::{ffi::OsString, path::Path};

use ai_factory_schemas::quote::printable;
use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::{
    allowed::AllowedValues,
    env_file::{OwnLine, own_lines},
    error::{SettingsError, nearest},
    key::{KEYS, Key},
    names::VARIABLE_PREFIX,
};

/// Shown part of a value that is not UTF-8, in characters.
const VALUE_CHARS_MAX: usize = 200;

/// The values of one source. All are known and allowed.
#[derive(Debug)]
pub(super) struct SettingsLayer {
    source: String,
    values: Dict,
}

impl SettingsLayer {
    fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), values: Dict::new() }
    }

    fn put(&mut self, key: &Key, value: Value) {
        self.values.insert(key.name.to_owned(), value);
    }

    /// Adds a value in text form.
    fn put_text(&mut self, key: &'static Key, text: &str) -> Result<(), SettingsError> {
        let value = from_text(key, text).ok_or_else(|| bad(key, text, &self.source))?;
        self.put(key, value);
        Ok(())
    }

    /// The defaults.
    pub(super) fn defaults() -> Self {
        let mut layer = Self::new("default");
        for key in KEYS {
            if let Some(value) = from_text(key, &key.default.to_string()) {
                layer.put(key, value);
            }
        }
        layer
    }

    /// A settings file.
    pub(super) fn toml(path: &Path, text: &str) -> Result<Self, SettingsError> {
        use figment::providers::{Format as _, Toml};

        let shown = path.display().to_string();
        let values: Dict = Toml::from_str(text).map_err(|error| SettingsError::Malformed {
            path: shown.clone(),
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            reason: error.message().to_owned(),
        })?;
        let mut layer = Self::new(shown);
        for (name, value) in values {
            let key = find_key(&name, &layer.source, &|name| name.to_owned(), &name)?;
            let written = to_text(&value);
            let checked = validate(key, &value).ok_or_else(|| bad(key, &written, &layer.source))?;
            layer.put(key, checked);
        }
        Ok(layer)
    }

    /// A file of variables. Foreign variables are ignored.
    pub(super) fn env_file(
        path: &Path,
        bytes: &[u8],
        environment: &[(OsString, OsString)],
    ) -> Result<Self, SettingsError> {
        let shown = path.display().to_string();
        let own = own_lines(bytes, environment).map_err(|(line, slip)| {
            SettingsError::Malformed { path: shown.clone(), line, reason: slip.to_string() }
        })?;
        let mut layer = Self::new(shown);
        for OwnLine { number, name, value } in own {
            layer.variable(&name, &value).map_err(|error| error.at_line(number))?;
        }
        Ok(layer)
    }

    /// The environment. Only names with the prefix `AI_FACTORY_` are read.
    pub(super) fn environment(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut layer = Self::new("the environment");
        for (name, value) in variables {
            if !name.as_encoded_bytes().starts_with(VARIABLE_PREFIX.as_bytes()) {
                continue;
            }
            // A name that is not UTF-8 matches no setting: its lossy form is refused as unknown.
            let name = name.to_string_lossy();
            match value.to_str() {
                Some(value) => layer.variable(&name, value)?,
                None => return Err(layer.not_utf8(&name, &value.to_string_lossy())),
            }
        }
        Ok(layer)
    }

    /// The error for a variable whose value is not UTF-8: with replacement characters it would name
    /// another file.
    fn not_utf8(&self, name: &str, shown: &str) -> SettingsError {
        match self.key_of(name) {
            Ok(key) => SettingsError::NotUtf8 {
                name: name.to_owned(),
                value: printable(&key.allowed.shown(shown), VALUE_CHARS_MAX),
                source_name: self.source.clone(),
            },
            Err(error) => error,
        }
    }

    /// The setting of a variable.
    fn key_of(&self, name: &str) -> Result<&'static Key, SettingsError> {
        let as_variable = |key: &str| format!("{VARIABLE_PREFIX}{}", key.to_uppercase());
        let key = name.strip_prefix(VARIABLE_PREFIX).unwrap_or(name).to_lowercase();
        find_key(&key, &self.source, &as_variable, name)
    }

    fn variable(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        let key = self.key_of(name)?;
        if value.is_empty() { Ok(()) } else { self.put_text(key, value) }
    }

    /// The `--set KEY=VALUE` flags; a later one wins.
    pub(super) fn set(pairs: &[String]) -> Result<Self, SettingsError> {
        let mut layer = Self::new("--set");
        for pair in pairs {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| SettingsError::NotAPair(pair.clone()))?;
            let name = name.trim();
            let key = find_key(name, &layer.source, &|name| name.to_owned(), name)?;
            layer.put_text(key, value)?;
        }
        Ok(layer)
    }

    /// A dedicated flag, such as `--data-dir`.
    pub(super) fn flag(flag: &str, name: &str, value: &str) -> Result<Self, SettingsError> {
        let mut layer = Self::new(flag);
        let key = find_key(name, flag, &|name| name.to_owned(), name)?;
        layer.put_text(key, value)?;
        Ok(layer)
    }
}

impl Provider for SettingsLayer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn find_key(
    name: &str,
    source_name: &str,
    spell: &dyn Fn(&str) -> String,
    written: &str,
) -> Result<&'static Key, SettingsError> {
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| SettingsError::UnknownKey {
        name: written.to_owned(),
        source_name: source_name.to_owned(),
        nearest: nearest(name).map(spell),
    })
}

fn bad(key: &Key, value: &str, source_name: &str) -> SettingsError {
    SettingsError::BadValue {
        key: key.name,
        value: key.allowed.shown(value),
        source_name: source_name.to_owned(),
        allowed: key.allowed.to_string(),
    }
}

fn from_text(key: &Key, text: &str) -> Option<Value> {
    let text = if matches!(key.allowed, AllowedValues::Number { .. }) { text.trim() } else { text };
    if !key.allowed.accepts(text) {
        return None;
    }
    match key.allowed {
        AllowedValues::Number { .. } => text.parse::<u64>().ok().map(Value::from),
        _ => Some(Value::from(text)),
    }
}

/// A value of a settings file, if it has the key's type and is accepted.
fn validate(key: &Key, value: &Value) -> Option<Value> {
    let is_number = matches!(key.allowed, AllowedValues::Number { .. });
    match value {
        Value::String(_, text) if !is_number => from_text(key, text),
        Value::Num(..) if is_number || key.allowed.is_decimal() => from_text(key, &to_text(value)),
        _ => None,
    }
}

fn to_text(value: &Value) -> String {
    match value {
        Value::String(_, text) => text.clone(),
        Value::Bool(_, is) => is.to_string(),
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_u128().map(|n| n.to_string()))
            .or_else(|| number.to_f64().map(|n| n.to_string()))
            .unwrap_or_default(),
        Value::Char(_, c) => c.to_string(),
        Value::Dict(..) => "a table".to_owned(),
        Value::Array(..) => "a list".to_owned(),
        Value::Empty(..) => String::new(),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
