//! Telemetry: what the program tells about its work, on the console for people and in `logs/app.log`.
//!
//! *Promises.* A log that cannot be written (full disk, directory that is read-only) never disturbs the
//! work: lines are lost, nothing else. A panic becomes a line of telemetry.
//!
//! *Limits.* The log file grows to `log_file_bytes_max` and is then put aside as `app.log.1`; at most
//! `log_files_max` of those are kept.
//!
//! *Not here.* What is told: spans and events are put where the work is.

mod rotating;

use std::{io, path::Path, sync::Mutex};

use tracing_subscriber::{
    Layer as _, filter::LevelFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::config::{LogLevel, Settings};

pub use rotating::RotatingFile;

/// The log file, below the data directory.
pub const LOG_FILE: &str = "logs/app.log";

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warning => Self::WARN,
            LogLevel::Error => Self::ERROR,
        }
    }
}

/// Whether a command leaves a log file behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// It writes, so it logs.
    Written,
    /// It only reads, so it leaves no trace on disk.
    None,
}

/// Starts telling: on standard error from level `console` upwards, and in the log file from the
/// `log_level` of the settings upwards. Only the first call in a process has an effect.
pub fn start(settings: &Settings, console: LogLevel, file: LogFile, colour: bool) {
    let for_people = fmt::layer()
        .compact()
        .without_time()
        .with_target(false)
        .with_ansi(colour)
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .with_filter(LevelFilter::from(console));
    let for_the_record = (file == LogFile::Written).then(|| {
        let path = settings.data_dir.join(LOG_FILE);
        fmt::layer()
            .with_ansi(false)
            .log_internal_errors(false)
            .with_writer(rotating_writer(&path, settings))
            .with_filter(LevelFilter::from(settings.log_level))
    });
    let started =
        tracing_subscriber::registry().with(for_people).with(for_the_record).try_init().is_ok();
    if started {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let said = panic.payload_as_str().unwrap_or("(no message)");
            tracing::error!(place, "a part of the program panicked: {said}");
        }));
    }
}

fn rotating_writer(path: &Path, settings: &Settings) -> Mutex<RotatingFile> {
    Mutex::new(RotatingFile::new(path, settings.log_file_bytes_max as u64, settings.log_files_max))
}
