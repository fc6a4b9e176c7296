//! Uploads: contents of files that clients send before the goal that names them.
//!
//! An implementation promises:
//! - a content is complete only if its bytes have the hash under which it was sent;
//! - an upload that breaks off is taken up where it ended, and has the room to be finished;
//! - a wrong upload never blocks the right one: a part at offset 0 that contradicts it begins anew;
//! - what is stored has limits in bytes and in age, and outlives a restart of the process within
//!   them.

use ai_factory_schemas::{answer::Uploaded, text::BlobHash};

/// Why a part was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The part does not fit the content: what is wrong, and what would be right.
    #[error("{0}")]
    Refused(String),
    /// There is no room for more.
    #[error(
        "uploads take {bytes} bytes of at most {bytes_max}: submit the goals that need them, or wait until they expire"
    )]
    Full {
        /// The bytes in use.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The disk failed.
    #[error("the upload cannot be stored: {0}")]
    Storage(String),
}

/// Contents of files for goals to come. The module's documentation has the promises of an
/// implementation.
#[async_trait::async_trait]
pub trait Uploads: Send + Sync + 'static {
    /// Which of these contents are complete here, in the order asked. Each is kept for its full age
    /// again.
    async fn has(&self, hashes: Vec<BlobHash>) -> Result<Vec<bool>, UploadError>;

    /// Stores a part of the content with this hash and this size, from `offset` on. A part that was
    /// received before changes nothing; one with another size, or other bytes, begins the content
    /// again if it is at offset 0, and is refused otherwise. Only what is new to an incomplete
    /// content keeps it for its full age again.
    async fn put(
        &self,
        hash: BlobHash,
        bytes: u64,
        offset: u64,
        part: Vec<u8>,
    ) -> Result<Uploaded, UploadError>;

    /// A complete content; `None` if there is none.
    async fn content(&self, hash: BlobHash) -> Result<Option<Vec<u8>>, UploadError>;

    /// Drops these contents, complete or not, and gives their room free: they are elsewhere now.
    /// One that is not here is no error.
    async fn release(&self, hashes: Vec<BlobHash>) -> Result<(), UploadError>;
}
