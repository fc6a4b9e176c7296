//! Secrets in texts: what looks like one, or is known as one, is replaced before a text enters a
//! conversation, so that what is sent, stored and hashed are the same bytes.

/// The text in the place of a secret.
pub const MASKED: &str = "[masked]";

/// Hides secrets.
#[derive(Debug, Default)]
pub struct Mask {
    /// Values that are secret wherever they stand.
    known: Vec<String>,
}

impl Mask {
    /// Hides these values, and what looks like a secret. Values shorter than eight bytes are
    /// ignored: they would stand in any text.
    pub fn new(known: Vec<String>) -> Self {
        Self { known: known.into_iter().filter(|value| value.len() >= 8).collect() }
    }

    /// The text without secrets.
    pub fn apply(&self, text: &str) -> String {
        self.known.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASKED))
    }
}
