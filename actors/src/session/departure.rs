//! Whether the attempt of a call under way has left for the provider: known to the task that waits
//! with it, asked by the actor that gives it up.

use std::sync::{Arc, OnceLock};

use ai_factory_schemas::id::CallId;

use super::{active::SessionActorState, vocabulary::SessionEffect};
use crate::agent::turn::TurnState;

/// The departure of an attempt: it leaves or is held back, whichever comes first, for good.
#[derive(Clone, Debug, Default)]
pub struct Departure(Arc<OnceLock<bool>>);

impl Departure {
    /// Lets the attempt leave; `false` if it was held back.
    pub fn leave(&self) -> bool {
        *self.0.get_or_init(|| true)
    }

    /// Holds the attempt back; `false` if it has left.
    pub fn hold(&self) -> bool {
        !*self.0.get_or_init(|| false)
    }
}

/// An attempt of a call.
pub(super) type AttemptOfCall = (CallId, u32);

impl SessionActorState {
    /// The departure of an effect that is about to be performed.
    pub(super) fn departure(&mut self, effect: &SessionEffect) -> Departure {
        let departure = Departure::default();
        if let SessionEffect::Call { call_id, attempt, .. } = effect {
            self.departing = Some(((*call_id, *attempt), departure.clone()));
        }
        departure
    }

    /// The attempt whose answer is awaited.
    pub(super) fn asked(&self) -> Option<AttemptOfCall> {
        let turn = self.session.conversation()?.turn()?;
        (turn.state == TurnState::Asked).then_some((turn.call_id, turn.attempt))
    }

    /// Holds back the attempt whose answer is awaited; the result says whether it may have reached
    /// the provider. The session is over afterwards. An attempt that another actor began may have.
    pub(super) fn hold_attempt(&self) -> bool {
        let asked = self.asked();
        if asked.is_none() || asked == self.found_asked {
            return true;
        }
        let departing = self.departing.as_ref().filter(|(attempt, _)| Some(*attempt) == asked);
        departing.is_some_and(|(_, departure)| !departure.hold())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_leaves_or_is_held_back_and_not_both() {
        let (gone, held) = (Departure::default(), Departure::default());
        assert!(gone.leave() && !gone.hold() && gone.leave());
        let task = held.clone();
        assert!(held.hold() && !task.leave() && held.hold());
    }
}
