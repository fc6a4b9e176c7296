//! Parts that samples share.

use uuid::Uuid;

use crate::{
    id::{RunId, SessionId},
    text::BlobHash,
    workspace::{ChangeList, FileChange, WorkspaceFile},
};

pub(super) const RUN: RunId = RunId(Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0002));
pub(super) const SESSION: SessionId =
    SessionId(Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0003));

fn file(content: &[u8], executable: bool) -> WorkspaceFile {
    WorkspaceFile { blob: BlobHash::of(content), bytes: content.len() as u64, executable }
}

pub(super) fn changes() -> ChangeList {
    ChangeList::Inline(vec![
        FileChange { path: "gone.txt".to_owned(), file: None },
        FileChange { path: "src/made.sh".to_owned(), file: Some(file(b"true", true)) },
    ])
}
