//! Checks a whole journal, record by record, and names the first bad position.
//!
//! *Promises.* Every record is hashed, decoded and compared with the tables beside it; every blob is hashed;
//! every stream's versions are counted, over all segments. It may run beside a writer.
//!
//! *Limits.* Whoever rewrites the whole rest of the journal, hashes and all, is only found out by a head that
//! was kept elsewhere: pass it as `expected`. Memory: one record and a small page cache for each segment.
//!
//! *Not here.* Mending. A fault is a reason to restore a backup.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use ai_factory_actors::ports::journal::Head;
use ai_factory_schemas::{
    envelope::{ChainHash, Recorded, unseal},
    id::StreamId,
    text::BlobHash,
};
use redb::{ReadableTable, ReadableTableMetadata};
use serde_json::Value;

use super::{
    error::{Fault as Broken, OpenError},
    layout,
    reader::JournalReader,
    segment::{Effect, Meta, ReadOnly, Tables, split_key, version_key},
};

/// A journal without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Records.
    pub events: u64,
    /// The last one.
    pub head: Head,
    /// Files, the active one included.
    pub segments: u64,
    /// Blobs, counted once for each segment that holds them.
    pub blobs: u64,
}

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The record is not what was written.
    Altered,
    /// There is no record where one was.
    Missing,
    /// There is a record that the chain does not know.
    Inserted,
    /// The record cannot be read.
    Undecodable,
    /// The tables beside the records say something else.
    Index,
    /// A blob is missing or not what was written.
    Blob,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Inserted => "inserted",
            Self::Undecodable => "undecodable",
            Self::Index => "at odds with its index",
            Self::Blob => "without its blob",
        })
    }
}

/// The first fault of a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {position} is {kind}: {explanation}")]
pub struct Fault {
    /// Where it is.
    pub position: u64,
    /// What is wrong.
    pub kind: FaultKind,
    /// What was found, in words.
    pub explanation: String,
}

/// Why a journal is not verified.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be looked at.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is not as it was written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Checks the journal in `dir`. `expected` is a head that was seen earlier: it must still be in the chain.
pub fn verify(dir: impl AsRef<Path>, expected: Option<Head>) -> Result<Verified, VerifyError> {
    let mut walk = Walk { expected, ..Walk::default() };
    // redb may panic where a page is damaged; what it was reading then is the fault.
    match catch_unwind(AssertUnwindSafe(|| walk.journal(dir.as_ref()))) {
        Ok(done) => done?,
        Err(_) => return Err(walk.broken("the pages of the file are damaged").into()),
    }
    if let Some(expected) = expected.filter(|expected| expected.position > walk.head.position) {
        let explanation = format!("the journal once ended at position {}", expected.position);
        return Err(walk.next(FaultKind::Missing, explanation).into());
    }
    Ok(walk.verified())
}

/// How far the check has come.
#[derive(Default)]
struct Walk {
    expected: Option<Head>,
    head: Head,
    segments: u64,
    blobs: u64,
}

/// A segment to check.
struct Part {
    meta: Meta,
    tables: Tables,
    _file: Option<ReadOnly>,
}

impl Walk {
    fn verified(&self) -> Verified {
        Verified {
            events: self.head.position,
            head: self.head,
            segments: self.segments,
            blobs: self.blobs,
        }
    }

    fn next(&self, kind: FaultKind, explanation: impl Into<String>) -> Fault {
        Fault { position: self.head.position + 1, kind, explanation: explanation.into() }
    }

    /// The storage failed at the next position.
    fn broken(&self, reason: impl fmt::Display) -> Fault {
        self.next(FaultKind::Undecodable, format!("it cannot be read: {reason}"))
    }

