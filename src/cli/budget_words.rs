//! What a model spent, may spend and waits for, in words.

use ai_factory_schemas::{
    answer::{BudgetUse, ModelUse, SessionPending},
    id::SessionId,
    session::{SessionPhase, WaitReason},
};

use super::text::{lines, one_line};
use crate::config::{MONEY_DECIMALS, unscaled};

/// Decimals that an amount of money has at least.
const MONEY_DECIMALS_SHOWN: usize = 2;

/// An amount of money.
pub(crate) fn money(micros: u64) -> String {
    unscaled(micros, MONEY_DECIMALS, MONEY_DECIMALS_SHOWN)
}

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A budget in one line.
pub(crate) fn budget(of: &BudgetUse) -> String {
    let reserved = match of.tokens_reserved {
        0 => String::new(),
        tokens => format!(", {} set aside for a call", count(tokens)),
    };
    let cost = match (of.cost_micros_spent, of.cost_micros_max) {
        (Some(spent), Some(most)) => format!("; cost {} of {}", money(spent), money(most)),
        (Some(spent), None) => format!("; cost {}", money(spent)),
        _ => String::new(),
    };
    let (spent, most) = (count(of.tokens_spent), count(of.tokens_max));
    format!("{spent} of {most} tokens spent{reserved}{cost}")
}

/// What a session's model took, in lines of a name and a text.
pub(crate) fn model(of: &ModelUse) -> [(&'static str, String); 2] {
    let turns = if of.turns == 1 { "1 turn".to_owned() } else { format!("{} turns", of.turns) };
    let retried = match of.attempts.saturating_sub(of.turns) {
        0 => String::new(),
        1 => ", 1 attempt repeated".to_owned(),
        n => format!(", {n} attempts repeated"),
    };
    let at = if of.host.is_empty() { String::new() } else { format!(" at {}", one_line(&of.host)) };
    let resent = match of.resent_tokens {
        0 => String::new(),
        tokens => format!(" ({} of the input sent again)", count(tokens)),
    };
    [
        ("model", format!("{}{at}, {turns}{retried}", one_line(&of.model))),
        ("budget", format!("{}{resent}", budget(&of.budget))),
    ]
}

/// What a session waits for and what to do, in lines.
pub(crate) fn pending(of: &SessionPending) -> Vec<String> {
    let id = of.session_id;
    let waits_for = one_line(&of.waits_for);
    let Some(question) = &of.question else {
        return vec![format!("session {id} is {}: {waits_for}", of.status)];
    };
    let mut told = vec![format!("session {id} asks:")];
    let question = lines(&question.question).into_owned();
    told.extend(question.lines().map(|line| format!("  {line}")));
    told.push(format!("it waits for {waits_for}"));
    told
}

/// The command that lets a waiting session go on.
pub(crate) fn remedy(id: SessionId, phase: SessionPhase) -> Option<String> {
    match phase {
        SessionPhase::Waiting(WaitReason::Question) => {
            Some(format!("`ai-factory answer {id} TEXT` answers"))
        }
        SessionPhase::Waiting(WaitReason::Budget) => Some(format!(
            "`ai-factory budget {id}` says what it lacks, and `--add-tokens N` (or --add-cost) adds \
             to it; `ai-factory cancel {id}` ends it"
        )),
        SessionPhase::Waiting(WaitReason::Decision) => Some(format!(
            "`ai-factory resolve {id} repeat` runs the unknown step again, \
             `ai-factory resolve {id} skip` counts it as failed"
        )),
        SessionPhase::Running => Some(format!("`ai-factory show {id}` tells how far it is")),
        SessionPhase::Concluded(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use ai_factory_schemas::{answer::OpenQuestion, id::ToolCallId, time::Timestamp};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn a_budget_tells_spent_reserved_and_limit() {
        let plain = BudgetUse {
            tokens_spent: 1_200,
            tokens_reserved: 9_000,
            tokens_max: 1_000_000,
            ..BudgetUse::default()
        };
        assert_eq!(budget(&plain), "1,200 of 1,000,000 tokens spent, 9,000 set aside for a call");
        let priced = BudgetUse {
            tokens_reserved: 0,
            cost_micros_spent: Some(70_000),
            cost_micros_max: Some(2_500_000),
            ..plain
        };
        assert_eq!(budget(&priced), "1,200 of 1,000,000 tokens spent; cost 0.07 of 2.50");
    }

    fn waiting(reason: WaitReason, question: Option<&str>) -> SessionPending {
        SessionPending {
            request_id: Uuid::nil().into(),
            session_id: SessionId(Uuid::nil()),
            status: SessionPhase::Waiting(reason),
            waits_for: "more: `ai-factory budget ID`".to_owned(),
            question: question.map(|question| OpenQuestion {
                question_id: ToolCallId(Uuid::nil()),
                question: question.to_owned(),
                expires: Timestamp::default(),
            }),
            model: None,
        }
    }

    #[test]
    fn a_session_that_waits_says_for_what_and_with_which_command_it_goes_on() {
        let asked =
            pending(&waiting(WaitReason::Question, Some("Which\u{1b}[2J?\nSay it."))).join("\n");
        assert!(asked.ends_with("it waits for more: `ai-factory budget ID`"), "{asked}");
        assert!(asked.contains("\n  Say it.") && !asked.contains('\u{1b}'), "{asked}");
        let spent = pending(&waiting(WaitReason::Budget, None)).join("\n");
        assert!(spent.ends_with("waiting: budget: more: `ai-factory budget ID`"), "{spent}");
    }

    #[test]
    fn each_phase_of_an_open_session_has_a_command_that_goes_on_with_it() {
        let command = |phase| remedy(SessionId(Uuid::nil()), phase).unwrap();
        for (reason, part) in [
            (WaitReason::Question, "ai-factory answer 00000000"),
            (WaitReason::Budget, "--add-tokens N"),
            (WaitReason::Decision, "ai-factory resolve 00000000"),
        ] {
            let told = command(SessionPhase::Waiting(reason));
            assert!(told.contains(part), "{told}");
        }
    }
}
