//! A rotating log file.
//!
//! *Promises.* Writing never fails and never panics: a line that cannot be written is dropped, and
//! the file is reopened for the next one. A line is never split between two files.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use ai_factory_ports::metrics::Counter;

/// A file that is rotated at its maximum size: `app.log` becomes `app.log.1`, which becomes
/// `app.log.2`.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    bytes_max: u64,
    files_max: usize,
    /// With its length; `None` while it cannot be opened.
    open: Option<(File, u64)>,
    /// Whether it was opened before: then its parent directory existed.
    was_open: bool,
    /// Lines that could not be written.
    lost: Counter,
}

impl RotatingFile {
    /// A file at `path` of at most `bytes_max` bytes (except for one longer line), with at most
    /// `files_max` older ones. Nothing is created before the first line.
    pub fn new(path: &Path, bytes_max: u64, files_max: usize) -> Self {
        Self {
            path: path.to_owned(),
            bytes_max,
            files_max,
            open: None,
            was_open: false,
            lost: Counter::default(),
        }
    }

    /// The same file, with a counter of the lines that cannot be written.
    #[must_use]
    pub fn counting(self, lost: Counter) -> Self {
        Self { lost, ..self }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        if open.1 > 0 && open.1 + length > self.bytes_max {
            self.put_aside()?;
            open = self.reopen()?;
        }
        let (mut file, written) = open;
        file.write_all(line)?;
        self.open = Some((file, written + length));
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<(File, u64)> {
        if let Some(directory) = self.path.parent() {
            if !self.was_open {
                fs::create_dir_all(directory)?;
            } else if !directory.is_dir() {
                // A data directory that was removed as a whole is not recreated for a log.
                fs::create_dir(directory)?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let written = file.metadata()?.len();
        self.was_open = true;
        Ok((file, written))
    }

    fn put_aside(&self) -> io::Result<()> {
        if self.files_max == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.files_max).rev() {
            // A gap in the numbers is harmless.
            let _ = fs::rename(self.aside(number), self.aside(number + 1));
        }
        fs::rename(&self.path, self.aside(1))
    }

    fn aside(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Telemetry must not disturb the work: a line that cannot be written is lost.
        if self.append(line).is_err() {
            self.lost.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_only_so_many_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/app.log");
        let mut file = RotatingFile::new(&path, 10, 2);
        for line in ["first 1\n", "second\n", "third\n", "fourth\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join("logs").join(name)).ok();
        assert_eq!(read("app.log").as_deref(), Some("fourth\n"));
        assert_eq!(read("app.log.1").as_deref(), Some("third\n"));
        assert_eq!(read("app.log.2").as_deref(), Some("second\n"));
        assert_eq!(read("app.log.3"), None);
    }

    #[test]
    fn an_existing_file_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.log");
        fs::write(&path, "before\n").unwrap();
        RotatingFile::new(&path, 100, 1).write_all(b"after\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn a_place_that_cannot_be_written_to_loses_lines_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("logs"), "not a directory").unwrap();
        let lost = Counter::default();
        let file = RotatingFile::new(&directory.path().join("logs/app.log"), 10, 2);
        let mut file = file.counting(lost.clone());
        assert!(file.write_all(b"lost\n").is_ok());
        assert_eq!(lost.get(), 1);
    }

    #[test]
    fn a_file_taken_away_while_open_is_no_fault() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.log");
        let mut file = RotatingFile::new(&path, 10, 2);
        file.write_all(b"line one\n").unwrap();
        fs::remove_file(&path).unwrap();
        file.write_all(b"lost\n").unwrap();
        file.write_all(b"kept\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept\n");
    }
}
