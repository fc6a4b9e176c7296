//! The value of one insert: the records of a commit, or as many as fit, with what indexing them
//! needs.
//!
//! One insert for many records keeps a shared commit cheap. Beside the records, byte for byte as on
//! the bus, a chunk has each record's stream and version, and the commands that the records answer.
//!
//! Format, all numbers big-endian: the counts of records and of commands (4 bytes each); per record
//! its end offset in the data (4), its stream's key (17) and its version (8); per command the
//! length of its id (2), the id, and its [`AppliedCommand`]; then the data.

use ai_factory_ports::journal::{Appended, Command};
use ai_factory_schemas::{
    id::{Category, CommandId, StreamId},
    text::BlobHash,
};

/// Bytes after which a chunk is cut: with redb's overhead, eight pages. A larger record gets its
/// own.
pub(super) const CHUNK_BYTES_MAX: usize = 32 * 1024 - 64;
/// Fingerprint, stream, first and last position, version.
pub(super) const EFFECT_BYTES: usize = 32 + StreamId::KEY_BYTES + 3 * 8;

const COUNTS_BYTES: usize = 8;
const STREAM_VERSION_BYTES: usize = 4 + StreamId::KEY_BYTES + 8;

/// The stream with this key; `None` if the first byte is no category.
pub(super) fn stream_of(key: &[u8]) -> Option<StreamId> {
    let (category, id) = key.split_first()?;
    let category = *Category::ALL.get(usize::from(*category))?;
    Some(StreamId { category, id: uuid::Uuid::from_slice(id).ok()? })
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn small(bytes: &[u8], at: usize) -> Option<usize> {
    let number = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
    usize::try_from(number).ok()
}

/// A command that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AppliedCommand {
    pub(super) fingerprint: BlobHash,
    pub(super) stream: StreamId,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) version: u64,
}

impl AppliedCommand {
    /// The effect of a command whose append was accepted there.
    pub(super) fn of(command: &Command, appended: &Appended) -> Self {
        Self {
            fingerprint: command.fingerprint,
            stream: appended.stream,
            first: appended.first,
            last: appended.last,
            version: appended.version,
        }
    }

    pub(super) fn to_bytes(self) -> [u8; EFFECT_BYTES] {
        let mut bytes = [0; EFFECT_BYTES];
        bytes[..32].copy_from_slice(&self.fingerprint.0);
        bytes[32..49].copy_from_slice(&self.stream.to_key());
        bytes[49..57].copy_from_slice(&self.first.to_be_bytes());
        bytes[57..65].copy_from_slice(&self.last.to_be_bytes());
        bytes[65..].copy_from_slice(&self.version.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; EFFECT_BYTES]) -> Option<Self> {
        Some(Self {
            fingerprint: BlobHash(bytes[..32].try_into().ok()?),
            stream: stream_of(&bytes[32..49])?,
            first: number(bytes, 49)?,
            last: number(bytes, 57)?,
            version: number(bytes, 65)?,
        })
    }

    pub(super) fn appended(self) -> Appended {
        Appended {
            stream: self.stream,
            first: self.first,
            last: self.last,
            version: self.version,
            repeated: false,
        }
    }

    pub(super) fn command(self, id: &CommandId) -> (Command, Appended) {
        (Command { id: id.clone(), fingerprint: self.fingerprint }, self.appended())
    }
}

/// A chunk under construction. Its buffers are reused for the next one.
#[derive(Default)]
pub(super) struct ChunkBuilder {
    records: u32,
    commands: u32,
    places: Vec<u8>,
    effects: Vec<u8>,
    data: Vec<u8>,
}

impl ChunkBuilder {
    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether the chunk should be written before a record of `bytes` is added.
    pub(super) fn is_full_for(&self, bytes: usize) -> bool {
        !self.is_empty() && self.len() + STREAM_VERSION_BYTES + bytes > CHUNK_BYTES_MAX
    }

    pub(super) fn len(&self) -> usize {
        COUNTS_BYTES + self.places.len() + self.effects.len() + self.data.len()
    }

    pub(super) fn record(&mut self, stream: StreamId, version: u64, json: &str) {
        self.records += 1;
        self.data.extend_from_slice(json.as_bytes());
        // Far below 4 GiB: a chunk is cut at 32 KiB and a record is at most 1 MiB.
        let end = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        self.places.extend_from_slice(&end.to_be_bytes());
        self.places.extend_from_slice(&stream.to_key());
        self.places.extend_from_slice(&version.to_be_bytes());
    }

    /// Adds the command that the preceding records answer.
    pub(super) fn effect(&mut self, id: &CommandId, effect: AppliedCommand) {
        self.commands += 1;
        // A command id has at most 256 bytes.
        let length = u16::try_from(id.as_str().len()).unwrap_or(u16::MAX);
        self.effects.extend_from_slice(&length.to_be_bytes());
        self.effects.extend_from_slice(id.as_str().as_bytes());
        self.effects.extend_from_slice(&effect.to_bytes());
    }

