//! The journal in redb.
