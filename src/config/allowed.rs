//! The default of a setting, and the values that it accepts.

use super::{model, secret::HIDDEN};
use crate::nats::without_passwords;

/// Maximum length of the subject prefix, in bytes: a subject has at most 255, of which event
/// subjects need 80.
const PREFIX_BYTES_MAX: usize = 100;
/// Maximum length of a stream name, in bytes.
const STREAM_NAME_BYTES_MAX: usize = 64;
/// Maximum length of a node name, in bytes: it is a NATS token.
const NODE_BYTES_MAX: usize = 63;

/// Maximum length of a secret, in bytes.
const SECRET_BYTES_MAX: usize = 512;

/// A default value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// A text.
    Text(&'static str),
    /// A whole number.
    Number(u64),
}

impl std::fmt::Display for DefaultValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Accepted values of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedValues {
    /// The path of a file or directory; relative to the current directory.
    Path,
    /// The path of a file, or empty.
    PathOrNothing,
    /// An address or host name.
    Host,
    /// The URLs of NATS servers, or empty.
    Servers,
    /// The base URL of an HTTP API, or empty.
    BaseUrl,
    /// A text that is not displayed, or empty.
    Secret,
    /// A text without white space, or empty.
    WordOrNothing,
    /// The name of a stream, or empty.
    StreamName,
    /// The name of this node.
    Node,
    /// The first tokens of every subject.
    Prefix,
    /// One subject token, or empty.
    TokenOrNothing,
    /// The name of a model, or empty.
    Model,
    /// A temperature, or empty.
    Temperature,
    /// A whole number, or empty.
    Seed,
    /// The prices of tokens, or empty.
    Prices,
    /// An amount of money, or empty.
    Money,
    /// One of several words.
    OneOf(&'static [&'static str]),
    /// A whole number in a range.
    Number {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
}

impl AllowedValues {
    /// Whether a text (or a number in text form) is accepted. The range of numbers is checked here.
    pub(super) fn accepts(self, text: &str) -> bool {
        let token = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        match self {
            Self::Path => !text.is_empty() && !text.contains('\0'),
            Self::PathOrNothing => !text.contains('\0'),
            Self::Host => !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic()),
            Self::Servers => text.chars().all(|c| c.is_ascii_graphic() || c == ' '),
            Self::BaseUrl => {
                let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
                // A password would be displayed there: it has a setting of its own.
                let is_plain = |c: char| c.is_ascii_graphic() && !"@?#".contains(c);
                text.is_empty() || rest.is_some_and(|r| !r.is_empty() && r.chars().all(is_plain))
            }
            Self::Secret | Self::WordOrNothing => {
                text.len() <= SECRET_BYTES_MAX && text.chars().all(|c| c.is_ascii_graphic())
            }
            Self::StreamName => {
                text.len() <= STREAM_NAME_BYTES_MAX
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            }
            Self::Node => {
                (1..=NODE_BYTES_MAX).contains(&text.len())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            }
            Self::Prefix => {
                text.len() <= PREFIX_BYTES_MAX
                    && text.split('.').all(|part| !part.is_empty() && part.chars().all(token))
            }
            Self::TokenOrNothing => text.len() <= NODE_BYTES_MAX && text.chars().all(token),
            Self::Model => text.is_empty() || model::is_model(text),
            Self::Temperature => model::temperature(text).is_ok(),
            Self::Seed => model::seed(text).is_ok(),
            Self::Prices => model::prices(text).is_ok(),
            Self::Money => model::money(text).is_ok(),
            Self::OneOf(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
            Self::Number { min, max } => {
                text.parse::<u64>().is_ok_and(|number| (min..=max).contains(&number))
            }
        }
    }

    /// Whether it may be written as a number in a settings file: a text that looks like one.
    pub(super) fn is_decimal(self) -> bool {
        matches!(self, Self::Temperature | Self::Seed | Self::Money)
    }

    /// A value in displayable form.
    pub fn shown(self, text: &str) -> String {
        match self {
            Self::Secret if !text.is_empty() => HIDDEN.to_owned(),
            Self::Servers => without_passwords(text),
            _ => text.to_owned(),
        }
    }
}

impl std::fmt::Display for AllowedValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path => f.write_str("a path"),
            Self::PathOrNothing => f.write_str("a path, or empty"),
            Self::Host => f.write_str("an address or host name without white space"),
            Self::Servers => {
                f.write_str("URLs such as nats://127.0.0.1:4222, separated by commas, or empty")
            }
            Self::BaseUrl => f.write_str(
                "a URL such as http://127.0.0.1:11434/v1, without user, `?` and `#`, or empty",
            ),
            Self::Secret | Self::WordOrNothing => write!(
                f,
                "at most {SECRET_BYTES_MAX} printable ASCII characters without white space, or \
                 empty"
            ),
            Self::StreamName => {
                write!(f, "at most {STREAM_NAME_BYTES_MAX} of letters, digits and `-_`, or empty")
            }
            Self::Node => write!(f, "1 to {NODE_BYTES_MAX} of letters, digits and `-_.`"),
            Self::Prefix => write!(
                f,
                "tokens of `a-z0-9_-` with single dots between them, at most {PREFIX_BYTES_MAX} bytes"
            ),
            Self::TokenOrNothing => {
                write!(f, "at most {NODE_BYTES_MAX} of `a-z0-9_-`, or empty")
            }
            Self::Model => {
                f.write_str("provider and name such as `ollama/qwen3`, `recording:FILE`, or empty")
            }
            Self::Temperature => {
                f.write_str("a number from 0 to 2 with at most three decimals, or empty")
            }
            Self::Seed => f.write_str("a whole number, or empty"),
            Self::Prices => f.write_str(
                "`input=3,output=15`, perhaps with `cache_read` and `cache_write`, each with at \
                 most six decimals, or empty",
            ),
            Self::Money => {
                f.write_str("an amount such as 2.50 with at most six decimals, or empty")
            }
            Self::OneOf(words) => match words.split_last() {
                Some((last, rest)) if !rest.is_empty() => {
                    write!(f, "{} or {last}", rest.join(", "))
                }
                _ => f.write_str(&words.join("")),
            },
            Self::Number { min, max } => write!(f, "a whole number from {min} to {max}"),
        }
    }
}
