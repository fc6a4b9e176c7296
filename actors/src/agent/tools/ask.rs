//! The tool `ask`: a question to a person.

use ai_factory_schemas::limit::QUESTION_CHARS_MAX;
use serde::Deserialize;

use super::arguments;
use crate::agent::{tool_names::ASK, visible};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskArguments {
    question: String,
}

/// The question of a call.
///
/// # Errors
/// A sentence, if the arguments are wrong.
pub(super) fn question(arguments: &str) -> Result<String, String> {
    let AskArguments { question } = arguments::read(ASK, arguments)?;
    let question = visible::content(question.trim());
    let chars = question.chars().count();
    if question.is_empty() {
        return Err("The question is empty: write what you need to know.".to_owned());
    }
    if chars > QUESTION_CHARS_MAX {
        return Err(format!(
            "The question has {chars} characters: at most {QUESTION_CHARS_MAX}. Ask for less."
        ));
    }
    Ok(question)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(question: &str) -> Result<String, String> {
        question_of(&json!({ "question": question }).to_string())
    }

    fn question_of(arguments: &str) -> Result<String, String> {
        question(arguments)
    }

    #[test]
    fn a_question_is_neither_empty_nor_longer_than_its_limit() {
        assert_eq!(asked(" Which port? ").unwrap(), "Which port?");
        assert!(asked(" \n").unwrap_err().contains("empty"));
        let longest = "ü".repeat(QUESTION_CHARS_MAX);
        assert_eq!(asked(&longest).unwrap(), longest);
        assert!(asked(&format!("{longest}ü")).unwrap_err().contains("2001 characters"));
        assert_eq!(asked("a\u{1b}[31m\u{202e}").unwrap(), "a\\u{1b}[31m\\u{202e}");
        assert!(question_of("{}").unwrap_err().contains("missing field `question`"));
        assert!(question_of("{\"q\": \"a\"}").unwrap_err().contains("unknown field `q`"));
    }
}