    /// Writes the chunk into `bytes`, which must be [`Self::len`] long, and begins a new one.
    pub(super) fn finish(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        for part in [
            &self.records.to_be_bytes()[..],
            &self.commands.to_be_bytes()[..],
            &self.places,
            &self.effects,
            &self.data,
        ] {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        self.records = 0;
        self.commands = 0;
        self.places.clear();
        self.effects.clear();
        self.data.clear();
    }
}

/// A stored chunk.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) first: u64,
    records: usize,
    commands: usize,
    bytes: &'a [u8],
    data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// The chunk that begins at position `first`; `None` if the bytes are not a chunk.
    pub(super) fn parse(first: u64, bytes: &'a [u8]) -> Option<Self> {
        let (records, commands) = (small(bytes, 0)?, small(bytes, 4)?);
        let effects = COUNTS_BYTES.checked_add(records.checked_mul(STREAM_VERSION_BYTES)?)?;
        let mut chunk = Self { first, records, commands, bytes, data: bytes.get(effects..)? };
        let mut length = 0;
        for effect in chunk.effects() {
            length += 2 + effect?.0.len() + EFFECT_BYTES;
        }
        chunk.data = bytes.get(effects + length..)?;
        let end = if records == 0 { 0 } else { chunk.end(records - 1)? };
        (end == chunk.data.len()).then_some(chunk)
    }

    /// The last position.
    pub(super) fn last(&self) -> u64 {
        (self.first + self.records as u64).saturating_sub(1)
    }

    fn end(&self, at: usize) -> Option<usize> {
        small(self.bytes, COUNTS_BYTES + at * STREAM_VERSION_BYTES)
    }

    /// The record at `position`.
    pub(super) fn record(&self, position: u64) -> Option<&'a [u8]> {
        let at = usize::try_from(position.checked_sub(self.first)?).ok()?;
        if at >= self.records {
            return None;
        }
        let begin = if at == 0 { 0 } else { self.end(at - 1)? };
        self.data.get(begin..self.end(at)?)
    }

    /// The stream and version of each record, in order.
    pub(super) fn stream_versions(
        &self,
    ) -> impl Iterator<Item = Option<(StreamId, u64)>> + use<'a> {
        let places = self.bytes.get(COUNTS_BYTES..).unwrap_or_default();
        places.chunks_exact(STREAM_VERSION_BYTES).take(self.records).map(|place| {
            let (stream, version) = place.get(4..)?.split_at_checked(StreamId::KEY_BYTES)?;
            Some((stream_of(stream)?, number(version, 0)?))
        })
    }

    /// The commands that took effect with these records.
    pub(super) fn effects(
        &self,
    ) -> impl Iterator<Item = Option<(&'a str, AppliedCommand)>> + use<'a> {
        let from = COUNTS_BYTES + self.records * STREAM_VERSION_BYTES;
        let mut rest = self.bytes.get(from..).unwrap_or_default();
        (0..self.commands).map(move |_| {
            let (length, after) = rest.split_at_checked(2)?;
            let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
            let (id, after) = after.split_at_checked(length)?;
            let (effect, after) = after.split_at_checked(EFFECT_BYTES)?;
            rest = after;
            let effect = AppliedCommand::from_bytes(effect.try_into().ok()?)?;
            Some((std::str::from_utf8(id).ok()?, effect))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_reads_back_and_a_cut_one_is_none() {
        let stream = |n| StreamId { category: Category::Run, id: uuid::Uuid::from_u128(n) };
        let effect = AppliedCommand {
            fingerprint: BlobHash([7; 32]),
            stream: stream(1),
            first: 5,
            last: 6,
            version: 2,
        };
        let id: CommandId = "a key".parse().unwrap();
        let mut builder = ChunkBuilder::default();
        for round in 0..2 {
            builder.record(stream(1), 1, "one");
            builder.record(stream(1), 2, "");
            builder.record(stream(2), 9, "three");
            builder.effect(&id, effect);
            let mut bytes = vec![0; builder.len()];
            builder.finish(&mut bytes);

            let chunk = Chunk::parse(5, &bytes).unwrap();
            assert_eq!(chunk.last(), 7, "round {round}");
            let records: Vec<_> = (4..9).map(|position| chunk.record(position)).collect();
            assert_eq!(records, [None, Some(&b"one"[..]), Some(b""), Some(b"three"), None]);
            let places: Vec<_> = chunk.stream_versions().flatten().collect();
            assert_eq!(places, [(stream(1), 1), (stream(1), 2), (stream(2), 9)]);
            assert_eq!(chunk.effects().collect::<Vec<_>>(), [Some(("a key", effect))]);
            for cut in 0..bytes.len() {
                assert!(Chunk::parse(5, &bytes[..cut]).is_none(), "cut at {cut}");
            }
        }
    }
}
