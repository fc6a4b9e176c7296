//! Secret values, which are never displayed.

use std::fmt;

use serde::Deserialize;

/// The placeholder for a secret.
pub const HIDDEN: &str = "(hidden)";

/// A text that no log, table or error shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret text.
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself; `None` if it is empty.
    pub fn reveal(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
