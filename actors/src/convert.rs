//! What the ports' errors mean to whoever asked.

use ai_factory_schemas::problem::Problem;

use crate::ports::{
    journal::{AppendError, ReadError},
    views::ViewError,
};

/// An append that was not done.
pub fn not_appended(error: &AppendError) -> Problem {
    let sentence = error.to_string();
    match error {
        AppendError::Busy { retry_after } => Problem::busy(sentence, *retry_after),
        AppendError::CommandConflict { .. } | AppendError::WrongVersion { .. } => {
            Problem::conflict(sentence)
        }
        AppendError::Refused(_) => Problem::too_large(sentence),
        AppendError::Storage(_) => Problem::unavailable(sentence),
    }
}

/// A record that could not be read.
pub fn not_read(error: &ReadError) -> Problem {
    Problem::unavailable(error.to_string())
}

/// A view that could not answer.
pub fn not_viewed(error: &ViewError) -> Problem {
    Problem::unavailable(error.to_string())
}
