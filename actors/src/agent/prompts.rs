//! The prompts: named texts with places to fill in, kept as files under `actors/prompts/`.
//!
//! A session records the prompts that it was opened with, and uses them to its end.

use std::collections::BTreeMap;

use ai_factory_schemas::text::Blob;
use serde::{Deserialize, Serialize};

macro_rules! prompts {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        /// The names of the prompts.
        pub mod prompt_name {
            $($(#[$doc])* pub const $constant: &str = $name;)*
        }

        /// Every prompt, as built in.
        const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../prompts/", $name, ".md")))),*];
    };
}

prompts! {
    /// Who the model is, its tools, its limits.
    SYSTEM = "system";
    /// The tool that asks a person, where that is allowed.
    ASK = "ask";
    /// Before the goal.
    GOAL = "goal";
    /// Before the list of files.
    FILES = "files";
    /// In place of it.
    NO_FILES = "no_files";
    /// Before the code of the check.
    CHECK = "check";
    /// Before the output of the check before the work.
    CHECK_BEFORE = "check_before";
    /// Before the memories.
    MEMORIES = "memories";
    /// The request for a plan.
    PLAN = "plan";
    /// After an answer that is no plan.
    PLAN_FAULT = "plan_fault";
    /// After the plan.
    CARRY_OUT = "carry_out";
    /// In place of it, without a plan of the model's own.
    CARRY_OUT_ALONE = "carry_out_alone";
    /// After an answer that was cut or refused.
    NOT_EXECUTED = "not_executed";
    /// After an answer with more tool calls than are carried out.
    LEFT_OUT = "left_out";
    /// After an end that the check contradicts.
    CHECK_FAILED = "check_failed";
    /// After an end that the last run contradicts.
    NOT_DONE = "not_done";
}

/// The prompts of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptSet(BTreeMap<String, String>);

impl PromptSet {
    /// The prompts of this version.
    pub fn current() -> Self {
        let text = |(name, text): &(&str, &str)| ((*name).to_owned(), text.trim_end().to_owned());
        Self(BUILT_IN.iter().map(text).collect())
    }

    /// The prompts as a blob: a JSON object from name to text. The same prompts have one hash.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn to_blob(&self) -> Result<Blob, serde_json::Error> {
        Ok(Blob::new(serde_json::to_vec(self)?))
    }

    /// The prompts in a blob.
    ///
    /// # Errors
    /// If the bytes are no prompts.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// A prompt with its places `{{name}}` filled in. A prompt that the set does not have, because
    /// it is newer than the set, is the built-in one.
    pub fn filled(&self, name: &str, values: &[(&str, &str)]) -> String {
        let built_in = || {
            let found = BUILT_IN.iter().find(|(built_in, _)| *built_in == name);
            found.map_or("", |(_, text)| text.trim_end())
        };
        fill(self.0.get(name).map_or_else(built_in, String::as_str), values)
    }
}

/// Fills in the places of a template, from its beginning to its end: what is filled in is not read
/// again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let place = after.split_once("}}").and_then(|(name, behind)| {
            let value = values.iter().find(|(known, _)| *known == name);
            value.map(|(_, value)| (value, behind))
        });
        if let Some((value, behind)) = place {
            filled.push_str(value);
            rest = behind;
        } else {
            filled.push_str("{{");
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tool_names;

    #[test]
    fn the_system_prompt_names_every_tool() {
        let prompts = PromptSet::current();
        let ask = prompts.filled(prompt_name::ASK, &[]);
        let system = prompts.filled(prompt_name::SYSTEM, &[("ask", &ask)]);
        for tool in tool_names::ALL {
            assert!(system.contains(&format!("{tool}: ")), "{tool}");
        }
        let silent = prompts.filled(prompt_name::SYSTEM, &[("ask", "")]);
        assert!(!silent.contains("ask: "), "{silent}");
    }

    #[test]
    fn prompts_read_back_from_their_blob_and_a_missing_one_is_the_built_in_one() {
        let prompts = PromptSet::current();
        let blob = prompts.to_blob().unwrap();
        assert_eq!(PromptSet::from_bytes(blob.bytes()).unwrap(), prompts);
        let old = PromptSet::from_bytes(b"{\"plan\": \"Plan {{steps_max}}.\"}").unwrap();
        assert_eq!(old.filled(prompt_name::PLAN, &[("steps_max", "9")]), "Plan 9.");
        assert!(old.filled(prompt_name::CARRY_OUT, &[]).contains("plan"));
        assert_eq!(old.filled("nothing", &[]), "");
    }

    #[test]
    fn what_is_filled_in_is_not_read_again() {
        let values = [("a", "{{b}}"), ("b", "B")];
        assert_eq!(fill("{{a}}-{{b}}-{{c}}-{{", &values), "{{b}}-B-{{c}}-{{");
    }
}
