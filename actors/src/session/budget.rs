//! Changes of what a session may spend.

use ai_factory_ports::journal::{AppendError, Command, Journal};
use ai_factory_schemas::{
    answer::BudgetAnswer, id::SessionId, model::Budget, problem::Problem, request::ChangeBudget,
};

use super::{lookup, state::Session, vocabulary::SessionRejection};

/// Whether nothing is to be changed.
pub fn is_question(asked: &ChangeBudget) -> bool {
    let ChangeBudget { add_tokens, add_cost_micros, tokens_max, cost_micros_max, .. } = asked;
    [add_tokens, add_cost_micros, tokens_max, cost_micros_max].iter().all(|change| change.is_none())
}

/// Whether a change of this session was made under its key already.
///
/// # Errors
/// If the key belongs to another request, or the journal cannot be read.
pub async fn is_repeated(
    journal: &dyn Journal,
    id: SessionId,
    command: Option<&Command>,
) -> Result<bool, Problem> {
    let Some(command) = command else { return Ok(false) };
    match lookup::of_key(journal, &command.id).await? {
        None => Ok(false),
        Some((first, of)) if first == *command && of == Some(id) => Ok(true),
        Some(_) => Err(AppendError::CommandConflict { id: command.id.clone() }.into()),
    }
}

/// What a session may spend and did.
///
/// # Errors
/// If it has no model.
pub fn answer(id: SessionId, session: &Session) -> Result<BudgetAnswer, Problem> {
    let Some(used) = session.model_use() else {
        return Err(Problem::conflict(SessionRejection::NoModel.to_string()));
    };
    Ok(BudgetAnswer {
        session_id: id,
        status: session.phase(),
        budget: used.budget,
        waits_for: session.waits_for(id),
    })
}

/// The budget after a change. Only who may do so raises it.
///
/// # Errors
/// What is wrong with the change.
pub fn changed(
    now: Budget,
    asked: &ChangeBudget,
    has_prices: bool,
    may_raise: bool,
) -> Result<Budget, Problem> {
    let raises = asked.add_tokens.is_some() || asked.add_cost_micros.is_some();
    if raises && !may_raise {
        return Err(Problem::forbidden(
            "a budget is raised on the command line, or over HTTP on this machine or with the token: here it can only \
             be lowered",
        ));
    }
    let lowers_cost = asked.cost_micros_max.is_some();
    if (lowers_cost || asked.add_cost_micros.is_some()) && !has_prices {
        return Err(Problem::invalid(
            &["body", if lowers_cost { "cost_micros_max" } else { "add_cost_micros" }],
            "value_error",
            "the session has no prices, so its cost is not known: limit its tokens",
        ));
    }
    let tokens = Limit { max: Some(now.tokens_max), add: "add_tokens", lower: "tokens_max" };
    let cost = Limit { max: now.cost_micros_max, add: "add_cost_micros", lower: "cost_micros_max" };
    let tokens_max = tokens.changed(asked.add_tokens, asked.tokens_max)?.unwrap_or(now.tokens_max);
    let cost_micros_max = cost.changed(asked.add_cost_micros, asked.cost_micros_max)?;
    Ok(Budget { tokens_max, cost_micros_max })
}

/// One of the limits, and the fields that change it.
struct Limit {
    max: Option<u64>,
    add: &'static str,
    lower: &'static str,
}

impl Limit {
    fn changed(&self, add: Option<u64>, lower: Option<u64>) -> Result<Option<u64>, Problem> {
        let wrong = |field, sentence: String| {
            Err(Problem::invalid(&["body", field], "value_error", sentence))
        };
        match (add, lower, self.max) {
            (None, None, max) => Ok(max),
            (Some(_), Some(_), _) => {
                wrong(self.add, format!("either add to the limit or lower it (`{}`)", self.lower))
            }
            (Some(_), None, None) => {
                wrong(self.add, "there is no such limit that could be raised".to_owned())
            }
            (Some(more), None, Some(max)) => Ok(Some(max.saturating_add(more))),
            (None, Some(less), Some(max)) if less > max => {
                wrong(self.lower, format!("it is {max}: to raise it, use `{}`", self.add))
            }
            (None, Some(less), _) => Ok(Some(less)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl Fn(&mut ChangeBudget)) -> ChangeBudget {
        let mut asked = ChangeBudget {
            id: "s".parse().unwrap(),
            add_tokens: None,
            add_cost_micros: None,
            tokens_max: None,
            cost_micros_max: None,
        };
        change(&mut asked);
        asked
    }

    #[test]
    fn a_budget_is_raised_by_who_may_and_lowered_by_all() {
        let now = Budget { tokens_max: 100, cost_micros_max: Some(10) };
        let more = asked(|it| it.add_tokens = Some(5));
        assert_eq!(changed(now, &more, true, false).unwrap_err().status, 403);
        assert_eq!(changed(now, &more, true, true).unwrap().tokens_max, 105);
        let less = asked(|it| it.tokens_max = Some(60));
        let lowered = Budget { tokens_max: 60, cost_micros_max: Some(10) };
        assert_eq!(changed(now, &less, true, false).unwrap(), lowered);
        let above = asked(|it| it.tokens_max = Some(101));
        let told = changed(now, &above, true, true).unwrap_err();
        assert!(told.status == 422 && told.sentence().contains("add_tokens"), "{told}");
        let endless = asked(|it| it.add_tokens = Some(u64::MAX));
        assert_eq!(changed(now, &endless, true, true).unwrap().tokens_max, u64::MAX);
    }

    #[test]
    fn a_cost_is_limited_only_where_prices_are_known() {
        let now = Budget { tokens_max: 100, cost_micros_max: None };
        let cost = asked(|it| it.cost_micros_max = Some(7));
        assert_eq!(changed(now, &cost, false, true).unwrap_err().status, 422);
        assert_eq!(changed(now, &cost, true, false).unwrap().cost_micros_max, Some(7));
        let more = asked(|it| it.add_cost_micros = Some(7));
        assert_eq!(changed(now, &more, true, true).unwrap_err().status, 422);
        let both = asked(|it| (it.add_tokens, it.tokens_max) = (Some(1), Some(1)));
        assert_eq!(changed(now, &both, true, true).unwrap_err().status, 422);
        assert!(is_question(&asked(|_| {})) && !is_question(&both));
    }
}
