//! The files of a session as `supervisor.files` tells them, in pages that fit a message.
//!
//! *Promises.* The pages of a session that is over hold every path once, in byte order. Each page
//! of an open one is true for its moment.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    id::SessionId,
    limit::FILES_PAGE_BYTES_MAX,
    request::SessionSelector,
    workspace::{FileChange, WorkspaceManifest},
};

/// The longest JSON of a change, or of a file under its path, in bytes: without the path itself.
const ENTRY_BYTES_MAX: usize = 144;

/// `supervisor.files`: a session, and which of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListSessionFiles {
    /// The session.
    #[serde(flatten)]
    pub which: SessionSelector,
    /// Only paths behind this one in byte order: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The most paths: 1 to [`crate::limit::FILES_PAGE_PATHS_MAX`], by default that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// `supervisor.files`: the workspace of a session, or a page of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionFiles {
    /// The session's id.
    pub session_id: SessionId,
    /// Its files now, by path.
    pub files: WorkspaceManifest,
    /// What differs from what came in, by path.
    pub changes: Vec<FileChange>,
    /// The changed and deleted files as they came in, by path; a change without one was added.
    #[serde(default)]
    pub before: WorkspaceManifest,
    /// Where the next page begins, if there is more: the value for `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl SessionFiles {
    /// The answer about a session with these files, in place of those that came in.
    pub fn new(session_id: SessionId, came_in: &WorkspaceManifest, now: WorkspaceManifest) -> Self {
        let changes = came_in.changes_to(&now);
        let was = |change: &FileChange| {
            let file = came_in.files.get(&change.path)?;
            Some((change.path.clone(), *file))
        };
        let before = WorkspaceManifest { files: changes.iter().filter_map(was).collect() };
        Self { session_id, changes, files: now, before, next: None }
    }

    /// The first `limit` paths behind `after`, as far as they take [`FILES_PAGE_BYTES_MAX`]; at
    /// least one.
    #[must_use]
    pub fn page(mut self, after: Option<&str>, limit: usize) -> Self {
        if let Some(after) = after {
            self.keep(|path| path > after);
        }
        let sizes = self.sizes();
        let mut bytes = 0;
        let fits = |size: &usize| {
            bytes += size;
            bytes <= FILES_PAGE_BYTES_MAX
        };
        let count = sizes.values().take(limit).copied().take_while(fits).count().max(1);
        let last = sizes.keys().nth(count - 1).filter(|_| count < sizes.len());
        if let Some(last) = last.map(|path| (*path).to_owned()) {
            self.keep(|path| path <= last.as_str());
            self.next = Some(last);
        }
        self
    }

    /// The paths in byte order, with the most bytes of JSON that each takes.
    fn sizes(&self) -> BTreeMap<&str, usize> {
        let files = self.files.files.keys().chain(self.before.files.keys());
        let changes = self.changes.iter().map(|change| &change.path);
        let mut sizes = BTreeMap::new();
        for path in files.chain(changes) {
            let escaped = path.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
            *sizes.entry(path.as_str()).or_default() += ENTRY_BYTES_MAX + path.len() + escaped;
        }
        sizes
    }

    /// Puts the next page behind this one.
    pub fn append(&mut self, page: Self) {
        self.files.files.extend(page.files.files);
        self.changes.extend(page.changes);
        self.before.files.extend(page.before.files);
        self.next = page.next;
    }

    fn keep(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.files.files.retain(|path, _| is_kept(path));
        self.changes.retain(|change| is_kept(&change.path));
        self.before.files.retain(|path, _| is_kept(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{text::BlobHash, workspace::WorkspaceFile};

    fn manifest(paths: &[String], content: &str) -> WorkspaceManifest {
        let (blob, bytes) = (BlobHash::of(content.as_bytes()), u64::MAX);
        let file = WorkspaceFile { blob, bytes, executable: true };
        WorkspaceManifest { files: paths.iter().map(|path| (path.clone(), file)).collect() }
    }

    fn whole(came_in: &[String], now: &[String]) -> SessionFiles {
        let id = SessionId(uuid::Uuid::nil());
        SessionFiles::new(id, &manifest(came_in, "before"), manifest(now, "now"))
    }

    fn pages(whole: &SessionFiles, limit: usize) -> Vec<SessionFiles> {
        let mut pages = vec![whole.clone().page(None, limit)];
        while let Some(after) = pages[pages.len() - 1].next.clone() {
            pages.push(whole.clone().page(Some(&after), limit));
        }
        pages
    }

    fn joined(pages: Vec<SessionFiles>) -> SessionFiles {
        let mut pages = pages.into_iter();
        let mut all = pages.next().unwrap();
        pages.for_each(|page| all.append(page));
        all
    }

    #[test]
    fn the_pages_together_are_the_whole_and_each_is_as_long_as_asked() {
        let paths = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (came_in, now): (Vec<_>, Vec<_>) = (paths(&["a", "b", "e"]), paths(&["a", "c", "d"]));
        let whole = whole(&came_in, &now);
        assert_eq!(whole.changes.len(), 5);
        for (limit, count) in [(1, 5), (2, 3), (4, 2), (5, 1), (100, 1)] {
            let pages = pages(&whole, limit);
            assert_eq!(pages.len(), count, "{limit}");
            assert!(pages.iter().all(|page| page.sizes().len() <= limit));
            assert_eq!(joined(pages), whole);
        }
        assert_eq!(whole.clone().page(Some("e"), 5).sizes().len(), 0);
    }

    #[test]
    fn a_page_of_the_longest_paths_fits_a_message() {
        let paths: Vec<_> = (0..2000).map(|n| format!("{n:04}{}", "\"\\é".repeat(62))).collect();
        let whole = whole(&paths, &paths);
        assert!(serde_json::to_vec(&whole).unwrap().len() > 2 * FILES_PAGE_BYTES_MAX);
        let pages = pages(&whole, usize::MAX);
        for page in &pages {
            assert!(serde_json::to_vec(page).unwrap().len() < 1000 * 1024);
        }
        assert!(serde_json::to_vec(&pages[0]).unwrap().len() > FILES_PAGE_BYTES_MAX / 2);
        assert_eq!(joined(pages), whole);
    }
}
