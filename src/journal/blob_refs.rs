//! The blobs that a record refers to, and those that such a blob refers to itself.

use ai_factory_schemas::{
    text::BlobHash,
    workspace::{FileChange, WorkspaceFile, WorkspaceManifest},
};
use serde_json::Value;

/// The form of a blob's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum BlobContent {
    /// A text of a record.
    Text,
    /// A file of a workspace.
    File,
    /// A [`WorkspaceManifest`].
    Manifest,
    /// A list of [`FileChange`]s.
    Changes,
}

/// A reference to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlobRef {
    pub(super) hash: BlobHash,
    pub(super) content: BlobContent,
    /// The path of a file.
    pub(super) path: Option<String>,
}

impl BlobRef {
    /// The blob in words: `the file "a.py" (its hash)`, or the hash alone.
    pub(super) fn name(&self) -> String {
        match (&self.path, self.content) {
            (Some(path), _) => format!("the file {path:?} ({})", self.hash),
            (None, BlobContent::Text | BlobContent::File) => self.hash.to_string(),
            (None, BlobContent::Manifest) => format!("the list of files {}", self.hash),
            (None, BlobContent::Changes) => format!("the list of changed files {}", self.hash),
        }
    }

    fn file(path: String, file: &WorkspaceFile) -> Self {
        Self { hash: file.blob, content: BlobContent::File, path: Some(path) }
    }

    /// The blobs that this one refers to.
    ///
    /// # Errors
    /// If `bytes`, its content, has another form.
    pub(super) fn within(&self, bytes: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        Ok(match self.content {
            BlobContent::Text | BlobContent::File => Vec::new(),
            BlobContent::Manifest => {
                let files = WorkspaceManifest::from_bytes(bytes)?.files;
                files.into_iter().map(|(path, file)| Self::file(path, &file)).collect()
            }
            BlobContent::Changes => {
                let changes: Vec<FileChange> = serde_json::from_slice(bytes)?;
                let set = changes.into_iter();
                set.filter_map(|change| Some(Self::file(change.path, &change.file?))).collect()
            }
        })
    }
}

/// The blobs that a record refers to, anywhere in its data.
pub(super) fn blob_refs(record: &[u8]) -> Vec<BlobRef> {
    let mut found = Vec::new();
    // Most records refer to none, and searching for the words costs less than parsing JSON.
    let has_one = |text: &str| ["\"blob\":", "\"hash\":"].iter().any(|word| text.contains(word));
    if std::str::from_utf8(record).is_ok_and(has_one)
        && let Ok(record) = serde_json::from_slice::<Value>(record)
    {
        collect(&record["data"], None, &mut found);
    }
    found
}

/// Adds the references in `value`; `path` is that of the file that it describes.
fn collect(value: &Value, path: Option<&str>, found: &mut Vec<BlobRef>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, None, found)),
        Value::Object(members) => {
            let has = |name| members.contains_key(name);
            let content = match () {
                () if has("changed") => Some(BlobContent::Changes),
                () if !has("bytes") => None,
                () if has("head") => Some(BlobContent::Text),
                () if has("files") => Some(BlobContent::Manifest),
                () => Some(BlobContent::File),
            };
            let name = if content == Some(BlobContent::File) { "hash" } else { "blob" };
            let hash = members.get(name).and_then(Value::as_str);
            if let (Some(content), Some(Ok(hash))) = (content, hash.map(str::parse)) {
                found.push(BlobRef { hash, content, path: path.map(str::to_owned) });
            }
            let path = members.get("path").and_then(Value::as_str);
            members.values().for_each(|member| collect(member, path, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_a_reference_is_found_and_what_only_looks_like_one_is_not() {
        let hash = |n: u8| BlobHash::of(&[n]);
        let record = json!({ "data": {
            "stdout": { "head": "x", "blob": hash(1), "bytes": 9 },
            "workspace": { "blob": hash(2), "files": 1, "bytes": 7 },
            "restored": { "blob": hash(3), "changed": 400 },
            "changes": [
                { "path": "a/b", "file": { "hash": hash(4), "bytes": 2, "executable": true } },
                { "path": "gone" },
            ],
            "code": { "blob": hash(5) },
            "tree": { "manifest": hash(6), "files": 1, "bytes": 1 },
        }});
        let mut found = blob_refs(&serde_json::to_vec(&record).unwrap());
        found.sort_by_key(|found| (1..7).position(|n| found.hash == hash(n)));
        let file = Some("a/b".to_owned());
        let expected = [
            (hash(1), BlobContent::Text, None),
            (hash(2), BlobContent::Manifest, None),
            (hash(3), BlobContent::Changes, None),
            (hash(4), BlobContent::File, file),
        ];
        assert_eq!(found, expected.map(|(hash, content, path)| BlobRef { hash, content, path }));
        assert!(found[3].name().contains("\"a/b\""), "{}", found[3].name());
    }

    #[test]
    fn the_files_of_a_manifest_and_of_a_list_are_references_of_their_blobs() {
        let file = WorkspaceFile { blob: BlobHash::of(b"x"), bytes: 1, executable: false };
        let manifest = WorkspaceManifest { files: [("x".to_owned(), file)].into() };
        let list = WorkspaceManifest::default().changes_to(&manifest);
        let list = serde_json::to_vec(&list).unwrap();
        let holder = |content| BlobRef { hash: BlobHash::of(b""), content, path: None };
        let expected = vec![BlobRef::file("x".to_owned(), &file)];
        let blob = manifest.to_blob().unwrap();
        assert_eq!(holder(BlobContent::Manifest).within(blob.bytes()).unwrap(), expected);
        assert_eq!(holder(BlobContent::Changes).within(&list).unwrap(), expected);
        assert!(holder(BlobContent::Changes).within(b"{}").is_err());
        assert_eq!(holder(BlobContent::Text).within(b"{").unwrap(), []);
    }
}
