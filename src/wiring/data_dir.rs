//! The data directory: whether it has a journal, who writes it, and its permissions (modes of new
//! files, and of those created by an earlier program).
//!
//! *Promises.* A new file's mode is never wider than the setting `data_mode`, whatever the umask
//! was. Wider ones are tightened when the journal is opened for writing, if this user owns them;
//! with `data_mode = group` the group's read permission is added as well.
//!
//! *Limits.* A data directory that also holds other files may be used by others: only the files of
//! the journal and the lists and `segments/` are changed in it. Its own mode stays, and so do those
//! of its parent directories. Links are not followed.

use std::{
    fs::{self, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::{fs::Mode, process::umask};

use super::{error::OpenFactoryError, spool::SPOOL};
use crate::{
    config::{DataMode, Settings},
    journal,
};

/// Everything that the factory creates in a data directory.
const OWN: [&str; 12] = [
    "index",
    "journal.lock",
    "journal.redb",
    "journal.redb.new",
    "logs",
    "nats",
    "projections.next",
    "projections.redb",
    "segments",
    "snapshots",
    SPOOL,
    RUNS,
];
/// The directory of runs; each run restricts its own directory.
const RUNS: &str = "tmp";
/// Names that no other program uses.
const UNMISTAKABLE: [&str; 6] = [
    "journal.lock",
    "journal.redb",
    "journal.redb.new",
    "projections.next",
    "projections.redb",
    "segments",
];

/// Mode bits other than read, write and execute, for example an inherited group.
const SPECIAL_BITS: u32 = 0o7000;
/// All permissions of owner, group and others.
const RIGHTS: u32 = 0o777;

/// Sets the umask so that every file created from here on, also by libraries and children, is
/// confined to the setting. Answers the umask before.
pub fn confine_new_files(mode: DataMode) -> u32 {
    umask(Mode::from_raw_mode(RIGHTS & !mode.directory())).as_raw_mode()
}

/// The result of tightening modes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    changed: usize,
    /// Why a file of the factory was not changed: the first such case.
    failure: Option<String>,
    /// An entry that is not the factory's.
    stranger: Option<String>,
}

/// Applies the setting's modes to the data directory's content and logs the result.
pub(super) fn tighten(settings: &Settings) {
    let (dir, mode) = (&settings.data_dir, settings.data_mode);
    let shown = dir.display();
    match tighten_all(dir, mode) {
        Ok(Report { changed, failure, stranger }) => {
            if let Some(name) = stranger {
                tracing::info!(
                    "{shown} also holds `{name}`, so its own mode was not changed: give the factory a directory of its own"
                );
            }
            if changed > 0 {
                tracing::warn!(changed, "modes in {shown} were changed to the setting `data_mode`");
            }
            if let Some(failure) = failure {
                tracing::warn!("other users may be able to read {shown}: {failure}");
            }
        }
        Err(error) => tracing::warn!(%error, "the modes in {shown} cannot be checked"),
    }
}

fn tighten_all(dir: &Path, mode: DataMode) -> io::Result<Report> {
    let names: Vec<_> = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    let stranger = names.iter().find(|name| !OWN.contains(&name.as_str())).cloned();
    let mut report = Report { stranger, ..Report::default() };
    if report.stranger.is_none() {
        report.fit(dir, &fs::metadata(dir)?, mode);
    }
    // The spool closes its own directory to everybody else, whatever the setting.
    let is_ours = |name: &&str| OWN.contains(name) && *name != SPOOL;
    for name in names.iter().map(String::as_str).filter(is_ours) {
        let path = dir.join(name);
        if report.stranger.is_none() || UNMISTAKABLE.contains(&name) {
            report.walk(&path, mode, name != RUNS);
        } else if fs::metadata(&path)?.mode() & RIGHTS & !mode.directory() != 0 {
            let failure = format!(
                "{} may belong to another program, so its mode was not changed",
                path.display()
            );
            report.failure.get_or_insert(failure);
        }
    }
    Ok(report)
}

impl Report {
    /// Applies the mode to a file, or to a directory with its content.
    fn walk(&mut self, path: &Path, mode: DataMode, is_deep: bool) {
        // A file removed meanwhile needs nothing.
        let Ok(found) = fs::symlink_metadata(path) else { return };
        if found.is_symlink() {
            return;
        }
        self.fit(path, &found, mode);
        if found.is_dir() && is_deep {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.walk(&entry.path(), mode, true);
            }
        }
    }

    fn fit(&mut self, path: &Path, found: &Metadata, mode: DataMode) {
        let Some(fitting) = fitting(found.mode(), found.is_dir(), mode) else { return };
        let changed = if found.uid() == rustix::process::geteuid().as_raw() {
            fs::set_permissions(path, Permissions::from_mode(fitting))
        } else {
            Err(io::Error::other("it belongs to another user"))
        };
        match changed {
            Ok(()) => self.changed += 1,
            Err(error) => {
                let failure = || {
                    let rights = found.mode() & RIGHTS;
                    format!("{} stays at mode {rights:04o}: {error}", path.display())
                };
                self.failure.get_or_insert_with(failure);
            }
        }
    }
}

