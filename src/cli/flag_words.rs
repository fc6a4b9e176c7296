//! Faults of a request in the words of the command line: flags in place of paths in a body.

use std::fmt::Write as _;

use ai_factory_schemas::problem::{Detail, FieldFault, PathSegment, Problem};

use super::budget_words::money;

/// The flags, by the path in the body that they set.
const FLAGS: [(&str, &str); 10] = [
    ("body.budget.tokens_max", "--tokens"),
    ("body.budget.cost_micros_max", "--cost"),
    ("body.turns_max", "--turns"),
    ("body.model", "--model"),
    ("body.ask", "--ask"),
    ("body.check.code", "--check"),
    ("body.add_tokens", "--add-tokens"),
    ("body.add_cost_micros", "--add-cost"),
    ("body.tokens_max", "--tokens-max"),
    ("body.cost_micros_max", "--cost-max"),
];
/// The end of the name of an amount of money in millionths.
const MICROS: [&str; 2] = ["cost_micros", "cost_micros_max"];

/// What is wrong, as one sentence that names flags.
pub(crate) fn sentence(problem: &Problem) -> String {
    match &problem.detail {
        Detail::Sentence(sentence) => sentence.clone(),
        Detail::Faults(faults) => faults.iter().map(fault).collect::<Vec<_>>().join("; "),
    }
}

fn fault(fault: &FieldFault) -> String {
    let path: Vec<_> = fault.loc.iter().map(PathSegment::to_string).collect();
    let path = path.join(".");
    match FLAGS.iter().find(|(known, _)| *known == path) {
        Some((_, flag)) if MICROS.iter().any(|end| path.ends_with(end)) => {
            format!("{flag}: {}", with_money(&fault.msg))
        }
        Some((_, flag)) => format!("{flag}: {}", fault.msg),
        None => format!("{path}: {}", fault.msg),
    }
}

/// The text with its amounts in whole units of money.
fn with_money(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let number = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        match number.parse() {
            Ok(micros) => {
                // Writing to a string cannot fail.
                let _ = write!(told, "{}{}", money(micros), &part[number.len()..]);
            }
            Err(_) => told.push_str(part),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_flag_and_money_in_whole_units() {
        let told = |at: &[&str], said: &str| sentence(&Problem::invalid(at, "out_of_range", said));
        let limited = "is limited by the settings: at most 2500000, not 3000000";
        assert_eq!(
            told(&["body", "budget", "cost_micros_max"], limited),
            "--cost: is limited by the settings: at most 2.50, not 3.00"
        );
        assert_eq!(
            told(&["body", "budget", "tokens_max"], limited),
            "--tokens: is limited by the settings: at most 2500000, not 3000000"
        );
        assert_eq!(told(&["body", "goal"], "must not be blank"), "body.goal: must not be blank");
        assert_eq!(sentence(&Problem::bad_request("no 1")), "no 1");
    }
}
