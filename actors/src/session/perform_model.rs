//! Effects of a session's turns, and their outcomes.

use std::time::Duration;

use ai_factory_ports::bus::Headers;
use ai_factory_schemas::{model::SessionModel, problem::Problem, text::Blob};

use super::{
    departure::Departure,
    message::PerformedEffect,
    state::Session,
    vocabulary::{NextIds, SessionEffect, SessionOutcome},
};
use crate::{
    agent::{
        perform::{
            call::{self, TurnAsked, TurnEnd},
            compact, prepare,
            tool::{self, ToolUsed},
        },
        results::{ToolDone, ToolPlace},
    },
    deps::Deps,
};

/// What effects of turns need: the session as it is when they begin, its terms, and what tells
/// whether an attempt of a call has left.
pub(super) struct ModelEffect {
    departure: Departure,
    session: Box<Session>,
    terms: Box<SessionModel>,
}

/// What an effect of a turn came to.
struct OfTurn {
    outcome: SessionOutcome,
    blobs: Vec<Blob>,
    waited: Duration,
}

impl OfTurn {
    fn new(outcome: SessionOutcome, blobs: Vec<Blob>) -> Self {
        Self { outcome, blobs, waited: Duration::ZERO }
    }
}

impl ModelEffect {
    /// `None` for a session without a model.
    pub(super) fn of(session: &Session, departure: Departure) -> Option<Self> {
        let terms = Box::new(session.model()?.clone());
        Some(Self { departure, session: Box::new(session.clone()), terms })
    }

    pub(super) async fn perform(
        &self,
        deps: &Deps,
        headers: Headers,
        effect: SessionEffect,
        next: NextIds,
    ) -> PerformedEffect {
        match self.of_turn(deps, headers, &effect, next).await {
            Ok(OfTurn { outcome, blobs, waited }) => {
                PerformedEffect { blobs, waited, ..PerformedEffect::new(effect, Ok(outcome)) }
            }
            Err(problem) => PerformedEffect::new(effect, Err(problem)),
        }
    }

    async fn of_turn(
        &self,
        deps: &Deps,
        headers: Headers,
        effect: &SessionEffect,
        next: NextIds,
    ) -> Result<OfTurn, Problem> {
        let (session, terms) = (&*self.session, &*self.terms);
        match effect {
            SessionEffect::Prepare { turn, words } => {
                let (messages, blobs) = prepare::words(deps, session, terms, words).await?;
                Ok(OfTurn::new(SessionOutcome::Prepared { turn: *turn, messages, next }, blobs))
            }
            SessionEffect::Compact { turn, at } => {
                let (replaced, blobs) = compact::shorten(deps, session, at).await?;
                Ok(OfTurn::new(SessionOutcome::Shortened { turn: *turn, replaced, next }, blobs))
            }
            SessionEffect::Call { call_id, attempt, delay_ms, .. } => {
                let delay = (Duration::from_millis(*delay_ms), &self.departure);
                let of = (*call_id, *attempt, delay);
                let asked = call::ask(deps, headers, next.session, session, terms, of).await?;
                let TurnAsked { end, waited } = asked;
                let outcome = match end {
                    TurnEnd::Answered { finished, plan } => {
                        SessionOutcome::Answered { finished, plan, next }
                    }
                    TurnEnd::Failed(failed) => SessionOutcome::NotAnswered { failed, next },
                };
                Ok(OfTurn { outcome, blobs: Vec::new(), waited })
            }
            SessionEffect::Tool { turn, index, run } => {
                let place = ToolPlace { turn: *turn, index: *index };
                let of = (place, run.map(|(run_id, _)| run_id));
                match tool::carry_out(deps, headers, next.session, session, terms, of).await? {
                    ToolUsed::Done(done) => {
                        let ToolDone { finished, blobs } = *done;
                        let finished = Box::new(finished);
                        Ok(OfTurn::new(SessionOutcome::ToolEnded { finished, next }, blobs))
                    }
                    ToolUsed::Asks(asked) => {
                        Ok(OfTurn::new(SessionOutcome::Asks { asked }, Vec::new()))
                    }
                }
            }
            SessionEffect::Propose
            | SessionEffect::Recall
            | SessionEffect::Run { .. }
            | SessionEffect::Check { .. } => Err(Problem::internal("it is no effect of a turn")),
        }
    }
}
