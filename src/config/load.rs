//! Putting the layers on top of each other.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use figment::Figment;

use super::{
    ENV_FILE_NAME, FILE_NAME, error::SettingsError, key::KEYS, key::Settings, layer::Layer,
};

/// Where settings come from, beside the defaults.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `--data-dir`.
    pub data_dir: Option<String>,
    /// `--log-level`.
    pub log_level: Option<String>,
    /// `--set KEY=VALUE`, in order.
    pub set: Vec<String>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where `.env` and `ai-factory.toml` are looked for.
    pub directory: PathBuf,
    /// `--config`: the settings file, in place of `ai-factory.toml`. It must be there.
    pub file: Option<PathBuf>,
}

/// The settings, and where each of them comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The source of each setting, by key.
    pub sources: BTreeMap<&'static str, String>,
    /// Each setting as text, by key.
    pub values: BTreeMap<&'static str, String>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// Reads every source; a flag wins over the environment, that over `.env`, that over the settings file.
pub fn load(inputs: &Inputs) -> Result<Loaded, SettingsError> {
    let mut files = Vec::new();
    let mut figment = Figment::from(Layer::defaults());

    let file = inputs.file.clone().unwrap_or_else(|| beside(&inputs.directory, FILE_NAME));
    if let Some(text) = read(&file, inputs.file.is_none())? {
        figment = figment.merge(Layer::toml(&file, &text)?);
        files.push(file);
    }
    let file = beside(&inputs.directory, ENV_FILE_NAME);
    if let Some(text) = read(&file, true)? {
        figment = figment.merge(Layer::env_file(&file, &text)?);
        files.push(file);
    }
    figment = figment
        .merge(Layer::environment(inputs.environment.iter().cloned())?)
        .merge(Layer::set(&inputs.set)?);
    for (flag, key, value) in [
        ("--data-dir", "data_dir", &inputs.data_dir),
        ("--log-level", "log_level", &inputs.log_level),
    ] {
        if let Some(value) = value {
            figment = figment.merge(Layer::flag(flag, key, value)?);
        }
    }

    // Every layer was checked on its way in, so that this cannot fail but by a mistake of ours.
    let settings = figment.extract().map_err(|error| SettingsError::Unreadable {
        path: "(all layers)".to_owned(),
        reason: error.to_string(),
    })?;
    let mut sources = BTreeMap::new();
    let mut values = BTreeMap::new();
    for key in KEYS {
        if let Some(metadata) = figment.find_metadata(key.name) {
            sources.insert(key.name, metadata.name.to_string());
        }
        if let Ok(value) = figment.find_value(key.name) {
            let number = value.to_u128().map(|number| number.to_string());
            values.insert(key.name, number.or_else(|| value.into_string()).unwrap_or_default());
        }
    }
    Ok(Loaded { settings, sources, values, files })
}

/// A file in the directory; in the current one it needs no mention: `.env` is `.env`.
fn beside(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path)
}

/// The text of a file; nothing where there is none and that is fine.
fn read(path: &Path, may_be_absent: bool) -> Result<Option<String>, SettingsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if may_be_absent && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SettingsError::Unreadable {
            path: path.display().to_string(),
            reason: match error.kind() {
                io::ErrorKind::NotFound => "there is no such file".to_owned(),
                io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
                _ => error.to_string(),
            },
        }),
    }
}
