//! Checks: code of the user that decides whether a goal is done.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    diagnosis::Diagnosis,
    id::RunId,
    run::{EndedBy, RunStatus},
    text::Text,
    workspace::ChangeList,
};

/// The language of a check that names none.
pub const CHECK_LANGUAGE: &str = "bash";

/// Code that decides whether a goal is done: exit code 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "CheckText")]
pub struct Check {
    /// The language, in lower case.
    pub language: String,
    /// The program, at most [`crate::limit::CHECK_BYTES_MAX`].
    pub code: String,
}

/// A check as requests write it.
#[derive(JsonSchema)]
#[serde(untagged)]
enum CheckText {
    /// A command line of bash.
    Command(String),
    /// A program.
    Program {
        #[serde(default = "bash")]
        language: String,
        code: String,
    },
}

/// The fields of a check that is a program.
#[derive(Deserialize)]
struct CheckFields {
    #[serde(default = "bash")]
    language: String,
    code: String,
}

impl<'de> Deserialize<'de> for CheckText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CheckVisitor)
    }
}

/// Reads a string or an object, so that a fault in the object is told as such.
struct CheckVisitor;

impl<'de> Visitor<'de> for CheckVisitor {
    type Value = CheckText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of bash, or an object with `code` and perhaps `language`")
    }

    fn visit_str<E: de::Error>(self, code: &str) -> Result<CheckText, E> {
        Ok(CheckText::Command(code.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CheckText, A::Error> {
        let CheckFields { language, code } =
            CheckFields::deserialize(MapAccessDeserializer::new(map))?;
        Ok(CheckText::Program { language, code })
    }
}

fn bash() -> String {
    CHECK_LANGUAGE.to_owned()
}

impl From<CheckText> for Check {
    fn from(text: CheckText) -> Self {
        match text {
            CheckText::Command(code) => Self { language: bash(), code },
            CheckText::Program { language, code } => Self { language, code },
        }
    }
}

/// When a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckMoment {
    /// Before the first step. Its outcome informs only, unless the check itself cannot run.
    Before,
    /// After the last step. Its outcome decides.
    After,
}

/// `session.check_dispatched`: on disk before the check's code runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckDispatched {
    /// Before the steps or after them.
    pub moment: CheckMoment,
    /// The run, the same for every attempt.
    pub run_id: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The turn whose end it checks; absent without a model, and before the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
}

/// `session.check_finished`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckFinished {
    /// Before the steps or after them.
    pub moment: CheckMoment,
    /// The run, whose stream has all details.
    pub run_id: RunId,
    /// The result of the run.
    pub status: RunStatus,
    /// Its exit code.
    pub exit_code: i32,
    /// What ended it.
    pub ended_by: EndedBy,
    /// Standard output.
    pub stdout: Text,
    /// Standard error.
    pub stderr: Text,
    /// The duration in milliseconds.
    pub duration_ms: u64,
    /// Protected files that were restored before it, as changes to the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<ChangeList>,
    /// Test files that the steps changed and that are not protected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_tests: Vec<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// The turn whose end it checked; absent without a model, and before the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_a_line_of_bash_or_a_program() {
        let bash = Check { language: "bash".into(), code: "pytest -q".into() };
        for (json, expected) in [
            (r#""pytest -q""#, &bash),
            (r#"{"code":"pytest -q"}"#, &bash),
            (
                r#"{"language":"python","code":"assert 1"}"#,
                &Check { language: "python".into(), code: "assert 1".into() },
            ),
        ] {
            let read: Check = serde_json::from_str(json).unwrap();
            assert_eq!(read, *expected);
            let again = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<Check>(&again).unwrap(), read);
        }
        for (json, words) in [
            ("7", "integer `7`, expected a line of bash, or an object with `code`"),
            ("[]", "sequence, expected a line of bash"),
            (r#"{"language":"python"}"#, "missing field `code`"),
            (r#"{"code":7}"#, "integer `7`, expected a string"),
            (r#"{"language":null,"code":"x"}"#, "null, expected a string"),
        ] {
            let fault = serde_json::from_str::<Check>(json).unwrap_err().to_string();
            assert!(fault.contains(words), "{json}: {fault}");
        }
    }
}
