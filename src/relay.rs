//! From the journal to the bus, after commit.
