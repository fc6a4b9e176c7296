//! The program in a block, as its info string and its content say.

use ai_factory_schemas::plan::Code;

use super::{
    language::{self, InfoString},
    prompts, python,
};

/// The program in a block with this info string.
pub(super) fn program(info: &str, content: &str) -> Option<Code> {
    match language::read_info(info) {
        InfoString::Program(language) => code(language, content),
        InfoString::Prompts(prompt) => {
            code(prompt.language().to_owned(), &prompts::program(content, prompt)?)
        }
        InfoString::Silent if python::is_program(content) => code("python".to_owned(), content),
        InfoString::Silent | InfoString::Text => None,
    }
}

/// The code of a step; `None` if there is nothing but white space.
pub(super) fn code(language: String, source: &str) -> Option<Code> {
    (!source.trim().is_empty()).then(|| Code { language, source: source.to_owned() })
}

/// `body` without the indentation common to all lines.
pub(super) fn dedent(body: &str) -> String {
    let width = |line: &str| line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let lines = || body.split_inclusive('\n');
    let shared = lines().filter(|line| !line.trim().is_empty()).map(width).min().unwrap_or(0);
    lines().map(|line| &line[shared.min(width(line))..]).collect()
}
