//! The cases that were given, one JSON object a line.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

/// A program, and what it is about.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    n: u32,
    name: String,
    lang: String,
    /// What must hold, for readers.
    must: String,
    #[serde(default)]
    code: String,
    code_base64: Option<String>,
    /// A text, and how often it stands there.
    code_repeat: Option<(String, usize)>,
    #[serde(default)]
    pub(super) stdin: Option<String>,
    /// Files that it gets: name and content.
    #[serde(skip)]
    pub(super) files: Vec<(String, Vec<u8>)>,
    /// Patterns of the files that come back.
    #[serde(skip)]
    pub(super) return_files: Vec<String>,
}

/// A program that is no text cannot be asked for; as a file it can be run by one that is.
const RUN_FILE: &str =
    "import subprocess,sys\nsys.exit(subprocess.run([sys.executable,'given.py']).returncode)";

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let lines = include_str!("given.jsonl").lines();
    let mut cases: Vec<Case> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    for case in &mut cases {
        if let Some((text, count)) = &case.code_repeat {
            case.code = text.repeat(*count);
        }
        if let Some(base64) = &case.code_base64 {
            let bytes = BASE64_STANDARD.decode(base64).unwrap();
            match String::from_utf8(bytes) {
                Ok(code) => case.code = code,
                Err(binary) => {
                    case.files = vec![("given.py".to_owned(), binary.into_bytes())];
                    RUN_FILE.clone_into(&mut case.code);
                }
            }
        }
    }
    assert_eq!(cases.len(), 73, "cases are missing");
    cases
}

impl Case {
    /// One of our own.
    pub(super) fn own(name: &str, lang: &str, code: &str) -> Self {
        Self {
            n: 0,
            name: name.to_owned(),
            lang: lang.to_owned(),
            must: String::new(),
            code: code.to_owned(),
            code_base64: None,
            code_repeat: None,
            stdin: None,
            files: Vec::new(),
            return_files: Vec::new(),
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.n
    }

    pub(super) fn language(&self) -> &str {
        &self.lang
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// For whoever reads of a fault.
    pub(super) fn title(&self) -> String {
        format!("case {} ({}, {}; must: {})", self.n, self.name, self.lang, self.must)
    }
}
