//! Fail points for tests: numbered points of the append path, and the disk beneath.
//!
//! *Not here.* No environment variable and no build feature: a test passes its fail points to
//! [`super::RedbJournal::open_with`]. In production every point is an empty call.

use std::sync::Arc;

pub use super::disk::{Disk, SystemDisk};

/// A point of the append path, in the order in which an append passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailPoint {
    /// The append arrived.
    Received,
    /// Its events are encoded, on the caller's side.
    Encoded,
    /// The writer took it from the queue and accepted it.
    Validated,
    /// Its records are in the transaction.
    Inserted,
    /// The commit begins.
    BeforeCommit,
    /// Everything is written, nothing synced.
    BeforeSync,
    /// Everything is synced; other processes do not see it yet.
    AfterSync,
    /// The commit is done.
    AfterCommit,
    /// The new head is not published yet.
    BeforePublish,
    /// The caller has no reply yet.
    BeforeAnswer,
    /// The segment is full.
    BeforeSeal,
    /// The segment is marked as sealed.
    SealMarked,
    /// The sealed segment's file is closed cleanly.
    SealClosed,
    /// The sealed segment has its final name.
    SealRenamed,
    /// The next active segment is complete under its temporary name.
    NextReady,
    /// The next active segment has its final name.
    NextRenamed,
}

impl FailPoint {
    /// Every point, in order.
    pub const ALL: [Self; 16] = [
        Self::Received,
        Self::Encoded,
        Self::Validated,
        Self::Inserted,
        Self::BeforeCommit,
        Self::BeforeSync,
        Self::AfterSync,
        Self::AfterCommit,
        Self::BeforePublish,
        Self::BeforeAnswer,
        Self::BeforeSeal,
        Self::SealMarked,
        Self::SealClosed,
        Self::SealRenamed,
        Self::NextReady,
        Self::NextRenamed,
    ];
}

/// Called at every point. A test may end the process or panic there.
pub trait FailPoints: Send + Sync + 'static {
    /// `point` is reached.
    fn at(&self, point: FailPoint);
}

/// Does nothing at any point.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFailPoints;

impl FailPoints for NoFailPoints {
    fn at(&self, _: FailPoint) {}
}

/// The parts that a test can replace.
#[derive(Clone)]
pub struct FaultInjection {
    /// The files.
    pub disk: Arc<dyn Disk>,
    /// The numbered points.
    pub fail_points: Arc<dyn FailPoints>,
    /// Whether ordinary commits take one sync instead of redb's two.
    pub one_sync: bool,
}

impl Default for FaultInjection {
    fn default() -> Self {
        Self { disk: Arc::new(SystemDisk), fail_points: Arc::new(NoFailPoints), one_sync: true }
    }
}
