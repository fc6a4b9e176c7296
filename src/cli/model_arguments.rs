//! The flags that say which model does the work, and what it may cost.

use ai_factory_schemas::request::{Goal, GoalBudget};
use clap::Args;

use crate::config::{MONEY_DECIMALS, NO_MODEL, Settings, scaled};

/// Which model does the work, and what it may cost.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// The model that does the work, such as ollama/qwen3; `none` for no model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The most tokens to spend, as billed: less than the setting allows
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// The most that it may cost: less than the setting allows
    #[arg(long, value_name = "AMOUNT", value_parser = money)]
    cost: Option<u64>,
    /// The most turns: fewer than the setting allows
    #[arg(long, value_name = "N")]
    turns: Option<u32>,
    /// Let the model ask a person; the session waits for the answer
    #[arg(long, overrides_with = "no_ask")]
    ask: bool,
    /// The model may ask nobody
    #[arg(long)]
    no_ask: bool,
}

/// An amount of money in millionths.
pub(crate) fn money(text: &str) -> Result<u64, String> {
    scaled(text, MONEY_DECIMALS)
        .ok_or_else(|| "must be an amount such as 2.50 with at most six decimals".to_owned())
}

impl ModelArgs {
    /// The setting that the flags set for a factory of this process.
    pub(crate) fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        let name = |name: &String| if name == NO_MODEL { String::new() } else { name.clone() };
        self.model.iter().map(|model| ("--model", "model", name(model))).collect()
    }

    /// Whether a model does the work, with these settings: otherwise there is nobody who could ask.
    pub(crate) fn has_model(&self, settings: &Settings) -> bool {
        self.model.as_ref().map_or(!settings.model.is_empty(), |model| model != NO_MODEL)
    }

    /// A warning of flags that say nothing without a model, if any is given.
    pub(crate) fn unused(&self) -> Option<String> {
        let given = [
            ("--tokens", self.tokens.is_some()),
            ("--cost", self.cost.is_some()),
            ("--turns", self.turns.is_some()),
            ("--ask", self.ask),
        ];
        let named: Vec<_> =
            given.iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| *flag).collect();
        let told = "changes nothing without a model: name one with --model or the setting `model`";
        (!named.is_empty()).then(|| format!("warning: {} {told}", named.join(", ")))
    }

    /// Whether the flags say that no model does the work.
    pub(crate) fn is_none(&self) -> bool {
        self.model.as_deref() == Some(NO_MODEL)
    }

    /// A goal on these terms; without a word about it the model may ask if `asks`.
    pub(crate) fn apply(&self, goal: Goal, asks: bool) -> Goal {
        let budget = GoalBudget { tokens_max: self.tokens, cost_micros_max: self.cost };
        Goal {
            model: self.model.clone(),
            budget: Some(budget).filter(|budget| *budget != GoalBudget::default()),
            turns_max: self.turns,
            ask: self.ask || (asks && !self.no_ask),
            ..goal
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        model: ModelArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<ModelArgs, clap::Error> {
        let all = ["x"].iter().chain(arguments);
        Line::try_parse_from(all).map(|line| line.model)
    }

    #[test]
    fn flags_become_the_terms_of_a_goal() {
        let flags = ["--model", "ollama/x", "--tokens", "9000", "--cost", "0.25", "--turns", "7"];
        let goal = parsed(&flags).unwrap().apply(Goal::new("g"), false);
        assert_eq!(
            (goal.model.as_deref(), goal.turns_max, goal.ask),
            (Some("ollama/x"), Some(7), false)
        );
        let budget = goal.budget.unwrap();
        assert_eq!((budget.tokens_max, budget.cost_micros_max), (Some(9_000), Some(250_000)));
        assert!(parsed(&["--cost", "1,50"]).is_err() && parsed(&["--tokens", "-1"]).is_err());
    }

    #[test]
    fn flags_that_need_a_model_are_named_where_there_is_none() {
        let warning = parsed(&["--ask", "--tokens", "9"]).unwrap().unused().unwrap();
        assert!(warning.starts_with("warning: --tokens, --ask changes nothing"), "{warning}");
        assert_eq!(parsed(&["--no-ask", "--model", "none"]).unwrap().unused(), None);
    }

    #[test]
    fn without_flags_a_goal_is_as_it_was() {
        let goal = parsed(&[]).unwrap().apply(Goal::new("g"), false);
        assert_eq!(goal, Goal::new("g"));
        assert!(parsed(&[]).unwrap().flags().is_empty());
    }

    #[test]
    fn the_model_asks_where_somebody_can_answer_or_as_it_is_told() {
        for (flags, asks, expected) in [
            (&[][..], true, true),
            (&[], false, false),
            (&["--ask"], false, true),
            (&["--no-ask"], true, false),
            (&["--no-ask", "--ask"], true, true),
        ] {
            let goal = parsed(flags).unwrap().apply(Goal::new("g"), asks);
            assert_eq!(goal.ask, expected, "{flags:?}");
        }
    }

    #[test]
    fn no_model_is_an_empty_setting() {
        let none = parsed(&["--model", "none"]).unwrap();
        assert_eq!(none.flags(), [("--model", "model", String::new())]);
        assert_eq!(none.apply(Goal::new("g"), false).model.as_deref(), Some("none"));
    }
}
