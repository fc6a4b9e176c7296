//! Input and output files of a run, as requests and answers carry them and as records hold them.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    limit::{FILE_INLINE_BYTES_MAX, FILE_NAME_BYTES_MAX},
    text::{Blob, Text},
};

/// A file in a request or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Its path below the program's working directory, with `/` between the parts; see
    /// [`check_name`].
    pub name: String,
    /// The content, in base64 with padding (RFC 4648, section 4).
    pub content_base64: String,
}

impl RunFile {
    /// A file with these bytes for a message.
    pub fn new(name: String, bytes: &[u8]) -> Self {
        Self { name, content_base64: BASE64_STANDARD.encode(bytes) }
    }

    /// The content.
    ///
    /// # Errors
    /// A sentence if `content_base64` is not base64.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        BASE64_STANDARD
            .decode(&self.content_base64)
            .map_err(|error| format!("the content of {:?} is not base64: {error}", self.name))
    }

    /// The file for a record; the second value is the blob to store with it, if one is needed.
    pub fn into_record(self) -> (KeptFile, Option<Blob>) {
        let (content_base64, blob) =
            Text::with_inline_max(self.content_base64, FILE_INLINE_BYTES_MAX);
        (KeptFile { name: self.name, content_base64 }, blob)
    }
}

/// A file in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptFile {
    /// As in [`RunFile`].
    pub name: String,
    /// As in [`RunFile`], of at most [`FILE_INLINE_BYTES_MAX`] inline.
    pub content_base64: Text,
}

/// A requested file that is not returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileLeftOut {
    /// Its name, with escapes (`\xff`, `\n`) for bytes that are not UTF-8 and for control
    /// characters; or the pattern without a match.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// Whether `name` may be the path of a file below a working directory: relative, at most
/// [`FILE_NAME_BYTES_MAX`] bytes, no part empty, `.` or `..`, no control characters.
///
/// # Errors
/// The fault, as the end of a sentence that begins with the name.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.len() > FILE_NAME_BYTES_MAX {
        return Err(format!("is too long: at most {FILE_NAME_BYTES_MAX} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err("has control characters".to_owned());
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let rule = "must be a path below the working directory, such as `data/in.csv`: no part of it may be empty, \
                    `.` or `..`";
        return Err(rule.to_owned());
    }
    Ok(())
}

/// Whether files with these names, each valid for [`check_name`], can exist beside each other: no
/// name occurs twice, and none is the directory of another.
///
/// # Errors
/// The conflict, as the end of a sentence that begins with the holder of the names.
pub fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let names: Vec<_> = names.into_iter().collect();
    if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
        return Err(format!("has {twice:?} twice"));
    }
    for name in names {
        if let Some(above) = directories(name).find(|directory| seen.contains(directory)) {
            return Err(format!(
                "has {above:?} and {name:?}: {above:?} cannot be a file and a directory"
            ));
        }
    }
    Ok(())
}

/// The directories of a file, the outermost first: `a` and `a/b` for `a/b/c`.
pub fn directories(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
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

    #[test]
    fn names_that_cannot_be_beside_each_other_are_both_told() {
        for taken in [
            &[][..],
            &["a"],
            &["a", "b"],
            &["a/b", "a/c"],
            &["a", "ab/c"],
            &["a", "A"],
            &["a.b", "a/b"],
            &["a/b/c", "a/b.txt"],
            &["b/a", "a"],
            // The composed letter and the decomposed one: two names.
            &["\u{e4}", "a\u{308}"],
        ] {
            assert_eq!(check_names(taken.iter().copied()), Ok(()), "{taken:?}");
        }
        for (refused, told) in [
            (&["a", "a"][..], "has \"a\" twice"),
            (&["b", "a/b", "c", "a/b"], "has \"a/b\" twice"),
            (&["a", "a/b"], "has \"a\" and \"a/b\""),
            (&["a/b", "a"], "has \"a\" and \"a/b\""),
            (&["x", "a/b/c/d", "a/b"], "has \"a/b\" and \"a/b/c/d\""),
            (&["a", "a.b", "a/b"], "has \"a\" and \"a/b\""),
            (&["\u{e4}", "\u{e4}/b"], "has \"\u{e4}\" and \"\u{e4}/b\""),
        ] {
            let said = check_names(refused.iter().copied()).unwrap_err();
            assert!(said.starts_with(told), "{refused:?}: {said}");
        }
    }
}
