//! Running code.
