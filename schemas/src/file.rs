//! Files that go into a run and come back from it: as requests and answers carry them, and as records hold them.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    limit::{FILE_INLINE_BYTES_MAX, FILE_NAME_BYTES_MAX},
    text::{BlobHash, Text},
};

/// How a file's bytes stand in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The text is the file.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// The text is the file in base64, with padding (RFC 4648, section 4).
    Base64,
}

impl Encoding {
    // Serde asks with a reference.
    #[expect(clippy::trivially_copy_pass_by_ref)]
    fn is_utf8(&self) -> bool {
        *self == Self::Utf8
    }
}

/// A file as a request or an answer carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Its path below the program's working directory, with `/` between the parts; see [`check_name`].
    pub name: String,
    /// What is in it.
    pub content: String,
    /// How to read `content`.
    #[serde(default, skip_serializing_if = "Encoding::is_utf8")]
    pub encoding: Encoding,
}

impl RunFile {
    /// A file's bytes as a message carries them: as text where they are text, else in base64.
    pub fn new(name: String, bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(content) => Self { name, content, encoding: Encoding::Utf8 },
            Err(binary) => {
                let content = BASE64_STANDARD.encode(binary.as_bytes());
                Self { name, content, encoding: Encoding::Base64 }
            }
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// Where `content` is not the base64 that `encoding` says it is: a sentence.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        match self.encoding {
            Encoding::Utf8 => Ok(Cow::Borrowed(self.content.as_bytes())),
            Encoding::Base64 => BASE64_STANDARD
                .decode(&self.content)
                .map(Cow::Owned)
                .map_err(|error| format!("`{}` is not base64: {error}", self.name)),
        }
    }

    /// The file as a record holds it; the second value is the blob to store with it, if one is needed.
    pub fn kept(self) -> (KeptFile, Option<(BlobHash, Vec<u8>)>) {
        let Self { name, content, encoding } = self;
        let (content, blob) = Text::with_inline_max(content, FILE_INLINE_BYTES_MAX);
        (KeptFile { name, content, encoding }, blob)
    }
}

/// A file as a record holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptFile {
    /// As in [`RunFile`].
    pub name: String,
    /// As in [`RunFile`], of at most [`FILE_INLINE_BYTES_MAX`] inline.
    pub content: Text,
    /// How to read `content`.
    #[serde(default, skip_serializing_if = "Encoding::is_utf8")]
    pub encoding: Encoding,
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
    fn text_goes_as_text_and_bytes_go_as_base64_and_both_come_back() {
        for (bytes, encoding) in
            [(&b"a,b\n"[..], Encoding::Utf8), (&[0xff, 0, 0x80], Encoding::Base64)]
        {
            let file = RunFile::new("f".to_owned(), bytes.to_vec());
            assert_eq!((file.encoding, &*file.bytes().unwrap()), (encoding, bytes));
        }
        let broken = RunFile { name: "f".into(), content: "%".into(), encoding: Encoding::Base64 };
        assert!(broken.bytes().unwrap_err().contains("`f` is not base64"));
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
