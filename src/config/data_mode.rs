//! Access to the factory's files for other users.

use serde::{Deserialize, Deserializer};

/// Who may read the data directory in addition to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataMode {
    /// Nobody.
    Private,
    /// Its group.
    Group,
}

impl<'de> Deserialize<'de> for DataMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.to_ascii_lowercase().as_str() {
            "private" => Ok(Self::Private),
            "group" => Ok(Self::Group),
            _ => Err(serde::de::Error::custom(format!("`{word}` is neither private nor group"))),
        }
    }
}

impl DataMode {
    /// The maximum mode of a file.
    pub const fn file(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Group => 0o640,
        }
    }

    /// The maximum mode of a directory.
    pub const fn directory(self) -> u32 {
        match self {
            Self::Private => 0o700,
            Self::Group => 0o750,
        }
    }
}
