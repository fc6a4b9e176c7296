//! Opening the file of the row projections: for writing, for reading, and repaired in memory after
//! a crash.

use std::{path::Path, sync::Arc};

use ai_factory_fold::{CorruptFile, atomic_replace, catch_corruption};
use ai_factory_overlay::{FileOverlay, Snapshot};
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction,
    ReadableDatabase, TableDefinition,
};

use super::tables::{CHECKPOINTS, MARKS, mark_in};
use crate::{
    rows::{RowError, RowTable, storage},
    settings::ProjectionError,
};

/// The layout of the rows. A file with another number is dropped and rebuilt.
const FORMAT: u64 = 3;
const FORMAT_NAME: &str = "format";
const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

#[derive(Default)]
pub(super) enum RowFile {
    Writer(Arc<Database>),
    Reader(ReadOnlyDatabase),
    /// A reading process: a file that a crash left unclean, repaired in memory.
    Repaired(Database, Snapshot),
    /// A reading process without a readable file, or a writer that could not make one yet:
    /// everything is folded in memory.
    #[default]
    Missing,
}

impl RowFile {
    pub(super) fn begin_read(&self) -> Result<Option<ReadTransaction>, RowError> {
        match self {
            Self::Writer(database) => database.begin_read().map(Some).map_err(storage),
            Self::Reader(database) => database.begin_read().map(Some).map_err(storage),
            Self::Repaired(database, _) => database.begin_read().map(Some).map_err(storage),
            Self::Missing => Ok(None),
        }
    }

    /// Whether no writer has reopened the file since it was repaired in memory.
    pub(super) fn is_current(&self) -> bool {
        !matches!(self, Self::Repaired(_, snapshot) if !snapshot.is_current())
    }
}

fn builder(cache_bytes_max: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes_max);
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

pub(super) fn open_writer(
    path: &Path,
    cache_bytes_max: usize,
) -> Result<Database, ProjectionError> {
    match try_open_writer(path, cache_bytes_max) {
        Ok(database) => Ok(database),
        Err(RowFileError::InUse) => Err(ProjectionError::InUse { path: path.to_owned() }),
        Err(RowFileError::Damaged(reason)) => {
            tracing::warn!(path = %path.display(), reason, "projections dropped, to be rebuilt from the journal");
            atomic_replace::remove(path).map_err(|error| ProjectionError::storage(path, &error))?;
            try_open_writer(path, cache_bytes_max).map_err(|unusable| match unusable {
                RowFileError::InUse => ProjectionError::InUse { path: path.to_owned() },
                RowFileError::Damaged(reason) => ProjectionError::storage(path, &reason),
            })
        }
    }
}

pub(super) fn open_reader(path: &Path, cache_bytes_max: usize) -> RowFile {
    let opened: Result<_, RowFileError> = catch_corruption(|| {
        let builder = builder(cache_bytes_max);
        let file = match builder.open_read_only(path) {
            Ok(database) => RowFile::Reader(database),
            // The repair is not written: the next writer repairs the file.
            Err(DatabaseError::RepairAborted) => {
                let (overlay, snapshot) = FileOverlay::open(path).map_err(RowFileError::damaged)?;
                let database = builder.create_with_backend(overlay).map_err(RowFileError::from)?;
                RowFile::Repaired(database, snapshot)
            }
            Err(error) => return Err(error.into()),
        };
        let base = file.begin_read().map_err(RowFileError::damaged)?;
        if let Some(base) = &base {
            check_format(base)?;
            mark_in(base).map_err(RowFileError::damaged)?;
        }
        drop(base);
        Ok(file)
    });
    opened.unwrap_or_else(|unusable| {
        tracing::debug!(path = %path.display(), ?unusable, "no readable projections: folding the journal in memory");
        RowFile::Missing
    })
}

#[derive(Debug)]
pub(super) enum RowFileError {
    InUse,
    Damaged(String),
}

impl From<CorruptFile> for RowFileError {
    fn from(broken: CorruptFile) -> Self {
        Self::damaged(broken)
    }
}

impl From<DatabaseError> for RowFileError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            error => Self::damaged(error),
        }
    }
}

impl RowFileError {
    pub(super) fn damaged(error: impl std::fmt::Display) -> Self {
        Self::Damaged(error.to_string())
    }
}

fn try_open_writer(path: &Path, cache_bytes_max: usize) -> Result<Database, RowFileError> {
    let is_new = std::fs::metadata(path).map_or(true, |file| file.len() == 0);
    catch_corruption(|| {
        let database = builder(cache_bytes_max).create(path).map_err(RowFileError::from)?;
        if is_new {
            make_tables(&database).map_err(RowFileError::damaged)?;
        }
        let base = database.begin_read().map_err(RowFileError::damaged)?;
        check_format(&base)?;
        mark_in(&base).map_err(RowFileError::damaged)?;
        drop(base);
        Ok(database)
    })
}

fn make_tables(database: &Database) -> Result<(), RowError> {
    let mut transaction = database.begin_write().map_err(storage)?;
    transaction.set_quick_repair(true);
    for &table in RowTable::ALL {
        transaction.open_table(table.definition()).map_err(storage)?;
    }
    transaction.open_table(MARKS).map_err(storage)?;
    transaction.open_table(CHECKPOINTS).map_err(storage)?;
    transaction.open_table(META).map_err(storage)?.insert(FORMAT_NAME, FORMAT).map_err(storage)?;
    transaction.commit().map_err(storage)
}

fn check_format(base: &ReadTransaction) -> Result<(), RowFileError> {
    let meta = base.open_table(META).map_err(RowFileError::damaged)?;
    let format = meta.get(FORMAT_NAME).map_err(RowFileError::damaged)?.map(|format| format.value());
    if format == Some(FORMAT) {
        return Ok(());
    }
    Err(RowFileError::Damaged(format!("its format is {format:?}, not {FORMAT}")))
}
