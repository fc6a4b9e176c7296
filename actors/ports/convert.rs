//! Problems for the errors of the ports.

use crate::{
    journal::{AppendError, ReadError},
    views::ViewError,
};
use ai_factory_schemas::problem::Problem;

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let sentence = error.to_string();
        match &error {
            AppendError::Busy { retry_after } => Self::busy(sentence, *retry_after),
            AppendError::CommandConflict { .. } | AppendError::WrongVersion { .. } => {
                Self::conflict(sentence)
            }
            AppendError::Refused(_) => Self::too_large(sentence),
            AppendError::Storage(_) => Self::unavailable(sentence),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        Self::unavailable(error.to_string())
    }
}
