//! Problems for the errors of the ports.

use ai_factory_schemas::problem::Problem;

use crate::ports::{
    journal::{AppendError, ReadError},
    views::ViewError,
};

/// The problem for a failed append.
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

/// The problem for a record that could not be read.
pub fn not_read(error: &ReadError) -> Problem {
    Problem::unavailable(error.to_string())
}

/// The problem for a view that could not answer.
pub fn not_viewed(error: &ViewError) -> Problem {
    Problem::unavailable(error.to_string())
}
