//! Text in a record: inline if it is small, otherwise a reference to a content-addressed blob.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    limit::{TEXT_HEAD_BYTES_MAX, TEXT_INLINE_BYTES_MAX},
    quote::quoted,
};

/// The BLAKE3 hash of a blob's bytes; in records 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash(pub [u8; 32]);

impl BlobHash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        blake3::Hash::from_bytes(self.0).to_hex().fmt(f)
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a hash.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a BLAKE3 hash (64 hexadecimal digits)")]
pub struct ParseHashError(String);

impl FromStr for BlobHash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| ParseHashError(quoted(text)))
    }
}

impl Serialize for BlobHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlobHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for BlobHash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BlobHash".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// Bytes stored beside the events, under their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    hash: BlobHash,
    bytes: Vec<u8>,
}

impl Blob {
    /// The blob with these bytes: the one place where they are hashed before they are stored.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { hash: BlobHash::of(&bytes), bytes }
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes, as they were given.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A text in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Text {
    /// The text itself, at most [`TEXT_INLINE_BYTES_MAX`] bytes.
    Inline(String),
    /// The beginning of a text that is stored as a blob beside the events.
    Blob {
        /// The first characters, at most [`TEXT_HEAD_BYTES_MAX`] bytes.
        head: String,
        /// The hash of the complete text.
        blob: BlobHash,
        /// The length of the complete text, in bytes.
        bytes: u64,
    },
}

impl Text {
    /// `text` for a record; the second value is the blob to store with it, if one is needed.
    pub fn new(text: String) -> (Self, Option<Blob>) {
        Self::with_inline_max(text, TEXT_INLINE_BYTES_MAX)
    }

    /// As [`Text::new`], for records with many texts: inline text and head are at most
    /// `inline_bytes_max`.
    pub fn with_inline_max(text: String, inline_bytes_max: usize) -> (Self, Option<Blob>) {
        if text.len() <= inline_bytes_max {
            return (Self::Inline(text), None);
        }
        let head_bytes = text.floor_char_boundary(TEXT_HEAD_BYTES_MAX.min(inline_bytes_max));
        let head = text[..head_bytes].to_owned();
        let bytes = text.len() as u64;
        let blob = Blob::new(text.into_bytes());
        (Self::Blob { head, blob: blob.hash(), bytes }, Some(blob))
    }

    /// The text, as far as the record has it.
    pub fn head(&self) -> &str {
        match self {
            Self::Inline(text) => text,
            Self::Blob { head, .. } => head,
        }
    }

    /// The blob with the complete text, if the record does not have it.
    pub fn blob(&self) -> Option<BlobHash> {
        match self {
            Self::Inline(_) => None,
            Self::Blob { blob, .. } => Some(*blob),
        }
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.head().is_empty()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::Inline(String::new())
    }
}

impl From<&str> for Text {
    /// For texts known to be short; long ones need [`Text::new`].
    fn from(text: &str) -> Self {
        Self::Inline(text[..text.floor_char_boundary(TEXT_INLINE_BYTES_MAX)].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_text_is_inline_and_a_large_one_a_blob_with_a_head() {
        let (small, none) = Text::new("ä".repeat(10));
        assert_eq!((small.head().len(), none.is_none()), (20, true));

        let whole = "ä".repeat(TEXT_INLINE_BYTES_MAX);
        let (large, blob) = Text::new(whole.clone());
        let blob = blob.unwrap();
        assert_eq!(large.blob(), Some(blob.hash()));
        assert_eq!(blob.bytes(), whole.as_bytes());
        assert_eq!(blob.hash(), BlobHash::of(whole.as_bytes()), "a blob cannot have another hash");
        assert!(whole.starts_with(large.head()) && large.head().len() <= TEXT_HEAD_BYTES_MAX);
        let json = serde_json::to_string(&large).unwrap();
        assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), large);
    }
}
