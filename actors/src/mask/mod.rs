//! Secrets in texts: what looks like one, or is known as one, is replaced before a text enters a
//! conversation, so that what is sent, stored and hashed are the same bytes.
//!
//! *Promises.* What is hidden depends on the text alone, not on how it arrives: the parts that
//! [`StreamMask`] lets through are together what [`Mask::apply`] makes of the whole. Of `name =
//! value` only the value is hidden, and only if it is a long literal with letters and digits, so
//! that code that reads a secret from elsewhere stays as it is.
//!
//! What a model wrote is recorded and carried out as it is, but for the values that are known as
//! secret ([`Mask::apply_known`]).
//!
//! *Limits.* A secret in an encoding of its own (base64, escapes) is not recognised.

mod patterns;
mod stream;
mod whole;

pub use stream::StreamMask;
pub use whole::{MASKED, Mask};
