//! Transcripts of a session: lines after a prompt are the program, the rest is its output.

//!
//! *Limits.* [`COMMAND_BYTES_MAX`].

use super::{lexer, python};

/// The longest command over several lines, in bytes; each further line reads the whole command
/// again.
const COMMAND_BYTES_MAX: usize = 2 * 1024;

/// The kind of prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromptStyle {
    /// `$ `, `% `, `user@host:~$ `; `> ` continues an incomplete command.
    Shell,
    /// `>>> `; `... ` continues.
    Python,
}

impl PromptStyle {
    /// The language of the commands.
    pub(super) fn language(self) -> &'static str {
        match self {
            Self::Shell => "bash",
            Self::Python => "python",
        }
    }
}

/// The program in the transcript `content`; a transcript without prompts is data.
pub(super) fn program(content: &str, prompt: PromptStyle) -> Option<String> {
    let program = match prompt {
        PromptStyle::Shell => shell(content)?,
        PromptStyle::Python => interpreter(content),
    };
    (!program.trim().is_empty()).then_some(program)
}

/// The commands of a shell; `None` if a command has no end.
fn shell(content: &str) -> Option<String> {
    // The first prompt defines the sign: a `%` in the output is none if the sign is another.
    let sign = content.lines().find_map(|line| prompt_len(line, None)).map(|(_, sign)| sign);
    let mut program = String::new();
    // The start of the command that is not complete yet.
    let mut command = None;
    for line in content.lines() {
        let text = match (command, prompt_len(line, sign)) {
            (Some(_), _) => line.strip_prefix("> ").or(line.strip_prefix('>')).unwrap_or(line),
            (None, Some((len, _))) => &line[len..],
            (None, None) => continue,
        };
        let start = command.unwrap_or(program.len());
        program.push_str(text);
        if program.len() - start > COMMAND_BYTES_MAX && command.is_some() {
            return None;
        }
        command = goes_on(&program[start..]).then_some(start);
        program.push('\n');
    }
    command.is_none().then_some(program)
}

/// The length of the prompt at the beginning of `line`, and its sign; `#`, which also begins a
/// comment, counts only after a user's name.
fn prompt_len(line: &str, sign: Option<char>) -> Option<(usize, char)> {
    let is_sign = |c: char| sign.map_or(matches!(c, '$' | '%'), |known| known == c);
    let (at, found) = line.char_indices().find(|(at, c)| {
        let ends = line[at + c.len_utf8()..].starts_with(' ') || at + c.len_utf8() == line.len();
        ends && matches!(c, '$' | '%' | '#')
    })?;
    let before = line[..at].trim_end();
    let name = before.rsplit_once(") ").map_or(before, |(_, name)| name);
    let is_host = name.contains('@') && !name.trim_matches(['[', ']']).contains(['"', '\'']);
    let is_host = is_host && (name.starts_with('[') || !name.contains(' '));
    let is_shell = ["bash-", "sh-", "(", "~"].iter().any(|start| name.starts_with(start))
        && !name.contains(' ');
    let fits = is_host || is_sign(found) && (name.is_empty() || is_shell);
    let behind = at + found.len_utf8();
    fits.then(|| (behind + usize::from(line.len() > behind), found))
}

/// Whether `command` needs another line: something is open, or its last word requires more.
fn goes_on(command: &str) -> bool {
    let last = command.trim_end().rsplit(|c: char| c.is_whitespace() || c == ';').next();
    let last = last.unwrap_or_default();
    let is_comment = command.trim_start().starts_with('#');
    !is_comment
        && (!lexer::is_closed(&format!("{command}\n"), "bash")
            || command.ends_with('\\')
            || matches!(last, "do" | "then" | "else" | "{" | "(" | "|" | "&&" | "||")
            || opens_more(command))
}

/// Whether `command` opens more loops, conditions and blocks than it closes.
fn opens_more(command: &str) -> bool {
    let words = command.split(|c: char| c.is_whitespace() || c == ';');
    let count = words.fold(0_i32, |count, word| match word {
        "for" | "while" | "until" | "if" | "case" | "{" => count + 1,
        "done" | "fi" | "esac" | "}" => count - 1,
        _ => count,
    });
    let starts = ["for ", "while ", "until ", "if ", "case "];
    let begins = starts.iter().any(|start| command.trim_start().starts_with(start));
    count > 0 && (begins || command.contains("() {"))
}

fn interpreter(content: &str) -> String {
    let mut program = String::new();
    let mut runs = false;
    for line in content.lines() {
        let inner = line.strip_prefix(">>>").or(line.strip_prefix("...").filter(|_| runs));
        runs = inner.is_some_and(|it| it.is_empty() || it.starts_with(' '));
        if let Some(inner) = inner.filter(|_| runs) {
            program.push_str(inner.strip_prefix(' ').unwrap_or(inner));
            program.push('\n');
        }
    }
    if python::is_program(&program) { program } else { String::new() }
}
