//! The budget of a session: what is spent and set aside, and whether a call fits.
//!
//! *Promises.* At every position spent and reserved are at most the limit, except for a charge
//! above its reservation: it is an overrun, and no call follows it.

use ai_factory_schemas::{
    answer::BudgetUse,
    model::{Budget, Charge, Reservation, SessionModel, TokenUsage},
};

use super::size::{RequestParts, SettledCall};

/// What a session has spent, and may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spend {
    /// What may be spent.
    budget: Budget,
    /// Tokens charged.
    tokens: u64,
    /// Cost charged, in millionths of the prices' currency.
    cost_micros: u64,
    /// Whether costs are known.
    is_priced: bool,
    /// What the attempt under way has set aside.
    reserved: Option<Reservation>,
    /// Tokens as reported.
    usage: TokenUsage,
    /// Input that had been sent in an earlier call, in tokens.
    resent_tokens: u64,
    /// Attempts of calls.
    attempts: u32,
    /// Whether a charge was above its reservation.
    has_overrun: bool,
}

/// What a call needs beyond the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// Tokens.
    pub tokens: u64,
    /// Cost in millionths of the prices' currency.
    pub cost_micros: u64,
}

impl Spend {
    /// Nothing spent of the budget that the terms name.
    pub fn new(terms: &SessionModel) -> Self {
        Self {
            budget: terms.budget,
            tokens: 0,
            cost_micros: 0,
            is_priced: terms.prices.is_some(),
            reserved: None,
            usage: TokenUsage::default(),
            resent_tokens: 0,
            attempts: 0,
            has_overrun: false,
        }
    }

    /// What may be spent.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// What the attempt under way has set aside.
    pub fn reserved(&self) -> Option<Reservation> {
        self.reserved
    }

    /// Tokens as reported.
    pub fn usage(&self) -> TokenUsage {
        self.usage
    }

    /// Input that had been sent in an earlier call, in tokens; part of the usage.
    pub fn resent_tokens(&self) -> u64 {
        self.resent_tokens
    }

    /// Attempts of calls, failed ones too.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether a charge was above its reservation: no call follows.
    pub fn has_overrun(&self) -> bool {
        self.has_overrun
    }

    /// Sets aside for an attempt.
    pub(super) fn reserve(&mut self, reserved: Reservation) {
        self.reserved = Some(reserved);
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Charges the attempt under way.
    pub(super) fn charge(&mut self, charged: &Charge) {
        let reserved = self.reserved.take().unwrap_or_default();
        let cost = charged.cost_micros.unwrap_or(0);
        self.tokens = self.tokens.saturating_add(charged.tokens);
        self.cost_micros = self.cost_micros.saturating_add(cost);
        self.has_overrun |= charged.overrun
            || charged.tokens > reserved.tokens()
            || reserved.cost_micros.is_some_and(|most| cost > most);
    }

    /// Adds a usage that the provider reported; `resent` tokens of it had been sent before.
    pub(super) fn report(&mut self, usage: TokenUsage, resent: u64) {
        self.usage = self.usage.plus(usage);
        self.resent_tokens = self.resent_tokens.saturating_add(resent);
    }

    /// The last attempt was refused before it was made.
    pub(super) fn uncount_attempt(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
    }

    /// Sets another budget.
    pub(super) fn change(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// Whether a reservation fits beside what is spent and set aside.
    ///
    /// # Errors
    /// What is missing.
    pub fn fits(&self, wanted: &Reservation) -> Result<(), Shortfall> {
        let short = Self::missing(&self.budget, self.tokens_taken(), self.cost_taken(), wanted);
        if short == Shortfall::default() { Ok(()) } else { Err(short) }
    }

    /// Whether another budget holds what is spent and set aside.
    pub fn is_held_by(&self, budget: &Budget) -> bool {
        let nothing = Reservation::default();
        Self::missing(budget, self.tokens_taken(), self.cost_taken(), &nothing)
            == Shortfall::default()
    }

    fn missing(budget: &Budget, tokens: u64, cost: u64, wanted: &Reservation) -> Shortfall {
        let all_cost = cost.saturating_add(wanted.cost_micros.unwrap_or(0));
        Shortfall {
            tokens: tokens.saturating_add(wanted.tokens()).saturating_sub(budget.tokens_max),
            cost_micros: budget.cost_micros_max.map_or(0, |most| all_cost.saturating_sub(most)),
        }
    }

    /// Tokens spent and set aside.
    fn tokens_taken(&self) -> u64 {
        self.tokens.saturating_add(self.reserved.map_or(0, |reserved| reserved.tokens()))
    }

    /// Cost spent and set aside.
    fn cost_taken(&self) -> u64 {
        let reserved = self.reserved.and_then(|reserved| reserved.cost_micros).unwrap_or(0);
        self.cost_micros.saturating_add(reserved)
    }

    /// What may be spent, and what is.
    pub fn shown(&self) -> BudgetUse {
        let reserved = self.reserved.unwrap_or_default();
        BudgetUse {
            tokens_spent: self.tokens,
            tokens_reserved: reserved.tokens(),
            tokens_max: self.budget.tokens_max,
            cost_micros_spent: self.is_priced.then_some(self.cost_micros),
            cost_micros_reserved: self.is_priced.then_some(reserved.cost_micros.unwrap_or(0)),
            cost_micros_max: self.budget.cost_micros_max,
        }
    }
}

/// What one attempt of a call can take.
pub fn reservation(parts: &RequestParts<'_>, settled: Option<&SettledCall>) -> Reservation {
    let input_tokens = parts.tokens_max(settled);
    let output_tokens = parts.terms.parameters.output_tokens_max;
    Reservation {
        input_tokens,
        output_tokens,
        cost_micros: parts
            .terms
            .prices
            .map(|prices| prices.cost_micros_max(input_tokens, output_tokens)),
    }
}
