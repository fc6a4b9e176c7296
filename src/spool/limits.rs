//! The limits of a spool.

use std::time::Duration;

/// The contents of a spool together, in bytes.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The room that a content takes at least, in bytes: a block of the disk, so that there is a limit
/// on the number of files, too.
pub const SPOOL_CONTENT_BYTES_MIN: u64 = 4 * 1024;
/// How long a content is kept after it was last asked for.
pub const SPOOL_AGE_MAX: Duration = Duration::from_hours(1);
