//! Verification of a whole journal, record by record; reports the first bad position.
//!
//! *Promises.* Every record is hashed, decoded and compared with its chunk's entries; every blob is
//! hashed; what a list of a workspace's files names is there; every stream's versions are counted
//! across segments; the catalog is compared with the segments in both directions. It can run beside
//! a writer.
//!
//! *Limits.* A rewrite of the whole rest of the journal, hashes included, is detected only by a
//! head recorded elsewhere: pass it as `expected`. Memory: about 50 bytes per stream and per file
//! of a workspace, and the index of one segment.
//!
//! *Not here.* Repair. A fault is a reason to restore a backup.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use ai_factory_ports::journal::Head;
use ai_factory_schemas::{
    envelope::{ChainHash, Recorded, unseal},
    id::StreamId,
    text::BlobHash,
};
use redb::ReadableTable;

use super::{
    blob_refs::{BlobContent, BlobRef, blob_refs},
    catalog::{ForeignCatalog, StreamSlice},
    chunk::Chunk,
    error::{OpenJournalError, StorageError},
    index::Index,
    layout,
    reader::JournalReader,
    segment::ReadOnlySegment,
    tables::{SegmentMeta, SegmentTables},
};

/// The result for a journal without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedJournal {
    /// The number of records.
    pub events: u64,
    /// The last record.
    pub head: Head,
    /// The number of files, including the active one.
    pub segments: u64,
    /// Blobs, counted once for each segment that holds them.
    pub blobs: u64,
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The record differs from what was written.
    Altered,
    /// A record is missing.
    Missing,
    /// A record is not part of the chain.
    Inserted,
    /// The record is unreadable.
    Undecodable,
    /// The tables beside the records disagree with them.
    Index,
    /// A blob is missing or altered.
    Blob,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Inserted => "inserted",
            Self::Undecodable => "undecodable",
            Self::Index => "inconsistent with its index",
            Self::Blob => "incomplete",
        })
    }
}

/// The first fault of a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {position} {}{explanation}", introduction(*.kind))]
pub struct JournalFault {
    /// The position of the fault.
    pub position: u64,
    /// Its kind.
    pub kind: FaultKind,
    /// A description of what was found.
    pub explanation: String,
}

/// What stands between a position and the explanation.
fn introduction(kind: FaultKind) -> String {
    match kind {
        // The record itself is as it was.
        FaultKind::Blob => String::new(),
        kind => format!("is {kind}: "),
    }
}

