//! The recorded effect: a consequence outside whose beginning is on disk before it begins, and
//! whose end is on disk before it is answered.
//!
//! An executor claims the effect's id ([`active`]), loads its stream ([`loaded`]), waits for a
//! place ([`slots`]), records the beginning, performs, and records the end. What a crash left
//! without an end is closed at the start if nobody waits for it ([`orphans`]).

pub(crate) mod active;
pub(crate) mod loaded;
pub(crate) mod orphans;
pub(crate) mod slots;
