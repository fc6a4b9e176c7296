//! Work that blocks, outside the threads of the runtime.

use ai_factory_ports::views::ViewError;

/// Runs `work` on a thread of its own, to its end even if the caller is dropped.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<T, ViewError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ViewError::Storage(error.to_string()))?
}
