//! Telemetry: what the program reports of its own work, on the console for people, in
//! `logs/app.log`, and as traces for a collector named in the environment.
//!
//! *Promises.* A log that cannot be written (full disk, read-only directory) never disturbs the
//! work: lines are lost, nothing else. A panic becomes a log line.
//!
//! *Limits.* The log file grows to `log_file_bytes_max` and is then renamed to `app.log.1`; at most
//! `log_files_max` such files are kept.
//!
//! *Not here.* The content: spans and events are emitted where the work is done.

mod collector;
mod fields;
mod metrics;
mod otlp;
mod rotating;

use std::{
    ffi::OsString,
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use ai_factory_ports::trace::{NoTraces, Traces};
use fields::PlainFields;
use otlp::Otlp;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterFn, LevelFilter},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    config::{LogLevel, Settings},
    journal::is_panic_guarded,
};

pub use metrics::TelemetryMetrics;
pub use otlp::{FLUSH_MS_MAX, OtlpError};
pub use rotating::RotatingFile;

/// The log file, below the data directory.
pub const LOG_FILE: &str = "logs/app.log";
/// The spans that log lines name. The others exist for traces only and are not created without an
/// exporter.
const SHOWN_SPANS: [&str; 2] = ["request", "session"];

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

/// Whether a command writes the log file and takes part in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFile {
    /// The command writes to the journal, so it logs.
    Written,
    /// The command only reads, so it leaves no trace on disk.
    None,
}

/// The running telemetry of a process.
pub struct Telemetry {
    /// Connects spans to traces.
    pub traces: Arc<dyn Traces>,
    /// What it loses.
    pub metrics: TelemetryMetrics,
    otlp: Option<Otlp>,
}

impl Telemetry {
    /// Exports the remaining spans; waits at most [`FLUSH_MS_MAX`].
    pub fn shutdown(self) {
        if let Some(otlp) = self.otlp {
            otlp.shutdown();
        }
    }
}

/// Starts telemetry: on standard error from level `console` upwards, in the log file from the
/// setting `log_level` upwards, and to a collector named by the `OTEL_*` variables of the
/// environment. Only the first call in a process has an effect.
pub fn start(
    settings: &Settings,
    console: LogLevel,
    file: LogFile,
    colour: bool,
    environment: &[(OsString, OsString)],
) -> Result<Telemetry, OtlpError> {
    let metrics = TelemetryMetrics::default();
    let otlp = match file {
        LogFile::Written => Otlp::start(environment, metrics.lost_spans.clone())?,
        LogFile::None => None,
    };
    // Spans of a goal's path are always exported, the others only at the log's level.
    let for_collectors = otlp
        .as_ref()
        .map(|otlp| otlp.layer(LevelFilter::from(settings.log_level).max(LevelFilter::INFO)));
    let for_people = fmt::layer()
        .compact()
        .without_time()
        .with_target(false)
        .with_ansi(colour)
        .log_internal_errors(false)
        .fmt_fields(PlainFields)
        .with_writer(io::stderr)
        .with_filter(lines(console.into()));
    let for_the_record = (file == LogFile::Written).then(|| {
        let path = settings.data_dir.join(LOG_FILE);
        fmt::layer()
            .with_ansi(false)
            .log_internal_errors(false)
            .fmt_fields(PlainFields)
            .with_writer(rotating_writer(&path, settings, &metrics))
            .with_filter(lines(settings.log_level.into()))
    });
    let started = tracing_subscriber::registry()
        .with(flatten_layers([
            for_collectors.map(Layer::boxed),
            Some(for_people.boxed()),
            for_the_record.map(Layer::boxed),
        ]))
        .try_init()
        .is_ok();
    if started {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let said = panic.payload_as_str().unwrap_or("(no message)");
            if is_panic_guarded() {
                tracing::debug!(place, "a damaged page was read: {said}");
                return;
            }
            tracing::error!(place, "a part of the program panicked: {said}");
        }));
    }
    let otlp = otlp.filter(|_| started);
    let traces: Arc<dyn Traces> = match otlp {
        Some(_) => Arc::new(Otlp::traces()),
        None => Arc::new(NoTraces),
    };
    Ok(Telemetry { traces, metrics, otlp })
}

/// Filters out absent layers: a `None` in a stack of layers would enable every span.
fn flatten_layers<const N: usize>(
    layers: [Option<Box<dyn Layer<Registry> + Send + Sync>>; N],
) -> Vec<Box<dyn Layer<Registry> + Send + Sync>> {
    layers.into_iter().flatten().collect()
}

/// The filter of log lines: events from `level` upwards, and the spans they name.
fn lines(level: LevelFilter) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    FilterFn::new(move |metadata: &Metadata<'_>| {
        // ractor reports the start and end of every child of a supervisor, and each session is one.
        let is_chatter = metadata.target().starts_with("ractor") && *metadata.level() > Level::WARN;
        *metadata.level() <= level
            && (!is_chatter || level >= LevelFilter::DEBUG)
            && (metadata.is_event() || SHOWN_SPANS.contains(&metadata.name()))
    })
    .with_max_level_hint(level)
}

fn rotating_writer(
    path: &Path,
    settings: &Settings,
    metrics: &TelemetryMetrics,
) -> Mutex<RotatingFile> {
    let bytes_max = settings.log_file_bytes_max as u64;
    let file = RotatingFile::new(path, bytes_max, settings.log_files_max);
    Mutex::new(file.counting(metrics.lost_lines.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_collector_nobody_makes_spans_that_lines_do_not_name() {
        let console = fmt::layer().with_writer(io::sink).with_filter(lines(LevelFilter::WARN));
        let record = fmt::layer().with_writer(io::sink).with_filter(lines(LevelFilter::INFO));
        let layers = flatten_layers([None, Some(console.boxed()), Some(record.boxed())]);
        let telling = tracing_subscriber::registry().with(layers);
        tracing::subscriber::with_default(telling, || {
            assert!(!tracing::info_span!("request").is_disabled());
            assert!(tracing::info_span!("append").is_disabled());
            assert!(tracing::debug_span!("request").is_disabled());
        });
    }

    #[test]
    fn lines_have_nobody_make_spans_that_they_do_not_name() {
        let layer = fmt::layer().with_writer(io::sink).with_filter(lines(LevelFilter::INFO));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            assert!(!tracing::info_span!("request").is_disabled());
            assert!(!tracing::info_span!("session").is_disabled());
            assert!(tracing::info_span!("append").is_disabled());
            assert!(tracing::debug_span!("request").is_disabled());
            assert!(tracing::event_enabled!(tracing::Level::INFO));
            assert!(!tracing::event_enabled!(tracing::Level::DEBUG));
        });
    }
}
