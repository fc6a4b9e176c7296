//! Errors in settings.

use super::{key::KEYS, names::FILE_NAME};

/// Minimum similarity of a suggested name (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.7;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// No key of this name.
    #[error("{}", unknown(name, source_name, nearest.as_deref()))]
    UnknownKey {
        /// As written at its source.
        name: String,
        /// Its source.
        source_name: String,
        /// The most similar known key, in its source's notation.
        nearest: Option<String>,
    },
    /// A value that the key does not accept.
    #[error("`{key}` cannot be `{value}` (from {source_name}): use {allowed}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// As written.
        value: String,
        /// Its source.
        source_name: String,
        /// The accepted values.
        allowed: String,
    },
    /// A file that cannot be read.
    #[error("the settings file {path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's error.
        reason: String,
    },
    /// A file that violates its format.
    #[error("{path}, line {line}: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// The error.
        reason: String,
    },
    /// A variable that is not UTF-8. No other source replaces it.
    #[error(
        "`{name}` cannot be `{value}` (from {source_name}): it is not UTF-8 text; give it a value that is, or unset it"
    )]
    NotUtf8 {
        /// The variable.
        name: String,
        /// In displayable form.
        value: String,
        /// Its source.
        source_name: String,
    },
    /// A `--set` without a key or without `=`.
    #[error("`--set {0}` sets nothing: write it as `--set KEY=VALUE`, such as `--set runs_max=2`")]
    NotAPair(String),
}

impl SettingsError {
    /// The same with a line number in the file.
    pub(super) fn at_line(mut self, line: usize) -> Self {
        if let Self::UnknownKey { source_name, .. } | Self::BadValue { source_name, .. } = &mut self
        {
            *source_name = format!("{source_name}, line {line}");
        }
        self
    }
}

fn unknown(name: &str, source_name: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => {
            format!("`{name}` (from {source_name}) is not a setting: did you mean `{nearest}`?")
        }
        None => format!(
            "`{name}` (from {source_name}) is not a setting: `ai-factory config` lists all \
             settings (they also go into {FILE_NAME})"
        ),
    }
}

/// The most similar known key, if any is similar enough.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    KEYS.iter()
        .map(|key| (strsim::jaro_winkler(&name, key.name), key.name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_finds_its_neighbour_and_nonsense_finds_none() {
        assert_eq!(nearest("log_levl"), Some("log_level"));
        assert_eq!(nearest("LOGLEVEL"), Some("log_level"));
        assert_eq!(nearest("run_max"), Some("runs_max"));
        assert_eq!(nearest("xyzzy"), None);
    }
}
