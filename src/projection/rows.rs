//! Keyed rows of the row projections, in layers.
//!
//! A row is looked up in the rows changed since the last flush began (`active`), in those being
//! flushed (`frozen`), and in the file (the base). The layers above the base are small and
//! disposable: they are the fold of the journal's tail.

use std::{cmp::Ordering, collections::BTreeMap, ops::ControlFlow, sync::Arc};

use ai_factory_ports::views::ViewError;
use redb::{ReadTransaction, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};

/// Why a row was not read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// A failure of the file.
    #[error("{0}")]
    Storage(String),
    /// A row that exists and cannot be decoded.
    #[error("a row of table `{table}` cannot be read: {reason}")]
    Undecodable {
        /// The table.
        table: &'static str,
        /// What is wrong with the row.
        reason: String,
    },
}

impl From<RowError> for ViewError {
    fn from(error: RowError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// Converts an error of the file, whichever of the database's error types it is.
pub(crate) fn storage(error: impl std::fmt::Display) -> RowError {
    RowError::Storage(error.to_string())
}

macro_rules! tables {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// The tables of the row projections. Keys are big-endian, so that their order is that of
        /// the positions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum RowTable { $($(#[$doc])* $variant),* }

        impl RowTable {
            /// Every table.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in the file.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

tables! {
    /// Position of the plan -> log row.
    Logs = "logs";
    /// Position of the request -> facts of the run.
    Runs = "runs";
    /// Position of the request -> the program.
    RunCodes = "run_codes";
    /// Position of the request -> end of the run; no row while it is open.
    RunEnds = "run_ends";
    /// Position of the request -> outputs of the run.
    RunOutputs = "run_outputs";
    /// Run id -> position of the request.
    RunIds = "run_ids";
    /// Position of the request -> open run.
    OpenRuns = "open_runs";
    /// Session id and position of the request -> run id.
    SessionRuns = "session_runs";
    /// Position of the opening -> facts of the session.
    Sessions = "sessions";
    /// Position of the opening -> state of the session; no row as long as it has only been running.
    SessionStates = "session_states";
    /// Session id -> position of the opening.
    SessionIds = "session_ids";
    /// Request id, a zero byte and position of the opening -> nothing. Several sessions may have
    /// the same request id.
    SessionRequests = "session_requests";
    /// Position of the opening -> session id.
    OpenSessions = "open_sessions";
    /// Call id -> attempt of a model call that has not ended.
    OpenCalls = "open_calls";
    /// Date in UTC -> what model calls took.
    CallDays = "call_days";
}

impl RowTable {
    /// The table as the database knows it.
    pub(crate) fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// Key of an entry at a position.
pub(crate) fn position_key(position: u64) -> Vec<u8> {
    position.to_be_bytes().to_vec()
}

/// The position in a key or value made by [`position_key`].
pub(crate) fn position_of(table: RowTable, bytes: &[u8]) -> Result<u64, RowError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| RowError::Undecodable {
        table: table.name(),
        reason: format!("a position has 8 bytes, not {}", bytes.len()),
    })
}

/// Decodes the value of a row.
pub(crate) fn decode<T: DeserializeOwned>(table: RowTable, bytes: &[u8]) -> Result<T, RowError> {
    serde_json::from_slice(bytes)
        .map_err(|error| RowError::Undecodable { table: table.name(), reason: error.to_string() })
}

/// Access to the rows for a projection that applies an event.
pub(crate) trait Rows {
    /// The value under a key.
    fn get(&self, table: RowTable, key: &[u8]) -> Result<Option<Vec<u8>>, RowError>;

    /// Sets a value; `None` removes the row.
    fn set(&mut self, table: RowTable, key: Vec<u8>, value: Option<Vec<u8>>);

    /// Sets a value, serialized.
    fn put<T: Serialize>(
        &mut self,
        table: RowTable,
        key: Vec<u8>,
        value: &T,
    ) -> Result<(), RowError> {
        let value = serde_json::to_vec(value).map_err(storage)?;
        self.set(table, key, Some(value));
        Ok(())
    }
}

/// Rows changed since a flush, by table. A removed row is a key without a value.
#[derive(Debug)]
pub(crate) struct Memtable {
    tables: Vec<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    bytes: usize,
}

impl Default for Memtable {
    fn default() -> Self {
        Self { tables: RowTable::ALL.iter().map(|_| BTreeMap::new()).collect(), bytes: 0 }
    }
}

impl Memtable {
    /// Approximate memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows of one table, in order.
    pub(crate) fn table(&self, table: RowTable) -> &BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        &self.tables[table as usize]
    }

    /// Sets or removes a row.
    pub(crate) fn set(&mut self, table: RowTable, key: Vec<u8>, value: Option<Vec<u8>>) {
        /// Memory of a tree entry beside its key and value.
        const ENTRY_BYTES: usize = 64;
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len) + ENTRY_BYTES;
        self.tables[table as usize].insert(key, value);
    }
}

/// Direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanOrder {
    /// Ascending keys.
    OldestFirst,
    /// Descending keys.
    NewestFirst,
}