/// Why a journal is not verified.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// The journal could not be opened.
    #[error(transparent)]
    Open(#[from] OpenJournalError),
    /// The journal has a fault.
    #[error(transparent)]
    Fault(#[from] JournalFault),
}

/// How often verification may start, if writers keep returning to a file left by a crash.
const WALKS_MAX: usize = 8;

/// Verifies the journal in `dir`. `expected` is a head recorded earlier: it must still be in the
/// chain.
pub fn verify(
    dir: impl AsRef<Path>,
    expected: Option<Head>,
) -> Result<VerifiedJournal, VerifyError> {
    let dir = dir.as_ref();
    let mut walks = 1;
    loop {
        let reader = match JournalReader::open(dir) {
            Ok(reader) => Some(reader),
            // redb refuses the active segment: read the file regardless of its state.
            Err(OpenJournalError::Storage { .. } | OpenJournalError::Damaged { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let verified = walk(dir, reader.as_ref(), expected);
        let is_current = reader.as_ref().is_none_or(JournalReader::is_current);
        if is_current || verified.is_ok() || walks == WALKS_MAX {
            return verified;
        }
        walks += 1;
    }
}

fn walk(
    dir: &Path,
    reader: Option<&JournalReader>,
    expected: Option<Head>,
) -> Result<VerifiedJournal, VerifyError> {
    let mut walk = VerifyCursor { expected, ..VerifyCursor::default() };
    // redb may panic on a damaged page; the position being read is the fault's.
    match catch_unwind(AssertUnwindSafe(|| walk.journal(dir, reader))) {
        Ok(done) => done?,
        Err(_) => return Err(walk.broken("the pages of the file are damaged").into()),
    }
    if let Some(expected) = expected.filter(|expected| expected.position > walk.head.position) {
        let explanation = format!("the journal once ended at position {}", expected.position);
        return Err(walk.next(FaultKind::Missing, explanation).into());
    }
    Ok(walk.verified())
}

fn fault(position: u64, kind: FaultKind, explanation: impl Into<String>) -> JournalFault {
    JournalFault { position, kind, explanation: explanation.into() }
}

/// The state of a verification.
#[derive(Default)]
struct VerifyCursor {
    expected: Option<Head>,
    head: Head,
    segments: u64,
    blobs: u64,
    /// Each stream's version up to here.
    streams: HashMap<StreamId, u64>,
    /// The files of workspaces, and lists of them, that were checked up to here. The same bytes may
    /// be both, and only a list refers to other blobs.
    contents: HashSet<(BlobHash, BlobContent)>,
}

/// A segment to check.
struct SegmentFile {
    meta: SegmentMeta,
    tables: SegmentTables,
    _file: Option<ReadOnlySegment>,
}

impl VerifyCursor {
    fn verified(&self) -> VerifiedJournal {
        VerifiedJournal {
            events: self.head.position,
            head: self.head,
            segments: self.segments,
            blobs: self.blobs,
        }
    }

    fn next(&self, kind: FaultKind, explanation: impl Into<String>) -> JournalFault {
        fault(self.head.position + 1, kind, explanation)
    }

    /// A storage failure at the next position.
    fn broken(&self, reason: impl fmt::Display) -> JournalFault {
        self.next(FaultKind::Undecodable, format!("it cannot be read: {reason}"))
    }

    fn journal(&mut self, dir: &Path, reader: Option<&JournalReader>) -> Result<(), VerifyError> {
        loop {
            self.sealed(dir)?;
            let Some(reader) = reader else {
                let file = ReadOnlySegment::open_unclean(&layout::active(dir));
                let opened = file.and_then(|file| Ok((file.snapshot()?, file)));
                let ((meta, tables), file) = opened.map_err(|error| self.broken(error))?;
                return self.part(dir, &SegmentFile { meta, tables, _file: Some(file) });
            };
            let (meta, tables) = reader.active_view()?;
            // A segment sealed meanwhile is verified as a sealed one first.
            let known =
                layout::list_sealed(dir).map_err(|error| OpenJournalError::io(dir, &error))?;
            if known.len() as u64 == self.segments {
                self.part(dir, &SegmentFile { meta, tables, _file: None })?;
                let odd = Self::catalog(dir).map_err(|error| self.broken(error))?;
                return odd.map_or(Ok(()), |fault| Err(fault.into()));
            }
        }
    }

    /// Verifies the sealed segments that are not verified yet.
    fn sealed(&mut self, dir: &Path) -> Result<(), VerifyError> {
        let firsts = layout::list_sealed(dir).map_err(|error| OpenJournalError::io(dir, &error))?;
        for first in firsts {
            if first <= self.head.position {
                continue;
            }
            let part = self.open(dir, first)?;
            self.part(dir, &part)?;
            let sealed = part.meta.sealed;
            if sealed != Some(self.head) {
                let end = sealed.map_or(0, |head| head.position);
                let explanation = format!("the segment's recorded end is position {end}");
                return Err(self.next(FaultKind::Missing, explanation).into());
            }
        }
        Ok(())
    }

    fn open(&self, dir: &Path, first: u64) -> Result<SegmentFile, VerifyError> {
        let path = layout::sealed(dir, first);
        let opened =
            ReadOnlySegment::open_unclean(&path).and_then(|file| Ok((file.snapshot()?, file)));
        match opened {
            Ok(((meta, tables), file)) => Ok(SegmentFile { meta, tables, _file: Some(file) }),
            Err(
                error @ (OpenJournalError::Permission(_) | OpenJournalError::NewerFormat { .. }),
            ) => Err(error.into()),
            Err(error) if first == self.head.position + 1 => Err(self.broken(error).into()),
            Err(_) => Err(self.next(FaultKind::Missing, "its segment is gone").into()),
        }
    }

    /// Verifies one segment.
    fn part(&mut self, dir: &Path, part: &SegmentFile) -> Result<(), VerifyError> {
        let SegmentFile { meta, tables, .. } = part;
        if meta.first != self.head.position + 1 {
            let explanation = format!("the next segment begins at position {}", meta.first);
            return Err(self.next(FaultKind::Missing, explanation).into());
        }
        if meta.previous != self.head.hash {
            let explanation = "its segment continues another chain";
            return Err(self.next(FaultKind::Altered, explanation).into());
        }
        self.segments += 1;
        let chunks =
            tables.records.iter().map_err(|error| self.broken(StorageError::from(error)))?;
        for entry in chunks {
            let (first, bytes) = entry.map_err(|error| self.broken(StorageError::from(error)))?;
            let (first, position) = (first.value(), self.head.position + 1);
            if first != position {
                let kind = if first > position { FaultKind::Missing } else { FaultKind::Inserted };
                let explanation = format!("position {first} is in its place");
                return Err(self.next(kind, explanation).into());
            }
            let Some(chunk) = Chunk::parse(first, bytes.value()) else {
                return Err(self.next(FaultKind::Undecodable, "its chunk is unreadable").into());
            };
            self.chunk(dir, meta, tables, &chunk)?;
        }
        let odd = self.blobs(meta, tables).map_err(|error| self.broken(error))?;
        odd.map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn chunk(
        &mut self,
        dir: &Path,
        meta: &SegmentMeta,
        tables: &SegmentTables,
        chunk: &Chunk<'_>,
    ) -> Result<(), VerifyError> {
        for (position, place) in (chunk.first..).zip(chunk.stream_versions()) {
            let bytes = chunk.record(position);
            let bytes = bytes.ok_or_else(|| self.broken("its chunk is unreadable"))?;
            let event = self.record(dir, tables, bytes)?;
            if place != Some((event.stream, event.version)) {
                let explanation = "its chunk lists it with another version or stream";
                return Err(fault(position, FaultKind::Index, explanation).into());
            }
        }
        for effect in chunk.effects() {
            let Some((id, effect)) = effect else {
                let explanation = "a command of its chunk is unreadable";
                return Err(fault(chunk.first, FaultKind::Index, explanation).into());
            };
            let after =
                effect.last.checked_sub(chunk.first).and_then(|at| usize::try_from(at).ok());
            let place = after.and_then(|at| chunk.stream_versions().nth(at)).flatten();
            let range = meta.first..=effect.last;
            if !range.contains(&effect.first) || place != Some((effect.stream, effect.version)) {
                let explanation = format!("the command `{id}` refers to records that do not exist");
                return Err(fault(chunk.first, FaultKind::Index, explanation).into());
            }
        }
        Ok(())
    }

    fn record(
        &mut self,
        dir: &Path,
        tables: &SegmentTables,
        bytes: &[u8],
    ) -> Result<Recorded, VerifyError> {
        let (position, hash) = (self.head.position + 1, self.head.hash);
        let event = self.check_chain(hash, bytes)?;
        let version = self.streams.get(&event.stream).copied().unwrap_or(0);
        if event.version != version + 1 {
            let (stream, found) = (event.stream, event.version);
            let explanation = format!("version {found} of {stream} follows version {version}");
            return Err(self.next(FaultKind::Index, explanation).into());
        }
        for blob in blob_refs(bytes) {
            self.needed(dir, tables, blob)?;
        }
        self.streams.insert(event.stream, event.version);
        self.head = Head { position, hash: event.hash };
        if self.expected.is_some_and(|head| head.position == position && head != self.head) {
            let explanation = format!("its hash is {}, not the expected one", event.hash);
            return Err(fault(position, FaultKind::Altered, explanation).into());
        }
        Ok(event)
    }

    /// Checks a blob that the next record needs, and what this blob refers to.
    fn needed(
        &mut self,
        dir: &Path,
        tables: &SegmentTables,
        blob: BlobRef,
    ) -> Result<(), JournalFault> {
        let mut open = vec![blob];
        while let Some(blob) = open.pop() {
            // Many sessions share files, and their lists.
            let is_text = blob.content == BlobContent::Text;
            if !is_text && !self.contents.insert((blob.hash, blob.content)) {
                continue;
            }
            let found = find_blob(dir, tables, self.head.position + 1, &blob);
            let fault = match found.map_err(|error| self.broken(error))? {
                FoundBlob::Whole(within) => {
                    open.extend(within);
                    continue;
                }
                FoundBlob::Missing => "missing",
                FoundBlob::Altered => "altered",
            };
            let explanation = format!("refers to {}, which is {fault}", blob.name());
            return Err(self.next(FaultKind::Blob, explanation));
        }
        Ok(())
    }

    /// Decodes the record that must follow the record with `hash`.
    fn check_chain(&self, hash: ChainHash, bytes: &[u8]) -> Result<Recorded, JournalFault> {
        let position = self.head.position + 1;
        let Some((content, written)) = unseal(bytes) else {
            return Err(self.next(FaultKind::Undecodable, "it does not end in its hash"));
        };
        let decoded = Recorded::decode(bytes);
        let says = decoded.as_ref().map_or(position, |event| event.position);
        if says != position || hash.next(content) != written {
            let kind = match says {
                says if says > position => FaultKind::Missing,
                says if says < position => FaultKind::Inserted,
                _ => FaultKind::Altered,
            };
            let explanation = match kind {
                FaultKind::Altered => "its content does not match its hash".to_owned(),
                _ => format!("the record found there has position {says}"),
            };
            return Err(self.next(kind, explanation));
        }
        decoded.map_err(|error| self.next(FaultKind::Undecodable, error.to_string()))
    }

    /// Hashes a segment's blobs.
    fn blobs(
        &mut self,
        meta: &SegmentMeta,
        tables: &SegmentTables,
    ) -> Result<Option<JournalFault>, StorageError> {
        for entry in tables.blobs.iter()? {
            let (hash, bytes) = entry?;
            let (hash, actual) = (BlobHash(*hash.value()), BlobHash::of(bytes.value()));
            if hash != actual {
                let explanation = format!("is in a segment whose blob {hash} is altered");
                return Ok(Some(fault(meta.first, FaultKind::Blob, explanation)));
            }
            self.blobs += 1;
        }
        Ok(None)
    }

    /// Compares the catalog, if there is one, with the sealed segments in it.
    fn catalog(dir: &Path) -> Result<Option<JournalFault>, StorageError> {
        let Some(view) = ForeignCatalog::open(dir).and_then(|foreign| foreign.view()) else {
            return Ok(None);
        };
        let odd = |position| {
            let explanation = "segments/catalog.redb disagrees with it: remove that file while no \
                               factory runs, it is rebuilt";
            Ok(Some(fault(position, FaultKind::Index, explanation)))
        };
        let mut counts = (0, 0, 0);
        for first in layout::list_sealed(dir).map_err(|error| OpenJournalError::io(dir, &error))? {
            if first > view.through.position {
                continue;
            }
            let (_, tables) =
                ReadOnlySegment::open_unclean(&layout::sealed(dir, first))?.snapshot()?;
            let index = Index::of(first, &tables)?;
            for stream in index.streams() {
                counts.0 += 1;
                if !view.parts(stream)?.contains(&StreamSlice::of(&index, stream)) {
                    return odd(first);
                }
            }
            for entry in tables.records.iter()? {
                let (first, bytes) = entry?;
                let chunk = Chunk::parse(first.value(), bytes.value());
                for (id, effect) in chunk.into_iter().flat_map(|chunk| chunk.effects()).flatten() {
                    counts.1 += 1;
                    if view.effect(id)? != Some(effect) {
                        return odd(effect.first);
                    }
                }
            }
            for entry in tables.blobs.iter()? {
                let hash = BlobHash(*entry?.0.value());
                // A blob in several segments is catalogued under the latest.
                let entered = view.blob(hash)?;
                counts.2 += u64::from(entered == Some(first));
                if entered.is_none_or(|entered| entered < first) {
                    return odd(first);
                }
            }
        }
        if counts == view.counts()? { Ok(None) } else { odd(1) }
    }
}

/// The state of a blob that a record needs. The text of a record is not hashed here: the pass over
/// the segment's blobs does that.
enum FoundBlob {
    Missing,
    Altered,
    /// It is as it was written, and refers to these.
    Whole(Vec<BlobRef>),
}

/// Looks for a blob in this segment, the usual case, and in the earlier ones.
fn find_blob(
    dir: &Path,
    tables: &SegmentTables,
    position: u64,
    blob: &BlobRef,
) -> Result<FoundBlob, StorageError> {
    let look = |tables: &SegmentTables| {
        let bytes = tables.blobs.get(&blob.hash.0)?;
        Ok::<_, StorageError>(bytes.map(|bytes| {
            let is_text = blob.content == BlobContent::Text;
            match blob.within(bytes.value()) {
                Ok(within) if is_text || BlobHash::of(bytes.value()) == blob.hash => {
                    FoundBlob::Whole(within)
                }
                _ => FoundBlob::Altered,
            }
        }))
    };
    if let Some(found) = look(tables)? {
        return Ok(found);
    }
    let mut firsts = layout::list_sealed(dir).map_err(|error| OpenJournalError::io(dir, &error))?;
    firsts.retain(|first| *first <= position);
    for first in firsts.into_iter().rev() {
        let (_, tables) = ReadOnlySegment::open_unclean(&layout::sealed(dir, first))?.snapshot()?;
        if let Some(found) = look(&tables)? {
            return Ok(found);
        }
    }
    Ok(FoundBlob::Missing)
}
