//! Complete texts, inline or from blobs.

use ai_factory_ports::journal::{Journal, ReadError};
use ai_factory_schemas::text::Text;

/// The complete text: from the record, or from its blob.
pub async fn load_text(journal: &dyn Journal, text: &Text) -> Result<String, ReadError> {
    match text {
        Text::Inline(text) => Ok(text.clone()),
        Text::Blob { head, blob, .. } => Ok(journal
            .blob(*blob)
            .await?
            .map_or_else(|| head.clone(), |bytes| String::from_utf8_lossy(&bytes).into_owned())),
    }
}
