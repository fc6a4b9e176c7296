//! Where adapters and actors meet.
