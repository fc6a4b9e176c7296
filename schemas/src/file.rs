//! Files that go into a run and come back from it: as requests and answers carry them, and as records hold them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    limit::{FILE_INLINE_BYTES_MAX, FILE_NAME_BYTES_MAX},
    text::{BlobHash, Text},
};

/// A file as a request or an answer carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Its path below the program's working directory, with `/` between the parts; see [`check_name`].
    pub name: String,
    /// What is in it, in base64 with padding (RFC 4648, section 4).
    pub content_base64: String,
}

impl RunFile {
    /// A file's bytes as a message carries them.
    pub fn new(name: String, bytes: &[u8]) -> Self {
        Self { name, content_base64: BASE64_STANDARD.encode(bytes) }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// Where `content_base64` is no base64: a sentence.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        BASE64_STANDARD
            .decode(&self.content_base64)
            .map_err(|error| format!("the content of {:?} is not base64: {error}", self.name))
    }

    /// The file as a record holds it; the second value is the blob to store with it, if one is needed.
    pub fn kept(self) -> (KeptFile, Option<(BlobHash, Vec<u8>)>) {
        let (content_base64, blob) =
            Text::with_inline_max(self.content_base64, FILE_INLINE_BYTES_MAX);
        (KeptFile { name: self.name, content_base64 }, blob)
    }
}

/// A file as a record holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptFile {
    /// As in [`RunFile`].
    pub name: String,
    /// As in [`RunFile`], of at most [`FILE_INLINE_BYTES_MAX`] inline.
    pub content_base64: Text,
}

/// Whether `name` may be the path of a file below a working directory: relative, of at most
/// [`FILE_NAME_BYTES_MAX`] bytes, its parts neither empty nor `.` nor `..`, without control characters.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the name.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err(format!("is too long: at most {FILE_NAME_BYTES_MAX} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err("has control characters".to_owned());
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let rule = "must be a path below the working directory, such as `data/in.csv`";
        return Err(rule.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_file_come_back() {
        let bytes = [0xff, 0, 0x80, b'a'];
        let file = RunFile::new("f".to_owned(), &bytes);
        assert_eq!(file.bytes().unwrap(), bytes);
        let broken = RunFile { name: "f".into(), content_base64: "%".into() };
        assert!(broken.bytes().unwrap_err().contains("\"f\" is not base64"));
    }

    #[test]
    fn a_name_stays_below_the_working_directory() {
        for taken in ["a", "data/in.csv", ".hidden", "a b", "ä/…"] {
            assert_eq!(check_name(taken), Ok(()), "{taken}");
        }
        let long = "x".repeat(FILE_NAME_BYTES_MAX + 1);
        for refused in ["", "/", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\0b", &long]
        {
            assert!(check_name(refused).is_err(), "{refused:?}");
        }
    }
}
