//! Whether the attempt of a call under way has left for the provider: known to the task that waits
//! with it, asked by the actor that gives it up.

use std::sync::{Arc, OnceLock};

use ai_factory_schemas::id::CallId;

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
