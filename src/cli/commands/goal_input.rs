//! The input of `run`: goals as arguments, on standard input, or in a file.

use std::{fmt::Display, fs, path::Path};

use ai_factory_schemas::{
    encoding::{decode_text, without_mark},
    id::CommandId,
    limit::GOAL_BYTES_MAX,
    plan::TaskType,
};
use serde::Deserialize;

use super::standard_input;
use crate::cli::exit::CommandError;

/// One goal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GoalInput {
    /// The goal's text.
    pub(super) goal: String,
    /// The kind of work, if it differs from `--task-type`.
    #[serde(default)]
    pub(super) task_type: Option<TaskType>,
    /// The idempotency key.
    #[serde(default)]
    pub(super) key: Option<CommandId>,
}

impl GoalInput {
    fn new(goal: String) -> Self {
        Self { goal, task_type: None, key: None }.plain()
    }

    /// Removes a byte order mark, which would hide how the goal begins.
    fn plain(mut self) -> Self {
        if without_mark(&self.goal).len() < self.goal.len() {
            self.goal = without_mark(&self.goal).to_owned();
        }
        self
    }
}

/// The goals on the command line; `-` reads one from standard input.
pub(super) fn from_arguments(arguments: Vec<String>) -> Result<Vec<GoalInput>, CommandError> {
    let mut goals = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let goal =
            if argument == "-" { standard_input("the goal", GOAL_BYTES_MAX)? } else { argument };
        let input = GoalInput::new(goal);
        if input.goal.trim().is_empty() {
            return Err(CommandError::usage("a goal is blank: `ai-factory run 'what is wanted'`"));
        }
        goals.push(input);
    }
    Ok(goals)
}

/// The goals in a file, one per line.
pub(super) fn from_file(path: &Path) -> Result<Vec<GoalInput>, CommandError> {
    let shown = path.display();
    let unreadable =
        |error: &dyn Display| CommandError::usage(format_args!("{shown} cannot be read: {error}"));
    let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
    let text = decode_text(bytes).map_err(|error| unreadable(&error))?;
    let goals = from_lines(&text).map_err(|(line, reason)| {
        CommandError::usage(format_args!("{shown}, line {line}: {reason}"))
    })?;
    if goals.is_empty() {
        return Err(CommandError::usage(format_args!("{shown} holds no goal: write one per line")));
    }
    Ok(goals)
}

/// A line is a JSON object with a `goal`, or the goal itself. Blank lines are skipped, and so is a
/// byte order mark at the beginning of any line: concatenated files contain some.
fn from_lines(text: &str) -> Result<Vec<GoalInput>, (usize, String)> {
    let mut goals = Vec::new();
    let lines = text.lines().map(without_mark).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let at = |reason| (index + 1, reason);
        if !line.trim_start().starts_with('{') {
            goals.push(GoalInput::new(line.to_owned()));
            continue;
        }
        let input = serde_json::from_str(line).map(GoalInput::plain).map_err(|error| {
            at(format!(
                "not a goal ({error}): write {{\"goal\": \"…\"}}, with \"task_type\" and \"key\" if wanted"
            ))
        })?;
        if input.goal.trim().is_empty() {
            return Err(at("the goal is blank".to_owned()));
        }
        goals.push(input);
    }
    Ok(goals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_goal_or_an_object_with_one() {
        let text =
            "plain goal\n\n{\"goal\": \"other\", \"task_type\": \"coding\", \"key\": \"k1\"}\n";
        let goals = from_lines(text).unwrap();
        assert_eq!(goals[0], GoalInput::new("plain goal".to_owned()));
        assert_eq!(goals[1].task_type, Some(TaskType::Coding));
        assert_eq!(goals[1].key.as_ref().map(CommandId::as_str), Some("k1"));
    }

    #[test]
    fn a_byte_order_mark_hides_nothing() {
        let text = "\u{feff}{\"goal\": \"a\", \"key\": \"k1\"}\r\n\u{feff}plain\r\n\u{feff}\r\n\
                    \u{feff} {\"goal\": \"\u{feff}b\", \"key\": \"k2\"}\r\n";
        let goals = from_lines(text).unwrap();
        let told = goals
            .iter()
            .map(|input| (input.goal.as_str(), input.key.as_ref().map(CommandId::as_str)));
        let expected = [("a", Some("k1")), ("plain", None), ("b", Some("k2"))];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert_eq!(from_lines("\u{feff}{\"gaol\": 1}").unwrap_err().0, 1);
        let argument = from_arguments(vec!["\u{feff}```python".to_owned()]).unwrap();
        assert_eq!(argument[0].goal, "```python");
        assert!(from_arguments(vec!["\u{feff} \n".to_owned()]).is_err());
    }

    #[test]
    fn a_line_that_is_no_goal_is_named() {
        for (text, line) in [
            ("fine\n{\"gaol\": \"x\"}", 2),
            ("{\"goal\": \"  \"}", 1),
            ("\n\n{\"goal\": \"x\", \"task_type\": \"cooking\"}", 3),
        ] {
            assert_eq!(from_lines(text).unwrap_err().0, line, "{text}");
        }
    }

    #[test]
    fn a_blank_goal_is_used_wrongly() {
        assert!(from_arguments(vec![" \n".to_owned()]).is_err());
    }
}
