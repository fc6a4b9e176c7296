//! What the tests need: temporary factories, servers, processes.