/// All layers at one moment.
pub(crate) struct LayeredRows<'a> {
    /// Rows changed since the last flush began.
    pub(crate) active: &'a Memtable,
    /// Rows being flushed.
    pub(crate) frozen: Option<&'a Arc<Memtable>>,
    /// The file at one commit; `None` for a process without a file to read.
    pub(crate) base: Option<&'a ReadTransaction>,
}

/// A key and its value; `None` if the row was removed.
type RowEntry = (Vec<u8>, Option<Vec<u8>>);
type RowEntries<'a> = Box<dyn Iterator<Item = Result<RowEntry, RowError>> + 'a>;

impl LayeredRows<'_> {
    /// The value under a key.
    pub(crate) fn get(&self, table: RowTable, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        for layer in [Some(self.active), self.frozen.map(AsRef::as_ref)].into_iter().flatten() {
            if let Some(value) = layer.table(table).get(key) {
                return Ok(value.clone());
            }
        }
        let Some(base) = self.base else { return Ok(None) };
        let rows = base.open_table(table.definition()).map_err(storage)?;
        let value = rows.get(key).map_err(storage)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// The value under a key, decoded.
    pub(crate) fn value<T: DeserializeOwned>(
        &self,
        table: RowTable,
        key: &[u8],
    ) -> Result<Option<T>, RowError> {
        self.get(table, key)?.map(|bytes| decode(table, &bytes)).transpose()
    }

    /// Calls `visit` for every row with `from <= key < to`, in order, until it stops the scan.
    pub(crate) fn scan(
        &self,
        table: RowTable,
        (from, to): (&[u8], &[u8]),
        order: ScanOrder,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, RowError>,
    ) -> Result<(), RowError> {
        if from >= to {
            return Ok(());
        }
        let mut layers: Vec<std::iter::Peekable<RowEntries<'_>>> = Vec::with_capacity(3);
        for layer in [Some(self.active), self.frozen.map(AsRef::as_ref)].into_iter().flatten() {
            let rows = layer.table(table).range(from.to_vec()..to.to_vec());
            let rows = rows.map(|(key, value)| Ok((key.clone(), value.clone())));
            layers.push(in_order(rows, order).peekable());
        }
        if let Some(base) = self.base {
            let rows = base.open_table(table.definition()).map_err(storage)?;
            let rows = rows.range(from..to).map_err(storage)?.map(|row| {
                let (key, value) = row.map_err(storage)?;
                Ok((key.value().to_vec(), Some(value.value().to_vec())))
            });
            layers.push(in_order(rows, order).peekable());
        }
        while let Some((key, value)) = next(&mut layers, order)? {
            if let Some(value) = value
                && visit(&key, &value)?.is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn in_order<'a>(
    rows: impl DoubleEndedIterator<Item = Result<RowEntry, RowError>> + 'a,
    order: ScanOrder,
) -> RowEntries<'a> {
    match order {
        ScanOrder::OldestFirst => Box::new(rows),
        ScanOrder::NewestFirst => Box::new(rows.rev()),
    }
}

/// The next row of all layers. If several have the key, the first layer's row counts: it is the
/// newest.
fn next(
    layers: &mut [std::iter::Peekable<RowEntries<'_>>],
    order: ScanOrder,
) -> Result<Option<RowEntry>, RowError> {
    let mut first: Option<Vec<u8>> = None;
    for layer in layers.iter_mut() {
        match layer.peek() {
            Some(Ok((key, _))) => {
                let is_earlier = first.as_ref().is_none_or(|first| match order {
                    ScanOrder::OldestFirst => key.cmp(first) == Ordering::Less,
                    ScanOrder::NewestFirst => key.cmp(first) == Ordering::Greater,
                });
                if is_earlier {
                    first = Some(key.clone());
                }
            }
            Some(Err(error)) => return Err(error.clone()),
            None => {}
        }
    }
    let Some(key) = first else { return Ok(None) };
    let mut newest = None;
    for layer in layers.iter_mut() {
        if let Some(Ok((_, value))) =
            layer.next_if(|row| matches!(row, Ok((other, _)) if *other == key))
        {
            newest.get_or_insert(value);
        }
    }
    Ok(newest.map(|value| (key, value)))
}
