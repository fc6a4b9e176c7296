//! `budget`: what a session with a model may spend.

use ai_factory_schemas::{
    answer::BudgetAnswer, id::SessionRef, request::ChangeBudget, subject::operation,
};
use clap::Args;

use crate::cli::{
    budget_words,
    context::CommandContext,
    exit::{CommandError, Exit},
    follow,
    model_arguments::money,
    output::Output,
    remote::FactoryTarget,
    session_lookup, story,
    text::one_line,
};

/// Show or change what a session with a model may spend.
#[derive(Args, Debug)]
#[command(after_help = "\
Without a change it shows what is spent, set aside and allowed. A session that waits for a larger
budget goes on; without --server and --nats it is followed to its end. Over NATS a budget can only
be lowered.")]
pub(crate) struct BudgetArgs {
    /// The session: its id, its request's id, its key, or, without --server and --nats, the
    /// beginning of either id
    #[arg(value_name = "ID")]
    session: String,
    /// Tokens to add to the limit
    #[arg(long, value_name = "N", conflicts_with = "tokens_max")]
    add_tokens: Option<u64>,
    /// Cost to add to the limit
    #[arg(long, value_name = "AMOUNT", value_parser = money, conflicts_with = "cost_max")]
    add_cost: Option<u64>,
    /// A lower limit of tokens
    #[arg(long, value_name = "N")]
    tokens_max: Option<u64>,
    /// A lower limit of cost
    #[arg(long, value_name = "AMOUNT", value_parser = money)]
    cost_max: Option<u64>,
    #[command(flatten)]
    place: FactoryTarget,
}

impl BudgetArgs {
    /// Prints the budget; with `--json`, the answer of `supervisor.budget`.
    pub(crate) fn run(
        self,
        context: &CommandContext,
        output: &mut Output,
    ) -> Result<Exit, CommandError> {
        if self.place.is_named() {
            let remote = self.place.open(context)?;
            let name = session_lookup::reference(&self.session)?;
            let body = self.body(name.clone());
            let told = remote.change(operation::SUPERVISOR_BUDGET, &name, &body)?;
            return shown(output, &told);
        }
        let (id, told) = context.peek(output, async |reader, _, _| {
            let row = session_lookup::only(reader, &self.session).await?;
            let id = row.session_id;
            Ok((id, story::load(reader, row).await?.told))
        })?;
        let Some(model) = &told.model else {
            return Err(CommandError::usage(format_args!(
                "session {id} has no model: it spends nothing"
            )));
        };
        let body = self.body(id.into());
        if !self.changes() {
            let (status, budget) = (told.row.status, model.budget);
            let waits_for = told.waits_for.clone();
            return shown(output, &BudgetAnswer { session_id: id, status, budget, waits_for });
        }
        if told.row.end.is_some() {
            return Err(CommandError::usage(format_args!(
                "session {id} is over already ({}): its budget no longer matters",
                told.row.status
            )));
        }
        super::refuse_if_held(
            context,
            &format!("the budget of session {id} cannot be changed from here"),
        )?;
        let asked = operation::SUPERVISOR_BUDGET;
        follow::request_and_follow(context, output, asked, &body, id)
    }

    fn changes(&self) -> bool {
        [self.add_tokens, self.add_cost, self.tokens_max, self.cost_max].iter().any(Option::is_some)
    }

    fn body(&self, id: SessionRef) -> ChangeBudget {
        ChangeBudget {
            id,
            add_tokens: self.add_tokens,
            add_cost_micros: self.add_cost,
            tokens_max: self.tokens_max,
            cost_micros_max: self.cost_max,
        }
    }
}

fn shown(output: &mut Output, told: &BudgetAnswer) -> Result<Exit, CommandError> {
    if output.json {
        output.json(told)?;
    } else {
        let (id, status) = (told.session_id, told.status);
        output
            .line(&format!("session {id} is {status}: {}", budget_words::budget(&told.budget)))?;
        if let Some(waits_for) = &told.waits_for {
            output.line(&format!("it waits for {}", one_line(waits_for)))?;
        }
    }
    Ok(Exit::DONE)
}