    fn journal(&mut self, dir: &Path) -> Result<(), VerifyError> {
        let reader = match JournalReader::open(dir) {
            Ok(reader) => Some(reader),
            // The storage itself refuses the active segment: look at it as it lies there.
            Err(OpenError::Storage { .. } | OpenError::Damaged { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        loop {
            self.sealed(dir)?;
            let Some(reader) = &reader else {
                let file = ReadOnly::open_unclean(&layout::active(dir));
                let opened = file.and_then(|file| Ok((file.snapshot()?, file)));
                let ((meta, tables), file) = opened.map_err(|error| self.broken(error))?;
                return self.top(dir, Part { meta, tables, _file: Some(file) });
            };
            let (meta, tables) = reader.top()?;
            // Where a segment was sealed meanwhile, it is checked as a sealed one first.
            let known = layout::list_sealed(dir).map_err(|error| OpenError::io(dir, &error))?;
            if known.len() as u64 == self.segments {
                return self.top(dir, Part { meta, tables, _file: None });
            }
        }
    }

    /// Checks the sealed segments that were not checked yet.
    fn sealed(&mut self, dir: &Path) -> Result<(), VerifyError> {
        let firsts = layout::list_sealed(dir).map_err(|error| OpenError::io(dir, &error))?;
        for first in firsts {
            if first <= self.head.position {
                continue;
            }
            let part = self.open(dir, first)?;
            self.part(dir, &part)?;
            let sealed = part.meta.sealed;
            if sealed != Some(self.head) {
                let end = sealed.map_or(0, |head| head.position);
                let explanation = format!("the segment says that it ends at position {end}");
                return Err(self.next(FaultKind::Missing, explanation).into());
            }
        }
        Ok(())
    }

    fn open(&self, dir: &Path, first: u64) -> Result<Part, VerifyError> {
        let path = layout::sealed(dir, first);
        let opened = ReadOnly::open_unclean(&path).and_then(|file| Ok((file.snapshot()?, file)));
        match opened {
            Ok(((meta, tables), file)) => Ok(Part { meta, tables, _file: Some(file) }),
            Err(error @ (OpenError::Permission(_) | OpenError::NewerFormat { .. })) => {
                Err(error.into())
            }
            Err(error) if first == self.head.position + 1 => Err(self.broken(error).into()),
            Err(_) => Err(self.next(FaultKind::Missing, "its segment is gone").into()),
        }
    }

    /// Checks the active segment, and then what goes over all segments.
    fn top(&mut self, dir: &Path, top: Part) -> Result<(), VerifyError> {
        self.part(dir, &top)?;
        let mut parts = Vec::new();
        for first in layout::list_sealed(dir).map_err(|error| OpenError::io(dir, &error))? {
            if first < top.meta.first {
                parts.push(self.open(dir, first)?);
            }
        }
        parts.push(top);
        let odd = versions(&parts).map_err(|error| self.broken(error))?;
        odd.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Checks one segment.
    fn part(&mut self, dir: &Path, part: &Part) -> Result<(), VerifyError> {
        let Part { meta, tables, .. } = part;
        if meta.first != self.head.position + 1 {
            let explanation = format!("the next segment begins at position {}", meta.first);
            return Err(self.next(FaultKind::Missing, explanation).into());
        }
        if meta.previous != self.head.hash {
            let explanation = "its segment continues another chain";
            return Err(self.next(FaultKind::Altered, explanation).into());
        }
        self.segments += 1;
        let mut records =
            tables.records.iter().map_err(|error| self.broken(Broken::from(error)))?;
        for entry in records.by_ref() {
            let (key, bytes) = entry.map_err(|error| self.broken(Broken::from(error)))?;
            self.record(dir, tables, key.value(), bytes.value())?;
        }
        drop(records);
        let odd = self.tables(meta, tables).map_err(|error| self.broken(error))?;
        odd.map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn record(
        &mut self,
        dir: &Path,
        tables: &Tables,
        key: u64,
        bytes: &[u8],
    ) -> Result<(), VerifyError> {
        let (position, hash) = (self.head.position + 1, self.head.hash);
        if key != position {
            let kind = if key > position { FaultKind::Missing } else { FaultKind::Inserted };
            return Err(self.next(kind, format!("position {key} stands in its place")).into());
        }
        let event = self.chained(hash, bytes)?;
        let entry = tables.streams.get(&version_key(event.stream, event.version));
        let entry = entry.map_err(|error| self.broken(Broken::from(error)))?;
        let entry = entry.map(|position| position.value());
        if entry != Some(position) {
            let (stream, version) = (event.stream, event.version);
            let found = entry.map_or("nowhere".to_owned(), |at| format!("at position {at}"));
            let explanation = format!("the index has version {version} of {stream} {found}");
            return Err(self.next(FaultKind::Index, explanation).into());
        }
        for blob in blobs_of(bytes) {
            let found = find_blob(dir, tables, key, blob).map_err(|error| self.broken(error))?;
            if !found {
                let explanation = format!("it refers to {blob}, which is not there");
                return Err(self.next(FaultKind::Blob, explanation).into());
            }
        }
        self.head = Head { position, hash: event.hash };
        if self.expected.is_some_and(|head| head.position == position && head != self.head) {
            let explanation = format!("its hash is {}, another one was expected", event.hash);
            return Err(Fault { position, kind: FaultKind::Altered, explanation }.into());
        }
        Ok(())
    }

    /// The record that must follow the record with `hash`.
    fn chained(&self, hash: ChainHash, bytes: &[u8]) -> Result<Recorded, Fault> {
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
                _ => format!("the record found there says that it is at position {says}"),
            };
            return Err(self.next(kind, explanation));
        }
        decoded.map_err(|error| self.next(FaultKind::Undecodable, error.to_string()))
    }

    /// Compares the tables of a segment with its records, the last of which is `head`.
    fn tables(&mut self, meta: &Meta, tables: &Tables) -> Result<Option<Fault>, Broken> {
        let last = self.head.position;
        // Each record has its entry; as many entries as records means that there is none too many.
        if tables.streams.len()? != tables.records.len()? {
            for entry in tables.streams.iter()? {
                let (key, position) = entry?;
                let (key, position) = (split_key(key.value()), position.value());
                let kind = if position > last { FaultKind::Missing } else { FaultKind::Index };
                if event_at(tables, position)?.map(|event| (event.stream, event.version)) != key {
                    let explanation = "the index has a version that is not there".to_owned();
                    return Ok(Some(Fault { position, kind, explanation }));
                }
            }
        }
        for entry in tables.commands.iter()? {
            let (id, bytes) = entry?;
            let id = id.value();
            let effect = Effect::from_bytes(bytes.value());
            let fits = |effect: &Effect| -> Result<bool, Broken> {
                let event = event_at(tables, effect.last)?;
                let place = event.map(|event| (event.stream, event.version));
                Ok((meta.first..=effect.last).contains(&effect.first)
                    && place == Some((effect.stream, effect.version)))
            };
            if !effect.as_ref().map(fits).transpose()?.unwrap_or(false) {
                return Ok(Some(Fault {
                    position: effect.map_or(meta.first, |effect| effect.last),
                    kind: FaultKind::Index,
                    explanation: format!("the command `{id}` is entered for what is not there"),
                }));
            }
        }
        for entry in tables.blobs.iter()? {
            let (hash, bytes) = entry?;
            let (hash, actual) = (BlobHash(*hash.value()), BlobHash::of(bytes.value()));
            if hash != actual {
                return Ok(Some(Fault {
                    position: meta.first,
                    kind: FaultKind::Blob,
                    explanation: format!("the blob {hash} of its segment is altered"),
                }));
            }
            self.blobs += 1;
        }
        Ok(None)
    }
}

fn event_at(tables: &Tables, position: u64) -> Result<Option<Recorded>, Broken> {
    let bytes = tables.records.get(position)?;
    Ok(bytes.and_then(|bytes| Recorded::decode(bytes.value()).ok()))
}

/// The blobs that a record refers to, wherever in its data it does.
fn blobs_of(bytes: &[u8]) -> Vec<BlobHash> {
    fn collect(value: &Value, found: &mut Vec<BlobHash>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(members) => {
                let blob = members.get("blob").and_then(Value::as_str);
                let whole = members.contains_key("head") && members.contains_key("bytes");
                found.extend(blob.filter(|_| whole).and_then(|blob| blob.parse::<BlobHash>().ok()));
                members.values().for_each(|member| collect(member, found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    // Most records refer to none, and a search for the word costs less than reading JSON.
    if std::str::from_utf8(bytes).is_ok_and(|text| text.contains("\"blob\":"))
        && let Ok(record) = serde_json::from_slice::<Value>(bytes)
    {
        collect(&record["data"], &mut found);
    }
    found
}

/// Whether a blob is in this segment, where it nearly always is, or in an earlier one.
fn find_blob(dir: &Path, tables: &Tables, position: u64, blob: BlobHash) -> Result<bool, Broken> {
    if tables.blobs.get(&blob.0)?.is_some() {
        return Ok(true);
    }
    let mut firsts = layout::list_sealed(dir).map_err(|error| OpenError::io(dir, &error))?;
    firsts.retain(|first| *first <= position);
    for first in firsts.into_iter().rev() {
        let (_, tables) = ReadOnly::open_unclean(&layout::sealed(dir, first))?.snapshot()?;
        if tables.blobs.get(&blob.0)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Merges the version tables of all segments: each stream counts from 1 without a gap, its positions grow (I-6).
fn versions(parts: &[Part]) -> Result<Option<Fault>, Broken> {
    let mut tables = Vec::with_capacity(parts.len());
    let mut heads = BinaryHeap::with_capacity(parts.len());
    for part in parts {
        tables.push(part.tables.streams.iter()?);
    }
    let mut pull = |at: usize, heads: &mut BinaryHeap<_>| -> Result<(), Broken> {
        if let Some(entry) = tables[at].next() {
            let (key, position) = entry?;
            heads.push(Reverse((*key.value(), position.value(), at)));
        }
        Ok(())
    };
    for at in 0..parts.len() {
        pull(at, &mut heads)?;
    }
    let mut before: Option<(StreamId, u64, u64)> = None;
    while let Some(Reverse((key, position, at))) = heads.pop() {
        let Some((stream, version)) = split_key(&key) else {
            let explanation = "the index has an unreadable stream".to_owned();
            return Ok(Some(Fault { position, kind: FaultKind::Index, explanation }));
        };
        let (previous, earlier) = match before {
            Some((same, version, position)) if same == stream => (version, position),
            _ => (0, 0),
        };
        if version != previous + 1 || position <= earlier {
            let kind = if version > previous + 1 { FaultKind::Missing } else { FaultKind::Index };
            let explanation = format!("version {version} of {stream} follows version {previous}");
            return Ok(Some(Fault { position, kind, explanation }));
        }
        before = Some((stream, version, position));
        pull(at, &mut heads)?;
    }
    Ok(None)
}