/// The mode that a file should have, if it differs. The owner's permissions stay.
fn fitting(found: u32, is_dir: bool, mode: DataMode) -> Option<u32> {
    const OWNER: u32 = 0o700;
    let most = if is_dir { mode.directory() } else { mode.file() };
    let found = found & (SPECIAL_BITS | RIGHTS);
    let fitting = (found & (SPECIAL_BITS | OWNER)) | (most & !OWNER);
    (fitting != found).then_some(fitting)
}

/// Refuses a data directory without a journal; creates nothing. For commands about recorded data.
pub fn require_journal(settings: &Settings) -> Result<(), OpenFactoryError> {
    Ok(journal::require(&settings.data_dir)?)
}

/// The process that has the journal open for writing, if there is one, as text.
pub fn holder(settings: &Settings) -> Option<String> {
    journal::holder(&settings.data_dir).map(|pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & (SPECIAL_BITS | RIGHTS)
    }

    fn make(dir: &Path, name: &str, mode: u32) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_wider_than_it_should_be_is_tightened_and_what_is_narrower_stays() {
        for (found, is_dir, data_mode, expected) in [
            (0o644, false, DataMode::Private, Some(0o600)),
            (0o666, false, DataMode::Group, Some(0o640)),
            (0o600, false, DataMode::Private, None),
            (0o600, false, DataMode::Group, Some(0o640)),
            (0o400, false, DataMode::Private, None),
            (0o755, true, DataMode::Private, Some(0o700)),
            (0o2775, true, DataMode::Group, Some(0o2750)),
            (0o750, true, DataMode::Group, None),
            (0o1777, true, DataMode::Private, Some(0o1700)),
        ] {
            let answer = fitting(found | 0o100_000, is_dir, data_mode);
            assert_eq!(answer, expected, "{found:o} {is_dir} {data_mode:?}");
        }
    }

    #[test]
    fn a_data_directory_is_tightened_with_everything_in_it_but_links() {
        let dir = tempfile::tempdir().unwrap();
        let (data, elsewhere) = (dir.path().join("data"), dir.path().join("elsewhere"));
        for name in ["journal.redb", "segments/journal-1.redb", "logs/app.log", "index/words/a.idx"]
        {
            make(&data, name, 0o644);
        }
        make(&data, "spool/part", 0o600);
        make(dir.path(), "elsewhere", 0o644);
        std::os::unix::fs::symlink(&elsewhere, data.join("logs/link")).unwrap();
        fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let report = tighten_all(&data, DataMode::Private).unwrap();
        assert_eq!(report.failure, None);
        for name in ["", "segments", "logs", "index", "index/words"] {
            assert_eq!(mode(&data.join(name)), 0o700, "{name}");
        }
        assert_eq!(mode(&data.join("index/words/a.idx")), 0o600);
        tighten_all(&data, DataMode::Group).unwrap();
        let modes = ["index/words/a.idx", "spool/part"].map(|name| mode(&data.join(name)));
        assert_eq!(modes, [0o640, 0o600], "the group reads no uploads");
        tighten_all(&data, DataMode::Private).unwrap();
        assert_eq!((mode(&elsewhere), mode(dir.path())), (0o644, 0o755));
        assert_eq!(tighten_all(&data, DataMode::Private).unwrap(), Report::default());
    }

    #[test]
    fn of_a_directory_that_holds_other_things_only_what_is_surely_ours_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["journal.redb", "segments/catalog.redb", "logs/httpd.log", "diary"] {
            make(dir.path(), name, 0o644);
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let report = tighten_all(dir.path(), DataMode::Private).unwrap();
        assert_eq!(report.stranger.as_deref(), Some("diary"));
        assert!(report.failure.unwrap().contains("logs may belong to another program"));
        for (name, expected) in [
            ("", 0o755),
            ("journal.redb", 0o600),
            ("segments/catalog.redb", 0o600),
            ("logs/httpd.log", 0o644),
            ("diary", 0o644),
        ] {
            assert_eq!(mode(&dir.path().join(name)), expected, "{name}");
        }
    }
}
