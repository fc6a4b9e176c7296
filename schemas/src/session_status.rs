//! The result of a session for clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of a session for clients. Only steps that ran count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    /// No step that ran failed; or none ran.
    Success,
    /// Some steps failed and some succeeded.
    Partial,
    /// All steps that ran failed, or the session could not continue.
    Error,
}

impl SessionStatus {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Error => "error",
        }
    }
}
