//! Messages between the factory and a guardian: an order down, a report up, each a framed JSON
//! header followed by raw bytes.
//!
//! A frame is the header's length (four bytes, little-endian), the header, then the number of raw
//! bytes that the header announces. Both ends are the same executable, so there is no version.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The largest header, in bytes: the names of returned files and of those left out, each with its
/// reason, JSON-escaped.
pub(super) const HEADER_BYTES_MAX: u32 = 256 * 1024;

/// The task of a guardian; the program text follows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GuardianOrder {
    /// The private directory to create and remove.
    pub(super) directory: PathBuf,
    /// An absolute path.
    pub(super) interpreter: PathBuf,
    /// The interpreter's arguments; the path of the program's file follows.
    pub(super) arguments: Vec<String>,
    /// Wall limit from the program's start, in milliseconds.
    pub(super) wall_ms_max: u64,
    /// Kept bytes of each output stream.
    pub(super) output_bytes_max: usize,
    /// The length of the program text.
    pub(super) source_bytes: usize,
    /// The value of `TRACEPARENT` in the program's environment.
    pub(super) traceparent: Option<String>,
}

/// The outcome of an order. After [`GuardianReport::Ended`] follow the kept bytes of stdout, then
/// of stderr.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum GuardianReport {
    Ended(GuardianExit),
    /// The interpreter cannot be started.
    MissingInterpreter(String),
    Failed(String),
}

/// How a program ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GuardianExit {
    pub(super) how: EndCause,
    pub(super) duration_us: u64,
    pub(super) stdout: CapturedStream,
    pub(super) stderr: CapturedStream,
}

/// The cause of a program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum EndCause {
    Exit(i32),
    Signal(i32),
    Wall,
    Cpu,
    Memory,
    Output,
}

/// The kept parts of one stream: its beginning, then its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
pub(super) struct CapturedStream {
    pub(super) head_bytes: usize,
    pub(super) tail_bytes: usize,
    pub(super) total_bytes: u64,
}

impl CapturedStream {
    /// The number of kept bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.head_bytes.saturating_add(self.tail_bytes)
    }
}

/// A header as a frame, ready to send.
pub(super) fn frame(header: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(header)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= HEADER_BYTES_MAX);
    let length = length.ok_or_else(|| invalid(format!("a header of {} bytes", json.len())))?;
    Ok([&length.to_le_bytes()[..], &json].concat())
}

/// The length of the following header, in bytes.
pub(super) fn header_length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(bytes);
    if length > HEADER_BYTES_MAX {
        return Err(invalid(format!("a header of {length} bytes")));
    }
    Ok(length as usize)
}

/// Parses a header.
pub(super) fn header<T: DeserializeOwned>(json: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(json)?)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads exactly one header.
pub(super) fn read_header<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut json = vec![0; header_length(length)?];
    from.read_exact(&mut json)?;
    header(&json)
}

/// Sends one header and the raw bytes that follow it.
pub(super) fn write_frame(
    to: &mut impl Write,
    header: &impl Serialize,
    raw: &[&[u8]],
) -> io::Result<()> {
    to.write_all(&frame(header)?)?;
    raw.iter().try_for_each(|bytes| to.write_all(bytes))?;
    to.flush()
}

/// The guardian's side: reads its order and the program text.
pub(super) fn read_order(from: &mut impl Read) -> io::Result<(GuardianOrder, Vec<u8>)> {
    let order: GuardianOrder = read_header(from)?;
    let mut source = vec![0; order.source_bytes];
    from.read_exact(&mut source)?;
    Ok((order, source))
}
