//! Who hands in goals, answers and budgets, and through which ingress.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ingress of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ingress {
    /// The command line, with direct access to the journal.
    Cli,
    /// HTTP.
    Http,
    /// A request over NATS.
    Nats,
    /// Published over NATS to the subject for goals.
    Goals,
    /// A prompt of the agent protocol.
    Agent,
}

impl Ingress {
    const ALL: [Self; 5] = [Self::Cli, Self::Http, Self::Nats, Self::Goals, Self::Agent];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Http => "http",
            Self::Nats => "nats",
            Self::Goals => "goals",
            Self::Agent => "agent",
        }
    }

    /// The ingress with this word on the wire.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ingress| ingress.as_str() == word)
    }
}

/// The submitter of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitter {
    /// The ingress.
    // Recorded as `door` by earlier versions; read for ever (I-12).
    #[serde(alias = "door")]
    pub ingress: Ingress,
    /// The submitter's name as claimed by the sender, not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims_to_be: Option<String>,
    /// The signer, verified by the ingress: the account's name or key, a dot, the user's key. The
    /// account is the signer's claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_to_be: Option<String>,
}
